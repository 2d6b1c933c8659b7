-- One row per run with what was injected, and when.
-- Grain: (run_id). Reads: runs. Params: $campaign.
SELECT run_id, strength, fault_apply_ns, fault_end_ns
FROM runs
WHERE campaign = $campaign
ORDER BY run_id;
