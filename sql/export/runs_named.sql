-- One row per run that a person may mean: by its run_id, or by its name to the end or up to a slash.
-- Grain: (run_id). Reads: runs. Params: $name.
SELECT run_id, run_name, repetition
FROM runs
WHERE run_id = $name OR run_name = $name OR STARTS_WITH(run_name, $name || '/')
ORDER BY run_order, run_id;
