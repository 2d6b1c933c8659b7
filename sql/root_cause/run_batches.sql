-- One row per batch of one run, with its composition as the diagnosis may see it.
-- Grain: (run_id, batch_index). Reads: batches, batch_scores. Params: $run_id, $scored (whether only those that are).
-- Blind on purpose: run_window, which is made of the injector's marks, is left out.
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
WHERE b.run_id = $run_id AND (s.start_ns IS NOT NULL OR NOT $scored)
ORDER BY b.batch_index;
