-- One row per run that injected something: the measure of its effect before, during and after.
-- Grain: (run_id). Reads: runs. Params: $campaign.
SELECT
    run_order,
    run_id,
    scenario,
    strength,
    effect_metric,
    effect_unit,
    effect_before,
    effect_during,
    effect_after,
    effect_proved,
    effect_undone
FROM runs
WHERE campaign = $campaign AND effect_metric IS NOT NULL
ORDER BY run_order;
