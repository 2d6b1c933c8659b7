-- One row per run with its configuration (features.py, KEY), what was injected and when, and its objective.
-- Grain: (run_id). Reads: runs. Params: $campaign.
SELECT
    run_id,
    engine_key,
    model,
    cpu_model,
    {strength: strength, apply_ns: fault_apply_ns, end_ns: fault_end_ns, slo_ms: slo_tpot_ms} AS fault
FROM runs
WHERE campaign = $campaign
ORDER BY run_id;
