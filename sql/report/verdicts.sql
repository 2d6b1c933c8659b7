-- One row per run of the campaign: what was injected, when it was found, what it was called, how sure.
-- Grain: (run_id). Reads: v_injected_vs_diagnosed, runs, rca_diagnosis. Params: $campaign.
WITH
named AS (
    SELECT run_id, cause, MAX(confidence) AS confidence
    FROM rca_diagnosis
    WHERE rank = 1
    GROUP BY run_id, cause
)

SELECT
    v.run_order,
    v.run_id,
    v.engine,
    v.host,
    v.workload,
    v.scenario,
    v.repetition,
    r.mode,
    v.status,
    r.reason,
    v.incidents,
    v.lag_batches,
    v.lag_ms,
    v.slowdown,
    v.named_cause,
    v.score,
    n.confidence,
    v.verdict,
    v.slo_violated,
    v.evidence,
    r.slo_tpot_ms,
    r.slo_ttft_ms
FROM v_injected_vs_diagnosed AS v
INNER JOIN runs AS r USING (run_id)
LEFT JOIN named AS n ON n.run_id = v.run_id AND n.cause = v.named_cause
WHERE v.campaign = $campaign
ORDER BY v.run_order;
