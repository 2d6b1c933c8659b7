-- One row per run_id that two runs have.
-- Grain: (run_id). Reads: runs. Params: none.
SELECT run_id, COUNT(*) AS runs
FROM runs
GROUP BY run_id
HAVING COUNT(*) > 1;
