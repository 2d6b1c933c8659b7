-- One row per batch with fewer than no tokens or requests.
-- Grain: (run_id, batch_index). Reads: batches. Params: none.
SELECT run_id, batch_index
FROM batches
WHERE LEAST(
    batch_size, input_length_avg, output_length_avg, kv_tokens, new_input_tokens, prefix_hit_tokens, admitted,
    finished, preempted
) < 0;
