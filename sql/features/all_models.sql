-- One row per latency model together with its limit in use, the newest first.
-- Grain: (model_id). Reads: latency_models, control_limits. Params: none.
SELECT
    m.model_id,
    m.campaign,
    m.engine,
    m.target,
    m.purpose,
    m.kind,
    m.training_rows,
    m.heldout_mape_ratio,
    m.heldout_median_ape_ratio,
    m.heldout_within_10pct_ratio,
    l.limit_residual,
    m.path,
    m.sha256,
    m.trained_ns
FROM latency_models AS m
INNER JOIN control_limits AS l USING (model_id, campaign)
WHERE l.in_use
ORDER BY m.trained_ns DESC, m.model_id;
