-- One row per complete run of ours whose sampler was not within 20 % of 10 samples a second, in deep captures 100.
-- Grain: (run_id). Reads: runs, counters. Params: none.
-- host_cpu_usage is in every sample; a sample counts where its interval ends.
WITH
rates AS (
    SELECT
        r.run_id,
        IF(r.mode = 'deepdive', 10, 1) AS times,
        COUNT(c.run_id) * 1e9 / (r.recording_stop_ns - r.recording_start_ns) AS samples_per_s
    FROM runs AS r
    LEFT JOIN counters AS c ON c.run_id = r.run_id
        AND c.counter_name = 'host_cpu_usage'
        AND c.start_ns + c.duration_ns BETWEEN r.recording_start_ns AND r.recording_stop_ns
    WHERE r.status = 'complete' AND r.bundle IS NOT NULL
    GROUP BY r.run_id, r.mode, r.recording_start_ns, r.recording_stop_ns
)

SELECT run_id, samples_per_s
FROM rates
WHERE samples_per_s IS NULL OR samples_per_s NOT BETWEEN 8 * times AND 12 * times;
