-- One row per latency model and limit of the campaign.
-- Grain: (model_id, strategy). Reads: latency_models, control_limits. Params: $campaign.
SELECT
    m.model_id,
    m.engine,
    m.purpose,
    m.kind,
    m.training_rows,
    m.heldout_mape_ratio,
    m.heldout_within_10pct_ratio,
    l.strategy,
    l.limit_residual,
    l.heldout_runs,
    m.sha256
FROM latency_models AS m
LEFT JOIN control_limits AS l USING (model_id)
WHERE m.campaign = $campaign
ORDER BY m.engine, m.model_id, l.strategy;
