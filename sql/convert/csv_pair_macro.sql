-- One row per row of a macro_counter.csv.
-- Grain: (file_name, line_number). Reads: lines. Params: none.
-- places are the three locations, each its type and where: ['CAT_HOST', 'gpu-7', 'CAT_PROCESS', '1234', NULL, NULL].
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

typed AS (
    SELECT
        *,
        CASE
            WHEN REGEXP_FULL_MATCH(f[6], '[0-8]?[0-9]{1,15}([.][0-9]{1,3})?')
                THEN CAST(SPLIT_PART(f[6], '.', 1) AS BIGINT) * 1000
                + CAST(RPAD(SPLIT_PART(f[6], '.', 2), 3, '0') AS BIGINT)
            WHEN REGEXP_FULL_MATCH(f[6], '-?[0-9]{1,19}([.][0-9]+)?([eE][+-]?[0-9]{1,2})?')
                THEN TRY_CAST(TRY_CAST(f[6] AS DECIMAL(38, 9)) * 1000 AS BIGINT)
        END AS start_ns,
        CASE
            WHEN REGEXP_FULL_MATCH(f[7], '-?[0-9]+([.][0-9]*)?([eE][+-]?[0-9]{1,3})?|-?[.][0-9]+')
                THEN TRY_CAST(f[7] AS DOUBLE)
        END AS value
    FROM fields
)

SELECT
    file_name,
    line_number,
    'counters' AS table_name,
    1 AS table_rows,
    CASE
        WHEN problem IS NOT NULL THEN problem
        WHEN f[4] = '' THEN 'no name'
        WHEN start_ns IS NULL THEN 'timestamp is no time in us'
        WHEN value IS NULL OR NOT ISFINITE(value) THEN 'value is no number'
    END AS reason,
    CASE WHEN reason IS NOT NULL THEN f[2] END AS raw_text,
    CAST(f[1] AS BIGINT) AS place,
    f[3] AS extra,
    f[4] AS name,
    NULLIF(f[5], '') AS category,
    start_ns,
    value,
    NULLIF(f[8], '') AS hostname,
    [f[10], NULLIF(f[9], ''), f[12], NULLIF(f[11], ''), f[14], NULLIF(f[13], '')] AS places
FROM typed;
