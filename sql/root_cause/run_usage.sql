-- One row per usage of a function beside a counter in one run.
-- Grain: (hostname, pid, cycle_index, function_name, device, metric_name). Reads: function_usage. Params: $run_id.
SELECT pid, cycle_index, anchor_name, function_name, metric_name, device, beta_pct, mu_pct
FROM function_usage
WHERE run_id = $run_id AND metric_name IS NOT NULL AND mu_pct IS NOT NULL
ORDER BY pid, cycle_index, function_name, device, metric_name;
