-- One row per file whose rows do not add up: the load must not go on.
-- Grain: (name). Reads: files, quarantine. Params: none.
WITH
rejected AS (
    SELECT file_name, COUNT(*) AS rows_there
    FROM quarantine
    GROUP BY file_name
)

SELECT
    f.name,
    CONCAT(
        f.rows_in, ' rows read, ', f.rows_kept, ' kept, ', f.rows_quarantined, ' quarantined, ',
        COALESCE(r.rows_there, 0), ' in quarantine'
    ) AS account
FROM files AS f
LEFT JOIN rejected AS r ON r.file_name = f.name
WHERE f.rows_in <> f.rows_kept + f.rows_quarantined OR f.rows_quarantined <> COALESCE(r.rows_there, 0);
