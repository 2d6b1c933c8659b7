-- One row per value of a counter event of the piece.
-- Grain: (event_index, key of args). Reads: trace_rows. Params: none.
-- The published profiler writes the device into tid (CAT_XPU_3), and a process into the end of
-- the name, as a number or as floats are printed.
INSERT INTO counters BY NAME
WITH
series AS (
    SELECT *, UNNEST(JSON_KEYS(args)) AS key
    FROM trace_rows
    WHERE reason IS NULL AND phase = 'C'
),

named AS (
    SELECT
        *,
        REGEXP_EXTRACT(name, '^(process_.*)_(\d+|\d\.\d+e\+\d+)$', ['name', 'pid']) AS of_process
    FROM series
)

SELECT
    run_id,
    start_ns,
    COALESCE(NULLIF(of_process.name, ''), name) || CASE WHEN key = 'value' THEN '' ELSE '.' || key END AS counter_name,
    CASE
        WHEN thread LIKE 'CAT\_XPU\_%' ESCAPE '\' THEN 'GPU ' || thread[9:]
        WHEN category IN ('CAT_CPU', 'CAT_MEMORY', 'CAT_NET', 'CAT_DISK') THEN 'Host'
    END AS device,
    COALESCE(TRY_CAST(TRY_CAST(NULLIF(of_process.pid, '') AS DOUBLE) AS BIGINT), pid) AS pid,
    COALESCE(
        TRY_CAST(JSON_EXTRACT_STRING(args, '$."' || REPLACE(key, '"', '\"') || '"') AS DOUBLE), 'NaN'
    ) AS value,
    event_index AS sample_index
FROM named;
