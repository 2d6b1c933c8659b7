-- One row per scored batch.
-- Grain: (run_id, batch_index).
CREATE TABLE batch_scores (
    run_id VARCHAR,
    batch_index BIGINT,
    start_ns BIGINT,
    model_id VARCHAR,
    actual_ns BIGINT,
    expected_ns BIGINT,
    residual DOUBLE,
    smoothed_residual DOUBLE,
    limit_residual DOUBLE,
    expected_interval_ns BIGINT,
    interval_residual DOUBLE,
    smoothed_interval_residual DOUBLE,
    interval_limit_residual DOUBLE,
    alarm BOOLEAN,
    in_domain BOOLEAN
);
COMMENT ON TABLE batch_scores IS 'One batch against what its workload explains.';
COMMENT ON COLUMN batch_scores.run_id IS 'run it belongs to; key of runs';
COMMENT ON COLUMN batch_scores.batch_index IS 'key of batches, with run_id';
COMMENT ON COLUMN batch_scores.start_ns IS 'start of the batch, ns since 1970 on the host''s clock';
COMMENT ON COLUMN batch_scores.model_id IS 'model that judged its duration, which never saw this run';
COMMENT ON COLUMN batch_scores.actual_ns IS 'time it took, ns';
COMMENT ON COLUMN batch_scores.expected_ns IS 'time its workload explains, ns';
COMMENT ON COLUMN batch_scores.residual IS 'max(0, actual - expected) / actual';
COMMENT ON COLUMN batch_scores.smoothed_residual IS 'mean residual of the last 10 batches, twice of it what the mean of the last 60 bears out';
COMMENT ON COLUMN batch_scores.limit_residual IS 'limit it was held against';
COMMENT ON COLUMN batch_scores.expected_interval_ns IS 'time to the next start that its workload explains, ns; NULL where the engine may have idled, or without a model of it';
COMMENT ON COLUMN batch_scores.interval_residual IS 'max(0, actual - expected) / actual of the time to the next start';
COMMENT ON COLUMN batch_scores.smoothed_interval_residual IS 'the same of interval_residual';
COMMENT ON COLUMN batch_scores.interval_limit_residual IS 'limit that smoothed_interval_residual was held against';
COMMENT ON COLUMN batch_scores.alarm IS 'whether smoothed_residual or smoothed_interval_residual is above its limit';
COMMENT ON COLUMN batch_scores.in_domain IS 'whether its features lie within what the model was trained on';
