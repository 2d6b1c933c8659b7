-- One row per run of the campaign: where its time went, how long its host waited on us, what recording cost.
-- Grain: (run_id). Reads: v_overhead. Params: $campaign.
SELECT
    run_order,
    run_id,
    scenario,
    total_s,
    connect_s,
    server_start_s,
    load_s,
    warmup_s,
    windows_s,
    fault_s,
    stop_s,
    fetch_s,
    between_s,
    waited_s,
    sampler_cpu_pct,
    capture_stalled_s
FROM v_overhead
WHERE campaign = $campaign
ORDER BY run_order;
