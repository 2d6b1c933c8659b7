-- One row per complete run whose server did not give its metrics page nine times in ten.
-- Grain: (run_id). Reads: runs, engine_metrics. Params: none.
-- A recorder of metrics that did not run is told by the manifest; a run of others has none.
SELECT m.run_id, AVG(m.value) AS answered_ratio, LAST(m.labels ->> '$.reason') FILTER (WHERE m.value = 0) AS reason
FROM engine_metrics AS m
INNER JOIN runs AS r ON r.run_id = m.run_id
WHERE m.metric_name = 'up' AND r.status = 'complete'
GROUP BY m.run_id
HAVING AVG(m.value) < 0.9;
