-- One row per incident of one run.
-- Grain: (run_id, incident_index). Reads: incidents. Params: $run_id.
SELECT incident_index, start_ns, end_ns, excess_ms
FROM incidents
WHERE run_id = $run_id
ORDER BY incident_index;
