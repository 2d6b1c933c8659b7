-- One row per batch of one run, scored or not, with the columns of run_batches.
-- Grain: (run_id, batch_index). Reads: batches, batch_scores. Params: $run_id.
SELECT
    b.batch_index,
    b.start_ns,
    b.duration_ns,
    b.interval_ns,
    b.forward_mode,
    b.batch_size,
    b.kv_tokens,
    b.new_input_tokens,
    b.waiting,
    s.in_domain
FROM batches AS b
LEFT JOIN batch_scores AS s USING (run_id, batch_index)
WHERE b.run_id = $run_id
ORDER BY b.batch_index;
