-- One row per latency model of a campaign together with its limit in use.
-- Grain: (model_id). Reads: latency_models, control_limits. Params: $campaign.
SELECT m.model_id, m.path, m.sha256, l.limit_residual
FROM latency_models AS m
INNER JOIN control_limits AS l USING (model_id, campaign)
WHERE m.campaign = $campaign AND l.in_use
ORDER BY m.model_id;
