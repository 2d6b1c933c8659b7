-- One row per usage of a function in one side of a comparison, with what its cycle computed.
-- Grain: (hostname, pid, cycle_index, function_name, device, metric_name).
-- Reads: function_usage, cycles. Params: $run_id, $run_window (NULL: any), $starts_ns, $ends_ns (empty: any time).
-- Of spans a cycle counts that begins in one.
SELECT
    u.hostname,
    u.pid,
    u.cycle_index,
    u.cycle_start_ns,
    u.anchor_duration_ns,
    u.anchor_name,
    u.function_name,
    u.simple_name,
    u.function_class,
    u.device,
    u.metric_name,
    u.beta_pct,
    u.mu_pct,
    u.duration_ns,
    u.instances,
    u.distinct_samples,
    c.rank,
    c.forward_mode,
    c.batch_size,
    c.kv_tokens,
    c.new_input_tokens
FROM function_usage AS u
LEFT JOIN cycles AS c
    ON c.run_id = u.run_id AND c.hostname IS NOT DISTINCT FROM u.hostname AND c.pid = u.pid
    AND c.cycle_index = u.cycle_index
WHERE u.run_id = $run_id
    AND ($run_window IS NULL OR c.run_window = $run_window)
    AND (
        LEN($starts_ns) = 0
        OR EXISTS (
            SELECT 1
            FROM (SELECT UNNEST($starts_ns) AS start_ns, UNNEST($ends_ns) AS end_ns)
            WHERE u.cycle_start_ns >= start_ns AND u.cycle_start_ns < end_ns
        )
    )
ORDER BY u.hostname, u.pid, u.cycle_index, u.function_name, u.device, u.metric_name;
