-- One row per run: where its recorded time went, s, and what the records weigh.
-- Grain: (run_id). Reads: runs, v_runs. Params: $campaign.
SELECT
    r.run_order,
    r.run_id,
    (r.recording_stop_ns - r.recording_start_ns) / 1e9 AS recorded_s,
    (r.baseline_end_ns - r.baseline_start_ns) / 1e9 AS baseline_s,
    (r.fault_end_ns - r.fault_start_ns) / 1e9 AS fault_s,
    (r.recovery_end_ns - r.recovery_start_ns) / 1e9 AS recovery_s,
    (r.fault_start_ns - r.baseline_end_ns) / 1e9 AS applying_s,
    (r.recovery_start_ns - r.fault_end_ns) / 1e9 AS reverting_s,
    v.files,
    v.size_bytes / 1e6 AS size_mb,
    v.clock_uncertainty_ms
FROM runs AS r
INNER JOIN v_runs AS v USING (run_id)
WHERE r.campaign = $campaign
ORDER BY r.run_order;
