-- One row per counter value that is no number, or that covers less than no time.
-- Grain: (run_id, counter_name, device, pid, start_ns, sample_index). Reads: counters. Params: none.
SELECT run_id, counter_name, device, pid, start_ns, duration_ns, value
FROM counters
WHERE value IS NULL OR NOT ISFINITE(value) OR duration_ns < 0;
