-- One row per file of which a line was lost: neither kept nor quarantined, or quarantined and not there.
-- Grain: (run_id, name). Reads: files, quarantine. Params: none.
WITH
rejected AS (
    SELECT run_id, file_name, COUNT(*) AS lines
    FROM quarantine
    GROUP BY run_id, file_name
)

SELECT f.run_id, f.name, f.rows_in, f.rows_kept, f.rows_quarantined, COALESCE(q.lines, 0) AS lines
FROM files AS f
LEFT JOIN rejected AS q ON q.run_id = f.run_id AND q.file_name = f.name
WHERE f.rows_in <> f.rows_kept + f.rows_quarantined OR f.rows_quarantined <> COALESCE(q.lines, 0);
