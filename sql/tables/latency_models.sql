-- One row per trained latency model.
-- Grain: (model_id).
CREATE TABLE latency_models (
    model_id VARCHAR,
    campaign VARCHAR,
    engine VARCHAR,
    engine_key VARCHAR,
    purpose VARCHAR,
    kind VARCHAR,
    target VARCHAR,
    features JSON,
    trained_sessions JSON,
    left_out_sessions JSON,
    training_rows BIGINT,
    heldout_mape_ratio DOUBLE,
    heldout_median_ape_ratio DOUBLE,
    heldout_within_10pct_ratio DOUBLE,
    seed BIGINT,
    path VARCHAR,
    sha256 VARCHAR,
    trained_ns BIGINT
);
COMMENT ON TABLE latency_models IS 'One model of batch time, and how well it does on runs left out.';
COMMENT ON COLUMN latency_models.model_id IS 'm and 10 hex digits';
COMMENT ON COLUMN latency_models.campaign IS 'campaign whose normal runs it was trained on';
COMMENT ON COLUMN latency_models.engine IS 'engine kind, such as vllm';
COMMENT ON COLUMN latency_models.engine_key IS 'configuration that it describes';
COMMENT ON COLUMN latency_models.purpose IS 'champion, or leave_out:<run_id> for the model that never saw that run (+n: nor n others)';
COMMENT ON COLUMN latency_models.kind IS 'ridge, gradient_boosting, xgboost or xgboost_monotone, chosen by its errors on runs left out';
COMMENT ON COLUMN latency_models.target IS 'column of batches that it predicts: duration_ns or interval_ns';
COMMENT ON COLUMN latency_models.features IS 'names of the features, in order';
COMMENT ON COLUMN latency_models.trained_sessions IS 'run_ids it was trained on, with /job where a run holds several jobs';
COMMENT ON COLUMN latency_models.left_out_sessions IS 'normal run_ids that it never saw and judges; empty for a champion';
COMMENT ON COLUMN latency_models.training_rows IS 'batches it was trained on';
COMMENT ON COLUMN latency_models.heldout_mape_ratio IS 'mean of |actual - expected| / actual on runs left out';
COMMENT ON COLUMN latency_models.heldout_median_ape_ratio IS 'median of |actual - expected| / actual on runs left out';
COMMENT ON COLUMN latency_models.heldout_within_10pct_ratio IS 'share of batches of runs left out that are predicted to within 10 %';
COMMENT ON COLUMN latency_models.seed IS 'seed of the training';
COMMENT ON COLUMN latency_models.path IS 'model file, relative to the home';
COMMENT ON COLUMN latency_models.sha256 IS 'digest of the model file';
COMMENT ON COLUMN latency_models.trained_ns IS 'when it was trained, ns since 1970';
