-- One row per recorded batch of a run, as it came, with what its run or its job asks for.
-- Grain: (run_id, batch_index). Reads: batches, runs, excluded_batches. Params: $run_id.
-- counts is false for a step outside the recording, or that a check of policy quarantine sets aside.
SELECT
    CONCAT_WS('/', b.run_id, b.job_name) AS session,
    b.batch_index,
    b.start_ns,
    b.duration_ns,
    b.interval_ns,
    b.forward_mode,
    b.batch_size,
    b.rank,
    b.input_length_avg,
    b.input_length_max,
    b.output_length_avg,
    b.output_length_max,
    b.kv_tokens,
    b.new_input_tokens,
    b.prefix_hit_tokens,
    b.admitted,
    b.finished,
    b.preempted,
    COALESCE(b.job_name, r.workload) AS workload,
    REGEXP_EXTRACT(b.job_name, '^in([0-9]+)_out([0-9]+)_conc([0-9]+)$', ['input', 'output', 'concurrency']) AS job,
    COALESCE(TRY_CAST(job['input'] AS BIGINT), r.input_length) AS asked_input,
    COALESCE(TRY_CAST(job['output'] AS BIGINT), r.output_length) AS asked_output,
    COALESCE(TRY_CAST(job['concurrency'] AS BIGINT), r.concurrency) AS concurrency,
    x.batch_index IS NULL
    AND (b.run_window IS NOT NULL OR NOT BOOL_OR(b.run_window IS NOT NULL) OVER (PARTITION BY b.run_id)) AS counts
FROM batches AS b
INNER JOIN runs AS r USING (run_id)
LEFT JOIN (SELECT DISTINCT run_id, batch_index FROM excluded_batches) AS x USING (run_id, batch_index)
WHERE b.run_id = $run_id
ORDER BY session, b.batch_index;
