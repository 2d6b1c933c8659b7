-- One row per function whose share of a cycle is not its time over the cycle's, to the four digits that are published.
-- Grain: (run_id, cycle_index, pid, function_name, device, metric_name). Reads: function_usage. Params: none.
SELECT
    run_id, cycle_index, pid, function_name, device, metric_name, beta_pct, duration_ns,
    anchor_duration_ns
FROM function_usage
WHERE NOT COALESCE(
    duration_ns >= 0 AND ABS(beta_pct - 100.0 * duration_ns / NULLIF(GREATEST(anchor_duration_ns, 0), 0)) < 0.001,
    FALSE
);
