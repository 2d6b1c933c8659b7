-- One row per run, incident and rank: the first three causes, with their evidence.
-- Grain: (run_id, incident_index, rank). Reads: rca_diagnosis, runs. Params: $campaign.
SELECT r.scenario, d.run_id, d.incident_index, d.rank, d.cause, d.score, d.confidence, d.device, d.evidence
FROM rca_diagnosis AS d
INNER JOIN runs AS r USING (run_id)
WHERE r.campaign = $campaign AND d.rank <= 3
ORDER BY r.scenario, r.run_order, d.incident_index, d.rank;
