-- One row per latency model of a campaign together with its limit.
-- Grain: (model_id). Reads: latency_models, control_limits. Params: $campaign.
SELECT m.model_id, m.engine_key, m.purpose, m.path, m.sha256, l.limit_residual
FROM latency_models AS m
INNER JOIN control_limits AS l USING (model_id, campaign)
WHERE m.campaign = $campaign
ORDER BY m.model_id;
