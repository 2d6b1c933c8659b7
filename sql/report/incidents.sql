-- One row per incident: when, how long, how much slower, and whether the objective was broken.
-- Grain: (run_id, incident_index). Reads: incidents, runs. Params: $campaign.
SELECT
    r.scenario,
    i.run_id,
    i.incident_index,
    (i.start_ns - r.recording_start_ns) / 1e9 AS start_s,
    (i.end_ns - i.start_ns) / 1e9 AS lasted_s,
    i.batches,
    i.expected_ms,
    i.actual_ms,
    i.slowdown,
    i.excess_ms,
    i.tpot_ms,
    r.slo_tpot_ms,
    i.slo_violated
FROM incidents AS i
INNER JOIN runs AS r USING (run_id)
WHERE r.campaign = $campaign
ORDER BY r.run_order, i.incident_index;
