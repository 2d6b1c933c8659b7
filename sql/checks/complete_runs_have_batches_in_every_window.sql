-- One row per window of a complete run of ours in which not one batch ran.
-- Grain: (run_id, run_window). Reads: runs, batches, files. Params: none.
-- A run of a server that somebody else runs, whose log is not at hand, has no source of batches, and none is missed.
WITH
windows (run_window) AS (
    VALUES ('baseline'), ('fault'), ('recovery')
)

SELECT r.run_id, w.run_window
FROM runs AS r
CROSS JOIN windows AS w
ANTI JOIN batches AS b ON b.run_id = r.run_id AND b.run_window = w.run_window
WHERE r.status = 'complete'
  AND r.bundle IS NOT NULL
  AND NOT (r.attached AND NOT EXISTS (SELECT 1 FROM files AS f WHERE f.run_id = r.run_id AND f.format = 'iterations'));
