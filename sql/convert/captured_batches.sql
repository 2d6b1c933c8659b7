-- One row per batch that overlaps a capture by the server's own profiler: it counts for no window.
-- Grain: (run_id, batch_index). Reads: batches, captures. Params: none.
-- The profiler slows the steps that it records, and the engine stands still while the trace is written.
UPDATE batches SET run_window = 'transition'
FROM captures AS c
WHERE c.run_id = batches.run_id
  AND c.profiler = 'torch'
  AND batches.run_window IN ('baseline', 'fault', 'recovery')
  AND batches.start_ns < c.end_ns
  AND batches.start_ns + batches.duration_ns > c.start_ns;
