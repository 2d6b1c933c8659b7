-- One row per recorded batch that did work, with what its workload lets a model know of it, whatever the source.
-- Grain: (run_id, batch_index). Reads: batches, runs, excluded_batches.
-- Params: $campaign, $look_ahead.
-- Empty steps (idle, or batch_size 0), and batches that break a check of policy quarantine (excluded_batches), are
-- set aside, but count as the neighbour of the step after them. Of a run with windows only rows inside the recording
-- are kept (run_window not NULL); a recording without windows is kept whole. A session is a run, or a job of one
-- that holds several; a neighbour is another step of the same session and rank. No neighbour's time is used, so that
-- a slow step never excuses another one. interval_ns is NULL where no request goes on to the next step: the engine
-- may have idled. attention_work stands for the sum over requests of new * kv tokens; lengths per request are not in
-- the table, so it is kv_tokens times the mean new tokens per request (at least one), exact only when all requests
-- are alike.
-- A table that tells neither modes nor computed tokens (vLLM's published one) hides prefill in its rows; it follows
-- from the counts of the next row (formats, 2). With O tokens asked for, what has left is S + next batch_size - next
-- S, where S = batch_size * output_length_avg is rounded, and at most O a request: so many have left, at least, and
-- the others of the next batch_size were admitted by this step (prefill_inferred). What is waiting is what the job's
-- concurrency has beyond these. Where $look_ahead is false nothing is known but this row and those before it.
-- kv_demand_tokens is what the job's requests need in full length: beyond the cache's capacity prefixes are not
-- found again, which such tables do not tell either. Sources that record what they compute leave waiting_requests,
-- kv_demand_tokens, next_admitted NULL.
WITH
mode_codes (forward_mode, code) AS (
    VALUES ('idle', 0), ('decode', 1), ('mixed', 2), ('prefill', 3)
),

asked AS (
    SELECT
        b.*,
        r.engine,
        r.engine_key,
        r.model,
        r.cpu_model,
        r.scenario,
        r.status,
        CONCAT_WS('/', b.run_id, b.job_name) AS session,
        COALESCE(b.job_name, r.workload) AS workload,
        REGEXP_EXTRACT(b.job_name, '^in([0-9]+)_out([0-9]+)_conc([0-9]+)$', ['input', 'output', 'concurrency']) AS job,
        COALESCE(TRY_CAST(job['input'] AS BIGINT), r.input_length) AS asked_input,
        COALESCE(TRY_CAST(job['output'] AS BIGINT), r.output_length) AS asked_output,
        COALESCE(TRY_CAST(job['concurrency'] AS BIGINT), r.concurrency) AS concurrency,
        BOOL_OR(b.run_window IS NOT NULL) OVER (PARTITION BY b.run_id) AS has_windows,
        b.new_input_tokens IS NULL AND b.batch_size > 0 AS is_untold,
        b.batch_size * b.output_length_avg AS got_tokens
    FROM batches AS b
    INNER JOIN runs AS r USING (run_id)
    WHERE r.campaign = $campaign
),

followed AS (
    SELECT
        *,
        is_untold AND asked_output IS NOT NULL
            AND (forward_mode IS NULL OR forward_mode = 'idle') AS hides_prefill,
        LEAD(batch_size) OVER step AS next_batch_size,
        got_tokens + LEAD(batch_size) OVER step - LEAD(got_tokens) OVER step AS left_tokens,
        COALESCE(
            LEAD(batch_size) OVER step > LEAD(admitted) OVER step,
            LEAD(forward_mode) OVER step <> 'prefill',
            TRUE
        ) AS goes_on
    FROM asked
    WINDOW step AS (PARTITION BY session, rank ORDER BY batch_index)
),

ended AS (
    SELECT
        *,
        CASE
            WHEN hides_prefill
                THEN GREATEST(
                    CEIL((left_tokens - 0.005 * (batch_size + next_batch_size) - 0.5) / asked_output),
                    batch_size - next_batch_size,
                    0
                )
        END AS leaving
    FROM followed
),

admissions AS (
    SELECT
        *,
        CASE
            WHEN hides_prefill THEN leaving + next_batch_size - batch_size
            WHEN is_untold AND forward_mode = 'prefill' THEN batch_size
            WHEN is_untold AND forward_mode = 'decode' THEN 0
            ELSE admitted
        END AS joined
    FROM ended
),

computed AS (
    SELECT
        *,
        CASE
            WHEN hides_prefill THEN batch_size + joined * asked_input
            WHEN is_untold AND forward_mode = 'prefill' THEN batch_size * input_length_avg
            WHEN is_untold AND forward_mode = 'decode' THEN batch_size
            ELSE new_input_tokens
        END AS tokens,
        CASE
            WHEN NOT hides_prefill THEN forward_mode
            WHEN joined > 0 THEN 'mixed'
            WHEN joined = 0 THEN 'decode'
        END AS mode,
        COALESCE(kv_tokens, batch_size * (input_length_avg + output_length_avg)) AS held_tokens
    FROM admissions
),

neighbours AS (
    SELECT
        *,
        LAG(tokens) OVER step AS previous_new_input_tokens,
        LAG(joined) OVER step AS previous_admitted,
        LAG(mode) OVER step AS previous_forward_mode,
        LAG(leaving) OVER step AS previous_leaving,
        LEAD(joined) OVER step AS next_joined,
        NOT hides_prefill OR $look_ahead AS is_known
    FROM computed
    WINDOW step AS (PARTITION BY session, rank ORDER BY batch_index)
)

SELECT
    b.run_id,
    b.session,
    b.workload,
    CONCAT('in', b.asked_input, '_out', b.asked_output) AS lengths,
    b.engine,
    b.engine_key,
    b.model,
    b.cpu_model,
    b.scenario,
    b.status,
    b.run_window,
    b.batch_index,
    b.start_ns,
    b.duration_ns,
    CASE WHEN b.goes_on AND b.interval_ns > 0 AND (b.leaving IS NULL OR b.leaving < b.batch_size) THEN b.interval_ns END
        AS interval_ns,
    CASE WHEN b.is_known THEN b.mode END AS forward_mode,
    COALESCE(b.hides_prefill AND b.is_known AND b.joined > 0, FALSE) AS prefill_inferred,
    b.batch_size,
    b.input_length_avg,
    b.input_length_max,
    b.output_length_avg,
    b.output_length_max,
    b.held_tokens AS kv_tokens,
    CASE WHEN b.is_known THEN b.tokens END AS new_input_tokens,
    CASE WHEN b.is_known AND b.tokens IS NOT NULL THEN b.held_tokens * GREATEST(b.tokens / b.batch_size, 1.0) END
        AS attention_work,
    CASE WHEN b.is_known THEN b.joined END AS admitted,
    COALESCE(b.finished, b.previous_leaving) AS finished,
    b.preempted,
    b.prefix_hit_tokens,
    CASE WHEN b.is_known THEN c.code END AS forward_mode_code,
    CASE
        WHEN b.is_untold
            THEN GREATEST(b.concurrency - b.batch_size - CASE WHEN $look_ahead THEN COALESCE(b.joined, 0) ELSE 0 END, 0)
    END AS waiting_requests,
    CASE WHEN b.is_untold THEN b.concurrency * (b.asked_input + b.asked_output) END AS kv_demand_tokens,
    CASE WHEN b.hides_prefill AND $look_ahead THEN b.next_joined END AS next_admitted,
    b.previous_new_input_tokens,
    b.previous_admitted,
    p.code AS previous_forward_mode_code
FROM neighbours AS b
LEFT JOIN mode_codes AS c ON c.forward_mode = b.mode
LEFT JOIN mode_codes AS p ON p.forward_mode = b.previous_forward_mode
ANTI JOIN excluded_batches AS x ON x.run_id = b.run_id AND x.batch_index = b.batch_index
WHERE b.batch_size > 0
  AND b.forward_mode IS DISTINCT FROM 'idle'
  AND b.duration_ns > 0
  AND (b.run_window IS NOT NULL OR NOT b.has_windows)
ORDER BY b.run_id, b.batch_index;
