-- One row per engine iteration: one forward pass of a scheduled batch.
-- Grain: (run_id, batch_index).
CREATE TABLE batches (
    run_id VARCHAR,
    batch_index BIGINT,
    start_ns BIGINT,
    duration_ns BIGINT,
    interval_ns BIGINT,
    execute_ns BIGINT,
    forward_mode VARCHAR,
    batch_size BIGINT,
    input_length_avg DOUBLE,
    input_length_max BIGINT,
    output_length_avg DOUBLE,
    output_length_max BIGINT,
    kv_tokens BIGINT,
    new_input_tokens BIGINT,
    prefix_hit_tokens BIGINT,
    admitted BIGINT,
    finished BIGINT,
    preempted BIGINT,
    waiting BIGINT,
    running BIGINT,
    rank BIGINT,
    run_window VARCHAR,
    source VARCHAR,
    job_name VARCHAR,
    extra JSON
);
COMMENT ON TABLE batches IS 'One batch as the engine''s worker ran it.';
COMMENT ON COLUMN batches.run_id IS 'run it belongs to; key of runs';
COMMENT ON COLUMN batches.batch_index IS 'number in the run, from 0, in order of start';
COMMENT ON COLUMN batches.start_ns IS 'start of the step, ns since 1970 on the host''s clock';
COMMENT ON COLUMN batches.duration_ns IS 'forward pass and sampling, ns; of SGLang until its results are processed or the next step starts; in a trace from start to next start, or to its last work where the engine then idled';
COMMENT ON COLUMN batches.interval_ns IS 'start to the next start of the same process or job, ns; NULL for its last batch';
COMMENT ON COLUMN batches.execute_ns IS 'forward pass without sampling, ns; in a trace the time of the step''s label, or of its call';
COMMENT ON COLUMN batches.forward_mode IS 'prefill, decode, mixed, or idle: an empty step, with nothing to compute, is no batch; NULL where the source does not tell';
COMMENT ON COLUMN batches.batch_size IS 'requests in the step';
COMMENT ON COLUMN batches.input_length_avg IS 'mean prompt length over the requests, tokens; NULL when idle';
COMMENT ON COLUMN batches.input_length_max IS 'longest prompt, tokens; NULL when idle';
COMMENT ON COLUMN batches.output_length_avg IS 'mean number of tokens that a request has got so far; NULL when idle';
COMMENT ON COLUMN batches.output_length_max IS 'most tokens that a request has got so far; NULL when idle';
COMMENT ON COLUMN batches.kv_tokens IS 'tokens in the key-value cache of these requests after the step';
COMMENT ON COLUMN batches.new_input_tokens IS 'tokens computed by the step: prompt tokens, and one a decoding request';
COMMENT ON COLUMN batches.prefix_hit_tokens IS 'prompt tokens found in the prefix cache by requests admitted in the step';
COMMENT ON COLUMN batches.admitted IS 'requests that are scheduled for the first time';
COMMENT ON COLUMN batches.finished IS 'requests reported finished with the step: they ended in the step before';
COMMENT ON COLUMN batches.preempted IS 'requests that were preempted, of SGLang those that come back; NULL where the source does not tell';
COMMENT ON COLUMN batches.waiting IS 'requests in the queue; NULL where the source does not tell';
COMMENT ON COLUMN batches.running IS 'requests that hold a slot; NULL where the source does not tell';
COMMENT ON COLUMN batches.rank IS 'worker''s rank';
COMMENT ON COLUMN batches.run_window IS 'baseline, fault or recovery when it lies wholly inside; transition when it overlaps a mark or lies between windows; NULL outside the recording and, where a fault is injected, from the fault window to the recovery window, while its effect is measured';
COMMENT ON COLUMN batches.source IS 'recorder or format, such as vllm_probe or published_sentinel';
COMMENT ON COLUMN batches.job_name IS 'in{I}_out{O}_conc{C}, the job of a table that holds several; NULL elsewhere';
COMMENT ON COLUMN batches.extra IS 'what the source tells of the step besides; NULL where nothing';
