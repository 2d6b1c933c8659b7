-- One row per alarm limit of a model.
-- Grain: (model_id, strategy).
CREATE TABLE control_limits (
    model_id VARCHAR,
    campaign VARCHAR,
    strategy VARCHAR,
    smoothing_batches BIGINT,
    limit_residual DOUBLE,
    mean_residual DOUBLE,
    std_residual DOUBLE,
    heldout_rows BIGINT,
    heldout_runs BIGINT
);
COMMENT ON TABLE control_limits IS 'One limit, taken from residuals of runs left out.';
COMMENT ON COLUMN control_limits.model_id IS 'key of latency_models';
COMMENT ON COLUMN control_limits.campaign IS 'campaign instance';
COMMENT ON COLUMN control_limits.strategy IS 'how the limit follows from the residuals';
COMMENT ON COLUMN control_limits.smoothing_batches IS 'batches over which residuals are averaged before they are compared';
COMMENT ON COLUMN control_limits.limit_residual IS 'alarm above this smoothed residual, in shares of the actual time';
COMMENT ON COLUMN control_limits.mean_residual IS 'mean of the held-out residuals';
COMMENT ON COLUMN control_limits.std_residual IS 'standard deviation of the held-out residuals';
COMMENT ON COLUMN control_limits.heldout_rows IS 'held-out batches that the limit rests on';
COMMENT ON COLUMN control_limits.heldout_runs IS 'held-out runs that the limit rests on';
