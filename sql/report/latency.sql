-- One row per engine, workload, scenario and window: start-to-start time of decode batches.
-- Grain: (engine, workload, scenario, run_window). Reads: batches, runs. Params: $campaign.
SELECT
    r.engine,
    r.workload,
    r.scenario,
    b.run_window,
    COUNT(DISTINCT r.run_id) AS runs,
    COUNT(*) AS batches,
    MEDIAN(b.interval_ns) / 1e6 AS p50_ms,
    QUANTILE_CONT(b.interval_ns, 0.95) / 1e6 AS p95_ms,
    QUANTILE_CONT(b.interval_ns, 0.99) / 1e6 AS p99_ms
FROM batches AS b
INNER JOIN runs AS r USING (run_id)
WHERE r.campaign = $campaign
    AND b.forward_mode = 'decode'
    AND b.interval_ns IS NOT NULL
    AND b.run_window IN ('baseline', 'fault', 'recovery')
GROUP BY ALL
ORDER BY r.engine, r.workload, r.scenario, b.run_window;
