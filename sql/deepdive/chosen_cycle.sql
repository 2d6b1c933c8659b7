-- One row per cycle of the run that has the number, of one process or of all.
-- Grain: (hostname, pid). Reads: cycles. Params: $cycle_index, $pid.
SELECT
    pid, cycle_index, process, file_name, forward_mode, batch_size, start_ns, duration_ns, anchor_name, anchor_ns,
    gpu_events, gpu_ns, gpu_start_ns, gpu_end_ns,
    LEAST(start_ns + interval_ns, start_ns + GREATEST(duration_ns, anchor_ns)) AS until_ns
FROM cycles
WHERE cycle_index = $cycle_index AND ($pid IS NULL OR pid = $pid)
ORDER BY rank NULLS LAST, hostname, pid;
