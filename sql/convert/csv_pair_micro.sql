-- One row per row of a micro_event.csv.
-- Grain: (file_name, line_number). Reads: lines. Params: none.
-- Times are whole ns as a rule, and added up from their two parts then: DECIMAL from text takes 20 times as long.
-- args may hold JSON text under another args key: its keys are taken up among the others.
INSERT INTO foreign_lines BY NAME
WITH
fields AS (
    SELECT
        file_name,
        line_number,
        problem,
        CAST(CAST(raw_text AS JSON) ->> '$[*]' AS VARCHAR[]) AS f
    FROM lines
),

named AS (
    SELECT
        file_name,
        line_number,
        problem,
        CAST(f[1] AS BIGINT) AS place,
        f[2] AS raw_text,
        f[3] AS extra,
        f[4] AS name,
        NULLIF(f[5], '') AS category,
        f[6] AS phase,
        NULLIF(f[7], '') AS process,
        NULLIF(f[8], '') AS thread,
        f[9] AS ts,
        f[10] AS dur,
        f[11] AS args_text,
        NULLIF(f[12], '') AS flow_id
    FROM fields
),

typed AS (
    SELECT
        *,
        CASE
            WHEN REGEXP_FULL_MATCH(ts, '[0-8]?[0-9]{1,15}([.][0-9]{1,3})?')
                THEN CAST(SPLIT_PART(ts, '.', 1) AS BIGINT) * 1000
                + CAST(RPAD(SPLIT_PART(ts, '.', 2), 3, '0') AS BIGINT)
            WHEN REGEXP_FULL_MATCH(ts, '-?[0-9]{1,19}([.][0-9]+)?([eE][+-]?[0-9]{1,2})?')
                THEN TRY_CAST(TRY_CAST(ts AS DECIMAL(38, 9)) * 1000 AS BIGINT)
        END AS start_ns,
        CASE
            WHEN REGEXP_FULL_MATCH(dur, '[0-8]?[0-9]{1,15}([.][0-9]{1,3})?')
                THEN CAST(SPLIT_PART(dur, '.', 1) AS BIGINT) * 1000
                + CAST(RPAD(SPLIT_PART(dur, '.', 2), 3, '0') AS BIGINT)
            WHEN REGEXP_FULL_MATCH(dur, '-?[0-9]{1,19}([.][0-9]+)?([eE][+-]?[0-9]{1,2})?')
                THEN TRY_CAST(TRY_CAST(dur AS DECIMAL(38, 9)) * 1000 AS BIGINT)
        END AS duration_ns,
        TRY_CAST(NULLIF(args_text, '') AS JSON) AS args
    FROM named
),

promoted AS (
    SELECT
        * EXCLUDE (args),
        CASE
            WHEN JSON_TYPE(args, '$.args') = 'VARCHAR' AND JSON_TYPE(TRY_CAST(args ->> '$.args' AS JSON)) = 'OBJECT'
                THEN JSON_MERGE_PATCH(args, '{"args":null}', CAST(args ->> '$.args' AS JSON))
            ELSE args
        END AS args
    FROM typed
)

SELECT
    file_name,
    line_number,
    CASE WHEN phase = 'C' THEN 'counters' ELSE 'events' END AS table_name,
    CASE WHEN phase = 'C' THEN LEN(JSON_KEYS(args)) ELSE 1 END AS table_rows,
    CASE
        WHEN problem IS NOT NULL THEN problem
        WHEN phase = '' THEN 'no phase'
        WHEN phase NOT IN (
            'X', 'B', 'E', 'C', 'M', 's', 't', 'f', 'i', 'I', 'R', 'b', 'n', 'e', 'S', 'T', 'p', 'F', 'N', 'O', 'D', 'P'
        ) THEN 'unknown phase'
        WHEN ts = '' AND phase <> 'M' THEN 'no ts'
        WHEN start_ns IS NULL AND ts <> '' THEN 'ts is no time in us'
        WHEN phase = 'X' AND dur = '' THEN 'no dur'
        WHEN duration_ns IS NULL AND dur <> '' THEN 'dur is no time in us'
        WHEN duration_ns < 0 THEN 'negative duration'
        WHEN args IS NULL AND args_text <> '' THEN 'args is not JSON'
        WHEN JSON_TYPE(args) NOT IN ('OBJECT', 'NULL') THEN 'args is no JSON object'
        WHEN phase = 'C' AND (
            JSON_TYPE(args) IS DISTINCT FROM 'OBJECT' OR LEN(JSON_KEYS(args)) = 0
            OR LEN(LIST_FILTER(args ->> '$.*', LAMBDA v: ISFINITE(TRY_CAST(v AS DOUBLE)))) <> LEN(JSON_KEYS(args))
        ) THEN 'a counter without a value'
    END AS reason,
    CASE WHEN reason IS NOT NULL THEN raw_text END AS raw_text,
    place,
    extra,
    phase,
    category,
    name,
    process,
    thread,
    start_ns,
    CASE WHEN phase = 'X' THEN duration_ns END AS duration_ns,
    flow_id,
    CASE WHEN JSON_TYPE(args) = 'OBJECT' THEN args END AS args
FROM promoted;
