-- One row per batch that took no time or less.
-- Grain: (run_id, batch_index). Reads: batches. Params: none.
SELECT run_id, batch_index, duration_ns, execute_ns
FROM batches
WHERE duration_ns IS NULL OR duration_ns <= 0 OR execute_ns < 0 OR execute_ns > duration_ns;
