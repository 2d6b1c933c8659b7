-- One row per event of a CSV pair, linked to the call that launched it on the GPU.
-- Grain: (run_id, file_name, event_index). Reads: foreign_lines, runs (the one that is being loaded). Params: none.
-- The published profiler names the device in tid (stream 7 device:3).
INSERT INTO events BY NAME
WITH
typed AS (
    SELECT
        *,
        TRY_CAST(args ->> '$.correlation' AS BIGINT) AS correlation,
        LOWER(category) IN ('cuda_runtime', 'cuda_driver') AS is_launch,
        LOWER(category) IN ('kernel', 'gpu_memcpy', 'gpu_memset', 'memcpy', 'memset') AS is_gpu_work
    FROM foreign_lines
    WHERE table_name = 'events' AND reason IS NULL
),

launches AS (
    SELECT file_name, correlation, MIN(place) AS launch_index
    FROM typed
    WHERE is_launch AND correlation IS NOT NULL
    GROUP BY file_name, correlation
)

SELECT
    r.run_id,
    t.file_name,
    t.place AS event_index,
    t.phase,
    t.category,
    t.name,
    t.process,
    COALESCE(
        TRY_CAST(NULLIF(REGEXP_EXTRACT(t.process, '^-?[0-9]+$'), '') AS BIGINT),
        TRY_CAST(NULLIF(REGEXP_EXTRACT(t.process, '\(([0-9]+)\)$', 1), '') AS BIGINT)
    ) AS pid,
    t.thread,
    TRY_CAST(NULLIF(REGEXP_EXTRACT(t.thread, '^-?[0-9]+$'), '') AS BIGINT) AS tid,
    t.start_ns,
    t.duration_ns,
    t.flow_id,
    t.args,
    CAST(t.extra AS JSON) AS extra,
    t.correlation,
    TRY_CAST(COALESCE(t.args ->> '$."External id"', t.args ->> '$."external id"') AS BIGINT) AS external_id,
    TRY_CAST(
        COALESCE(t.args ->> '$.device', NULLIF(REGEXP_EXTRACT(t.thread, 'device:([0-9]+)', 1), '')) AS BIGINT
    ) AS device,
    TRY_CAST(t.args ->> '$.stream' AS BIGINT) AS stream,
    CASE
        WHEN t.category = 'python' THEN t.args ->> '$.filePath'
        WHEN t.category = 'python_function' THEN NULLIF(REGEXP_EXTRACT(t.name, '^(.+)\([0-9]+\): ', 1), '')
    END AS source_file,
    TRY_CAST(
        CASE
            WHEN t.category = 'python' THEN t.args ->> '$.lineno'
            WHEN t.category = 'python_function' THEN NULLIF(REGEXP_EXTRACT(t.name, '^.+\(([0-9]+)\): ', 1), '')
        END AS BIGINT
    ) AS source_line,
    TRY_CAST(t.args ->> '$."Python id"' AS BIGINT) AS python_id,
    TRY_CAST(t.args ->> '$."Python parent id"' AS BIGINT) AS python_parent_id,
    CASE WHEN t.is_gpu_work THEN l.launch_index END AS launch_index
FROM typed AS t
LEFT JOIN launches AS l USING (file_name, correlation)
CROSS JOIN runs AS r
ORDER BY t.file_name, t.place;
