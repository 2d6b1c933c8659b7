-- One row per model, limit, scenario and strength: how well faults were told from normal work, with intervals.
-- Grain: (model_id, evaluation, strategy, scenario, strength). Reads: detection_metrics. Params: $campaign.
SELECT
    evaluation,
    strategy,
    scenario,
    CAST(strength AS VARCHAR) AS strength,
    runs,
    hours,
    false_incidents_an_hour,
    false_incidents_an_hour_high,
    slowdown,
    detection_ratio,
    detection_low_ratio,
    detection_high_ratio,
    lag_batches,
    lag_ms,
    f1_ratio,
    f1_low_ratio,
    f1_high_ratio,
    model_id
FROM detection_metrics
WHERE campaign = $campaign
ORDER BY evaluation, strategy, scenario, slowdown, strength, model_id;
