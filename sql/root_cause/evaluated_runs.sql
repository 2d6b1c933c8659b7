-- One row per scored run of a campaign with what was injected, and when.
-- Grain: (run_id). Reads: runs, batch_scores. Params: $campaign.
-- Not for a diagnosis, which is blind to all of this: for what judges one.
SELECT
    run_id,
    engine,
    scenario,
    anomaly,
    IF(anomaly IS NULL, NULL, CAST(strength AS VARCHAR)) AS strength,
    effect_proved,
    fault_apply_ns AS apply_ns,
    COALESCE(fault_start_ns, fault_apply_ns) AS start_ns,
    fault_end_ns AS end_ns
FROM runs
WHERE campaign = $campaign AND run_id IN (SELECT run_id FROM batch_scores)
ORDER BY run_id;
