-- One row per cycle of the run, with the cycle of the first rank that ran at the same time.
-- Grain: (run_id, hostname, pid, cycle_index). Reads: cycles. Params: none.
-- The first rank is the process with the lowest rank; where ranks are not told, the one with most cycles.
UPDATE cycles SET aligned_index = found.aligned_index, skew_ns = found.skew_ns
FROM (
    WITH
    led AS (
        SELECT hostname, pid
        FROM cycles
        GROUP BY hostname, pid
        ORDER BY MIN(rank) NULLS LAST, COUNT(*) DESC, hostname, pid
        LIMIT 1
    ),

    first_rank AS (
        SELECT c.cycle_index, c.start_ns, c.duration_ns
        FROM cycles AS c
        INNER JOIN led AS l ON l.hostname IS NOT DISTINCT FROM c.hostname AND l.pid IS NOT DISTINCT FROM c.pid
    )

    SELECT
        c.hostname, c.pid, c.cycle_index, f.cycle_index AS aligned_index, c.start_ns - f.start_ns AS skew_ns
    FROM cycles AS c
    INNER JOIN first_rank AS f
        ON f.start_ns < c.start_ns + c.duration_ns AND f.start_ns + f.duration_ns > c.start_ns
    QUALIFY ROW_NUMBER() OVER (
        PARTITION BY c.hostname, c.pid, c.cycle_index
        ORDER BY
            LEAST(f.start_ns + f.duration_ns, c.start_ns + c.duration_ns) - GREATEST(f.start_ns, c.start_ns) DESC,
            f.cycle_index
    ) = 1
) AS found
WHERE found.hostname IS NOT DISTINCT FROM cycles.hostname
  AND found.pid IS NOT DISTINCT FROM cycles.pid
  AND found.cycle_index = cycles.cycle_index;
