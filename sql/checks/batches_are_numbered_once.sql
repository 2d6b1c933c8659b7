-- One row per number that two batches of a run have.
-- Grain: (run_id, batch_index). Reads: batches. Params: none.
SELECT run_id, batch_index, COUNT(*) AS batches
FROM batches
GROUP BY run_id, batch_index
HAVING COUNT(*) > 1;
