-- One row per watched run: its windows, in s from the start of its recording.
-- Grain: (run_id). Reads: runs, batch_scores. Params: $campaign.
SELECT
    run_order,
    run_id,
    engine,
    workload,
    scenario,
    repetition,
    (baseline_start_ns - recording_start_ns) / 1e9 AS baseline_start_s,
    (baseline_end_ns - recording_start_ns) / 1e9 AS baseline_end_s,
    (fault_apply_ns - recording_start_ns) / 1e9 AS fault_apply_s,
    (fault_end_ns - recording_start_ns) / 1e9 AS fault_end_s,
    (recovery_start_ns - recording_start_ns) / 1e9 AS recovery_start_s,
    (recovery_end_ns - recording_start_ns) / 1e9 AS recovery_end_s
FROM runs
WHERE campaign = $campaign AND run_id IN (SELECT run_id FROM batch_scores)
ORDER BY anomaly IS NULL, run_order;
