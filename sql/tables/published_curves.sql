-- One row per size of the training set on a learning curve that others published.
-- Grain: (run_id, training_rows).
CREATE TABLE published_curves (
    run_id VARCHAR,
    training_rows BIGINT,
    mape_ratio DOUBLE,
    within_10_pct_ratio DOUBLE,
    coverage_ratio DOUBLE,
    training_mape_ratio DOUBLE,
    training_within_10_pct_ratio DOUBLE
);
COMMENT ON TABLE published_curves IS 'One point of a published learning curve of a latency model.';
COMMENT ON COLUMN published_curves.run_id IS 'run it belongs to, which is the curve itself; key of runs';
COMMENT ON COLUMN published_curves.training_rows IS 'batches that the model was trained on';
COMMENT ON COLUMN published_curves.mape_ratio IS 'mean absolute error over actual time on batches held out';
COMMENT ON COLUMN published_curves.within_10_pct_ratio IS 'share of batches held out that were predicted within 10 % of their time';
COMMENT ON COLUMN published_curves.coverage_ratio IS 'column Coverage as published, from 0 to 1';
COMMENT ON COLUMN published_curves.training_mape_ratio IS 'mean absolute error over actual time on the training set';
COMMENT ON COLUMN published_curves.training_within_10_pct_ratio IS 'share of the training set that was predicted within 10 % of its time';
