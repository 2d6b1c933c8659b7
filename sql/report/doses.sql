-- One row per engine, workload, scenario and strength: how much slower decode steps became, run by run.
-- Grain: (engine, workload, scenario, strength). Reads: v_injected_vs_diagnosed, runs. Params: $campaign.
SELECT
    v.engine,
    v.workload,
    v.scenario,
    CAST(r.strength AS VARCHAR) AS strength,
    COUNT(*) AS runs,
    COUNT(v.lag_ms) AS found,
    COUNT(*) FILTER (WHERE v.verdict = 'right') AS named_right,
    MIN(v.slowdown) AS slowdown_low,
    MEDIAN(v.slowdown) AS slowdown,
    MAX(v.slowdown) AS slowdown_high,
    LIST(v.slowdown ORDER BY v.run_order) AS slowdowns,
    LIST(v.lag_ms IS NOT NULL ORDER BY v.run_order) AS were_found
FROM v_injected_vs_diagnosed AS v
INNER JOIN runs AS r USING (run_id)
WHERE v.campaign = $campaign
    AND r.anomaly IS NOT NULL
    AND v.status = 'complete'
    AND v.slowdown IS NOT NULL
GROUP BY ALL
ORDER BY v.engine, v.workload, v.scenario, slowdown, strength;
