-- One row per scored batch of a run: how much slower than its workload explains, and the limit.
-- Grain: (batch_index). Reads: batch_scores, runs. Params: $run_id.
SELECT
    s.batch_index,
    (s.start_ns - r.recording_start_ns) / 1e9 AS start_s,
    s.smoothed_residual,
    s.limit_residual,
    s.alarm
FROM batch_scores AS s
INNER JOIN runs AS r USING (run_id)
WHERE s.run_id = $run_id
ORDER BY s.start_ns;
