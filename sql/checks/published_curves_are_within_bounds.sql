-- One row per point of a learning curve with an error below 0, or a share beyond 0 to 1.
-- Grain: (run_id, training_rows). Reads: published_curves. Params: none.
SELECT run_id, training_rows, mape_ratio, within_10_pct_ratio, coverage_ratio
FROM published_curves
WHERE training_rows < 0
   OR LEAST(mape_ratio, within_10_pct_ratio, coverage_ratio, training_mape_ratio, training_within_10_pct_ratio) < 0
   OR GREATEST(within_10_pct_ratio, coverage_ratio, training_within_10_pct_ratio) > 1;
