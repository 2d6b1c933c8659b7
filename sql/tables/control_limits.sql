-- One row per alarm limit of a model.
-- Grain: (model_id, strategy).
CREATE TABLE control_limits (
    model_id VARCHAR,
    campaign VARCHAR,
    strategy VARCHAR,
    in_use BOOLEAN,
    smoothing_batches BIGINT,
    limit_residual DOUBLE,
    mean_residual DOUBLE,
    std_residual DOUBLE,
    heldout_rows BIGINT,
    heldout_runs BIGINT,
    heldout_hours DOUBLE
);
COMMENT ON TABLE control_limits IS 'One limit, taken from residuals of runs left out.';
COMMENT ON COLUMN control_limits.model_id IS 'key of latency_models';
COMMENT ON COLUMN control_limits.campaign IS 'campaign instance';
COMMENT ON COLUMN control_limits.strategy IS 'calibrated: by false incidents per server-hour; published_{point,mean10}_{3sigma,fixed}: as published';
COMMENT ON COLUMN control_limits.in_use IS 'whether batches are held against it; the others are there to be compared';
COMMENT ON COLUMN control_limits.smoothing_batches IS 'batches over which residuals are averaged before they are compared; a calibrated limit looks at the last 60 besides';
COMMENT ON COLUMN control_limits.limit_residual IS 'alarm above this smoothed residual, in shares of the actual time';
COMMENT ON COLUMN control_limits.mean_residual IS 'mean of the held-out residuals';
COMMENT ON COLUMN control_limits.std_residual IS 'standard deviation of the held-out residuals';
COMMENT ON COLUMN control_limits.heldout_rows IS 'held-out batches that the limit rests on';
COMMENT ON COLUMN control_limits.heldout_runs IS 'held-out runs that the limit rests on';
COMMENT ON COLUMN control_limits.heldout_hours IS 'expected time of these batches, hours';
