-- One row per time at which a counter of one run was sampled.
-- Grain: (counter_name, start_ns). Reads: counters. Params: $run_id.
-- Of a counter of several devices or processes, those of the one that has most. Where the source names no device,
-- samples that lie closer than a quarter of the longest gap are of several devices, at one time.
WITH
sampled AS (
    SELECT DISTINCT counter_name, device, pid, start_ns, COALESCE(duration_ns, 0) AS duration_ns
    FROM counters
    WHERE run_id = $run_id AND value IS NOT NULL
),

gaps AS (
    SELECT
        *,
        start_ns - LAG(start_ns) OVER (PARTITION BY counter_name, device, pid ORDER BY start_ns) AS gap_ns
    FROM sampled
),

times AS (
    SELECT *
    FROM gaps
    QUALIFY
        gap_ns IS NULL
        OR device IS NOT NULL
        OR 4 * gap_ns >= MAX(gap_ns) OVER (PARTITION BY counter_name, device, pid)
),

counted AS (
    SELECT *, COUNT(*) OVER (PARTITION BY counter_name, device, pid) AS samples
    FROM times
)

SELECT counter_name, start_ns, start_ns + duration_ns AS end_ns
FROM counted
QUALIFY DENSE_RANK() OVER (PARTITION BY counter_name ORDER BY samples DESC, device, pid) = 1
ORDER BY counter_name, start_ns;
