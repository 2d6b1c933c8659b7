-- One row per decode cycle of a run in which a function ran: the mean time of a call there, us, and the window.
-- Grain: (hostname, pid, cycle_index). Reads: function_usage, cycles. Params: $run_id, $function_name, $device.
SELECT DISTINCT c.run_window, u.hostname, u.pid, u.cycle_index, u.duration_ns / u.instances / 1e3 AS call_us
FROM function_usage AS u
INNER JOIN cycles AS c
    ON c.run_id = u.run_id AND c.hostname IS NOT DISTINCT FROM u.hostname AND c.pid = u.pid
    AND c.cycle_index = u.cycle_index
WHERE u.run_id = $run_id AND u.function_name = $function_name AND u.device = $device
    AND u.instances > 0 AND c.run_window IN ('baseline', 'fault') AND c.forward_mode = 'decode'
ORDER BY c.run_window, u.hostname, u.pid, u.cycle_index;
