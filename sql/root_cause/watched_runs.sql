-- One row per run that was watched, with the span of its scored batches.
-- Grain: (run_id). Reads: batch_scores, runs. Params: $campaign.
-- Blind on purpose: no scenario, no mark, no window, no effect of the injector.
SELECT
    s.run_id,
    MIN(s.start_ns) AS start_ns,
    MAX(s.start_ns + s.actual_ns) AS end_ns,
    COUNT(*) AS batches,
    COUNT(*) FILTER (WHERE s.alarm) AS alarms
FROM batch_scores AS s
INNER JOIN runs AS r USING (run_id)
WHERE r.campaign = $campaign
GROUP BY s.run_id
ORDER BY s.run_id;
