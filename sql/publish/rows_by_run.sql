-- One row per run in a file of the lake, with the number of its rows there.
-- Grain: (run_id). Reads: lake_file. Params: none.
SELECT run_id, COUNT(*) AS row_count
FROM lake_file
GROUP BY run_id;
