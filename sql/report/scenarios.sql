-- One row per engine and scenario: how many of its runs were found, named right, and broke the objective.
-- Grain: (engine, scenario). Reads: v_injected_vs_diagnosed. Params: $campaign.
SELECT
    scenario,
    engine,
    COUNT(*) AS runs,
    COUNT(*) FILTER (WHERE status = 'failed') AS failed,
    COUNT(*) FILTER (WHERE verdict = 'right') AS named_right,
    COUNT(*) FILTER (WHERE verdict = 'wrong') AS named_wrong,
    STRING_AGG(DISTINCT named_cause, ', ' ORDER BY named_cause) AS named_causes,
    COUNT(*) FILTER (WHERE slo_violated) AS slo_broken,
    MEDIAN(slowdown) AS slowdown
FROM v_injected_vs_diagnosed
WHERE campaign = $campaign
GROUP BY scenario, engine
ORDER BY engine, scenario;
