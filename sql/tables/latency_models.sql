-- One row per trained latency model.
-- Grain: (model_id).
CREATE TABLE latency_models (
    model_id VARCHAR,
    campaign VARCHAR,
    engine_key VARCHAR,
    purpose VARCHAR,
    kind VARCHAR,
    target VARCHAR,
    features JSON,
    trained_runs JSON,
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
COMMENT ON COLUMN latency_models.engine_key IS 'configuration that it describes';
COMMENT ON COLUMN latency_models.purpose IS 'champion, or leave_out:<run_id> for the model that never saw that run';
COMMENT ON COLUMN latency_models.kind IS 'kind of regression';
COMMENT ON COLUMN latency_models.target IS 'column of batches that it predicts';
COMMENT ON COLUMN latency_models.features IS 'names of the features, in order';
COMMENT ON COLUMN latency_models.trained_runs IS 'run_ids it was trained on';
COMMENT ON COLUMN latency_models.training_rows IS 'batches it was trained on';
COMMENT ON COLUMN latency_models.heldout_mape_ratio IS 'mean of |actual - expected| / actual on runs left out';
COMMENT ON COLUMN latency_models.heldout_median_ape_ratio IS 'median of |actual - expected| / actual on runs left out';
COMMENT ON COLUMN latency_models.heldout_within_10pct_ratio IS 'share of batches of runs left out that are predicted to within 10 %';
COMMENT ON COLUMN latency_models.seed IS 'seed of the training';
COMMENT ON COLUMN latency_models.path IS 'model file, relative to the home';
COMMENT ON COLUMN latency_models.sha256 IS 'digest of the model file';
COMMENT ON COLUMN latency_models.trained_ns IS 'when it was trained, ns since 1970';
