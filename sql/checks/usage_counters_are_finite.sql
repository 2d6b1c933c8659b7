-- One row per function beside a counter that is no number, that spreads by less than nothing, or that rests on no call.
-- Grain: (run_id, cycle_index, pid, function_name, device, metric_name). Reads: function_usage. Params: none.
SELECT
    run_id, cycle_index, pid, function_name, device, metric_name, mu_pct, sigma_pct,
    instances, distinct_samples
FROM function_usage
WHERE NOT ISFINITE(mu_pct) OR NOT ISFINITE(sigma_pct) OR sigma_pct < 0 OR instances < 1 OR distinct_samples < 0;
