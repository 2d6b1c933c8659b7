-- One row per event of one cycle's stacks: Python functions, operators, calls of the GPU's library, GPU work.
-- Grain: (event_index). Reads: the trace's events, functions. Params: $paths, $process, $from_ns, $until_ns.
-- CPU events that begin in the cycle, and the GPU work that they launched. Labels stay out: by microseconds they
-- overlap what they are about.
WITH
begun AS (
    SELECT
        e.event_index, f.kind, f.simple_name, COALESCE(e.thread, '') AS thread, e.start_ns,
        e.start_ns + e.duration_ns AS end_ns, CAST(NULL AS BIGINT) AS launch_index
    FROM READ_PARQUET($paths) AS e
    INNER JOIN functions AS f ON f.category IS NOT DISTINCT FROM e.category AND f.name = e.name
    WHERE e.phase = 'X'
      AND e.start_ns >= $from_ns
      AND e.start_ns < $until_ns
      AND COALESCE(e.process, '') = $process
      AND f.kind IN ('python', 'operator', 'runtime', 'syscall')
),

launched AS (
    SELECT
        e.event_index, f.kind, f.simple_name, COALESCE(e.thread, '') AS thread, e.start_ns,
        e.start_ns + e.duration_ns AS end_ns, e.launch_index
    FROM READ_PARQUET($paths) AS e
    INNER JOIN functions AS f ON f.category IS NOT DISTINCT FROM e.category AND f.name = e.name
    WHERE e.phase = 'X'
      AND f.kind = 'gpu'
      AND e.launch_index IN (SELECT b.event_index FROM begun AS b WHERE b.kind = 'runtime')
)

FROM begun
UNION ALL
FROM launched
ORDER BY thread, start_ns, end_ns DESC, event_index;
