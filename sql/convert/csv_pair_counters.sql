-- One row per sample of a CSV pair: of macro_counter.csv, and per value of a counter event of micro_event.csv.
-- Grain: (run_id, counter_name, start_ns, sample_index).
-- Reads: foreign_lines, runs (the one that is being loaded). Params: none.
-- A process stands in the end of the name (process_cpu_usage_923229), in a location or in pid; a GPU in a location or,
-- of a counter event, in tid (CAT_XPU_3).
INSERT INTO counters BY NAME
WITH
series AS (
    SELECT
        * EXCLUDE (value),
        UNNEST(CASE WHEN args IS NULL THEN ['value'] ELSE JSON_KEYS(args) END) AS key,
        UNNEST(CASE WHEN args IS NULL THEN [value] ELSE CAST(args ->> '$.*' AS DOUBLE[]) END) AS value
    FROM foreign_lines
    WHERE table_name = 'counters' AND reason IS NULL
),

located AS (
    SELECT
        *,
        REGEXP_EXTRACT(name, '^(process_.+)_([0-9]{1,18})$', ['name', 'pid']) AS of_process,
        COALESCE(thread, places[2 * LIST_POSITION(places[1:5:2], 'CAT_XPU')]) AS gpu,
        places[2 * LIST_POSITION(places[1:5:2], 'CAT_CPU')] AS cpu,
        COALESCE(
            places[2 * LIST_POSITION(places[1:5:2], 'CAT_NET')], places[2 * LIST_POSITION(places[1:5:2], 'CAT_DISK')]
        ) AS interface_or_disk,
        COALESCE(process, places[2 * LIST_POSITION(places[1:5:2], 'CAT_PROCESS')]) AS process_text,
        COALESCE(
            hostname,
            places[2 * LIST_POSITION(places[1:5:2], 'CAT_HOST')],
            NULLIF(REGEXP_EXTRACT(process, '^(.+)\([0-9]+\)$', 1), '')
        ) AS host
    FROM series
)

SELECT
    r.run_id,
    l.start_ns,
    COALESCE(NULLIF(l.of_process.name, ''), l.name)
        || CASE WHEN l.key = 'value' THEN '' ELSE '.' || l.key END AS counter_name,
    CASE
        WHEN l.category = 'CAT_XPU' OR l.places IS NOT NULL
            THEN COALESCE(
                'GPU ' || NULLIF(REGEXP_EXTRACT(l.gpu, '^(?:CAT_XPU_)?([0-9]+)$', 1), ''),
                'CPU ' || NULLIF(REGEXP_EXTRACT(l.cpu, '^(?:CAT_CPU_)?([0-9]+)$', 1), ''),
                l.gpu,
                l.cpu,
                l.interface_or_disk,
                CASE WHEN l.category IN ('CAT_CPU', 'CAT_MEMORY', 'CAT_NET', 'CAT_DISK') THEN 'Host' END
            )
        WHEN l.category IN ('CAT_CPU', 'CAT_MEMORY', 'CAT_NET', 'CAT_DISK') THEN 'Host'
    END AS device,
    COALESCE(
        TRY_CAST(NULLIF(l.of_process.pid, '') AS BIGINT),
        TRY_CAST(NULLIF(REGEXP_EXTRACT(l.process_text, '([0-9]{1,18})\)?$', 1), '') AS BIGINT)
    ) AS pid,
    l.value,
    l.host AS hostname,
    l.place AS sample_index
FROM located AS l
CROSS JOIN runs AS r
ORDER BY l.file_name, l.place;
