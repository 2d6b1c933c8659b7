-- One row per batch that lasts beyond the start of the next one of its process, by more than the clocks may be wrong.
-- Grain: (run_id, batch_index). Reads: batches, runs. Params: none.
SELECT b.run_id, b.batch_index, b.duration_ns, b.interval_ns, b.duration_ns - b.interval_ns AS overlap_ns
FROM batches AS b
INNER JOIN runs AS r USING (run_id)
WHERE b.duration_ns - b.interval_ns > COALESCE(r.clock_uncertainty_ns, 0);
