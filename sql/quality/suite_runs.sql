-- One row per suite with the number of its runs: those of our campaigns have a bundle, recordings of others have none.
-- Grain: (suite). Reads: runs. Params: none.
SELECT IF(bundle IS NULL, 'recording', 'campaign') AS suite, COUNT(DISTINCT run_id) AS runs
FROM runs
GROUP BY ALL
ORDER BY suite;
