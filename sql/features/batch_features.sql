-- One row per recorded batch that did work, with what its workload lets a model know before the batch ends.
-- Grain: (run_id, batch_index). Reads: batches, runs, excluded_batches.
-- Params: $campaign.
-- Empty steps (batch_size 0), and batches that break a check of policy quarantine (excluded_batches), are set aside,
-- but count as the neighbour of the step after them.
-- Only rows inside the recording (run_window not NULL) are kept. A neighbour is the previous step of the same rank;
-- no neighbour's time is used, so that a slow step never excuses the one after it.
-- attention_work stands for the sum over requests of new * kv tokens; lengths per request are not in the table, so it
-- is kv_tokens times the mean new tokens per request (at least one), exact only when all requests are alike.
WITH
neighbours AS (
    SELECT
        *,
        LAG(batch_size) OVER step AS previous_batch_size,
        LAG(new_input_tokens) OVER step AS previous_new_input_tokens,
        LAG(admitted) OVER step AS previous_admitted,
        LAG(forward_mode) OVER step AS previous_forward_mode
    FROM batches
    WINDOW step AS (PARTITION BY run_id, rank ORDER BY batch_index)
),

mode_codes (forward_mode, code) AS (
    VALUES ('idle', 0), ('decode', 1), ('mixed', 2), ('prefill', 3)
)

SELECT
    b.run_id,
    r.engine_key,
    r.model,
    r.cpu_model,
    r.scenario,
    r.status,
    b.run_window,
    b.batch_index,
    b.start_ns,
    b.duration_ns,
    b.interval_ns,
    b.forward_mode,
    b.batch_size,
    b.input_length_avg,
    b.input_length_max,
    b.output_length_avg,
    b.output_length_max,
    b.kv_tokens,
    b.new_input_tokens,
    b.kv_tokens * GREATEST(b.new_input_tokens / b.batch_size, 1.0) AS attention_work,
    b.admitted,
    b.finished,
    b.preempted,
    b.prefix_hit_tokens,
    c.code AS forward_mode_code,
    b.previous_batch_size,
    b.previous_new_input_tokens,
    b.previous_admitted,
    p.code AS previous_forward_mode_code
FROM neighbours AS b
INNER JOIN runs AS r USING (run_id)
LEFT JOIN mode_codes AS c ON c.forward_mode = b.forward_mode
LEFT JOIN mode_codes AS p ON p.forward_mode = b.previous_forward_mode
ANTI JOIN excluded_batches AS x ON x.run_id = b.run_id AND x.batch_index = b.batch_index
WHERE r.campaign = $campaign
  AND b.batch_size > 0
  AND b.duration_ns > 0
  AND b.run_window IS NOT NULL
ORDER BY b.run_id, b.batch_index;
