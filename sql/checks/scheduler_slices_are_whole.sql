-- One row per run whose scheduler recorder lost events: slices are missing there.
-- Grain: (run_id). Reads: scheduler_slices. Params: none.
SELECT run_id, SUM(lost_events) AS lost_events, SUM(duration_ns) AS lost_ns
FROM scheduler_slices
WHERE kind = 'lost'
GROUP BY run_id;
