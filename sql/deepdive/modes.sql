-- One row per process and forward mode of the run's cycles.
-- Grain: (hostname, pid, forward_mode). Reads: cycles. Params: none.
SELECT
    hostname,
    pid,
    rank,
    forward_mode,
    COUNT(*) AS cycles,
    MIN(duration_ns) / 1e6 AS least_ms,
    MEDIAN(duration_ns) / 1e6 AS median_ms,
    MAX(duration_ns) / 1e6 AS most_ms,
    MEDIAN(anchor_ns) / 1e6 AS anchor_ms,
    MEDIAN(gpu_ns) / 1e6 AS gpu_ms,
    CAST(MEDIAN(gpu_events) AS BIGINT) AS gpu_events,
    MEDIAN(skew_ns) / 1e6 AS skew_ms
FROM cycles
GROUP BY hostname, pid, rank, forward_mode
ORDER BY rank NULLS LAST, hostname, pid, cycles DESC, forward_mode;
