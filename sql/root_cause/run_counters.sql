-- One row per counter sample of one run.
-- Grain: (run_id, counter_name, device, pid, start_ns). Reads: counters. Params: $run_id.
SELECT start_ns, duration_ns, counter_name, device, pid, process_name, value
FROM counters
WHERE run_id = $run_id AND value IS NOT NULL
ORDER BY counter_name, device, pid, start_ns;
