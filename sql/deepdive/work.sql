-- One row per launch of GPU work in one trace; where it has none, per operator: what a step is there for.
-- Grain: (process, thread, number). Reads: the trace's events. Params: $paths.
CREATE OR REPLACE TEMP TABLE work AS
WITH
launches AS (
    SELECT DISTINCT launch_index AS event_index
    FROM READ_PARQUET($paths)
    WHERE launch_index IS NOT NULL
),

found AS (
    SELECT e.process, e.thread, e.start_ns, e.name ILIKE '%GraphLaunch%' AS is_graph, TRUE AS is_launch
    FROM READ_PARQUET($paths) AS e
    INNER JOIN launches AS l ON l.event_index = e.event_index
    WHERE e.phase = 'X'
    UNION ALL
    SELECT process, thread, start_ns, FALSE, FALSE
    FROM READ_PARQUET($paths)
    WHERE phase = 'X' AND category IN ('cpu_op', 'Operator')
)

SELECT
    COALESCE(process, '') AS process,
    COALESCE(thread, '') AS thread,
    start_ns,
    is_graph,
    is_launch,
    ROW_NUMBER() OVER (PARTITION BY process, thread ORDER BY start_ns) AS number
FROM found
WHERE is_launch = (SELECT MAX(is_launch) FROM found);
