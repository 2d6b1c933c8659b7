-- One row per counter value that is no number.
-- Grain: (run_id, counter_name, device, pid, start_ns). Reads: counters. Params: none.
SELECT run_id, counter_name, device, pid, start_ns, value
FROM counters
WHERE value IS NULL OR NOT ISFINITE(value);
