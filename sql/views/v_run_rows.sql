-- One row per run and run-bound table, with the rows that the run has there.
-- Grain: (run_id, table_name). Reads: runs, files, batches, counters. Params: none.
CREATE VIEW v_run_rows AS
WITH
counted AS (
    SELECT run_id, 'runs' AS table_name, COUNT(*) AS row_count FROM runs GROUP BY run_id
    UNION ALL
    SELECT run_id, 'files', COUNT(*) FROM files GROUP BY run_id
    UNION ALL
    SELECT run_id, 'batches', COUNT(*) FROM batches GROUP BY run_id
    UNION ALL
    SELECT run_id, 'counters', COUNT(*) FROM counters GROUP BY run_id
),

tables (table_name) AS (
    VALUES ('runs'), ('files'), ('batches'), ('counters')
)

SELECT r.run_id, t.table_name, COALESCE(c.row_count, 0) AS row_count
FROM (SELECT DISTINCT run_id FROM runs) AS r
CROSS JOIN tables AS t
LEFT JOIN counted AS c USING (run_id, table_name)
ORDER BY r.run_id, t.table_name;
COMMENT ON VIEW v_run_rows IS 'How many rows a run has in a table.';
COMMENT ON COLUMN v_run_rows.run_id IS 'key of runs';
COMMENT ON COLUMN v_run_rows.table_name IS 'runs, files, batches or counters';
COMMENT ON COLUMN v_run_rows.row_count IS 'its rows there; 0 when it has none';
