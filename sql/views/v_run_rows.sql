-- One row per run and run-bound table, with the rows that the run has there.
-- Grain: (run_id, table_name).
-- Reads: runs, files, quarantine, events, counters, batches, captures, requests, engine_metrics, scheduler_slices,
-- function_usage, devices, hosts, published_comparison, published_curves, batch_scores, incidents, rca_diagnosis,
-- excluded_batches, anchor_candidates, cycles, communicator_peers, phases, rca_comparison,
-- rca_evaluation.
-- Params: none.
CREATE VIEW v_run_rows AS
WITH
counted AS (
    SELECT run_id, 'runs' AS table_name, COUNT(*) AS row_count FROM runs GROUP BY run_id
    UNION ALL
    SELECT run_id, 'files', COUNT(*) FROM files GROUP BY run_id
    UNION ALL
    SELECT run_id, 'quarantine', COUNT(*) FROM quarantine GROUP BY run_id
    UNION ALL
    SELECT run_id, 'events', COUNT(*) FROM events GROUP BY run_id
    UNION ALL
    SELECT run_id, 'counters', COUNT(*) FROM counters GROUP BY run_id
    UNION ALL
    SELECT run_id, 'batches', COUNT(*) FROM batches GROUP BY run_id
    UNION ALL
    SELECT run_id, 'captures', COUNT(*) FROM captures GROUP BY run_id
    UNION ALL
    SELECT run_id, 'requests', COUNT(*) FROM requests GROUP BY run_id
    UNION ALL
    SELECT run_id, 'engine_metrics', COUNT(*) FROM engine_metrics GROUP BY run_id
    UNION ALL
    SELECT run_id, 'scheduler_slices', COUNT(*) FROM scheduler_slices GROUP BY run_id
    UNION ALL
    SELECT run_id, 'function_usage', COUNT(*) FROM function_usage GROUP BY run_id
    UNION ALL
    SELECT run_id, 'devices', COUNT(*) FROM devices GROUP BY run_id
    UNION ALL
    SELECT run_id, 'hosts', COUNT(*) FROM hosts GROUP BY run_id
    UNION ALL
    SELECT run_id, 'published_comparison', COUNT(*) FROM published_comparison GROUP BY run_id
    UNION ALL
    SELECT run_id, 'published_curves', COUNT(*) FROM published_curves GROUP BY run_id
    UNION ALL
    SELECT run_id, 'batch_scores', COUNT(*) FROM batch_scores GROUP BY run_id
    UNION ALL
    SELECT run_id, 'incidents', COUNT(*) FROM incidents GROUP BY run_id
    UNION ALL
    SELECT run_id, 'rca_diagnosis', COUNT(*) FROM rca_diagnosis GROUP BY run_id
    UNION ALL
    SELECT run_id, 'excluded_batches', COUNT(*) FROM excluded_batches GROUP BY run_id
    UNION ALL
    SELECT run_id, 'anchor_candidates', COUNT(*) FROM anchor_candidates GROUP BY run_id
    UNION ALL
    SELECT run_id, 'cycles', COUNT(*) FROM cycles GROUP BY run_id
    UNION ALL
    SELECT run_id, 'communicator_peers', COUNT(*) FROM communicator_peers GROUP BY run_id
    UNION ALL
    SELECT run_id, 'phases', COUNT(*) FROM phases GROUP BY run_id
    UNION ALL
    SELECT run_id, 'rca_comparison', COUNT(*) FROM rca_comparison GROUP BY run_id
    UNION ALL
    SELECT run_id, 'rca_evaluation', COUNT(*) FROM rca_evaluation GROUP BY run_id
),

tables (table_name) AS (
    VALUES
    ('runs'), ('files'), ('quarantine'), ('events'), ('counters'), ('batches'), ('requests'), ('engine_metrics'),
    ('function_usage'), ('devices'), ('hosts'), ('published_comparison'), ('published_curves'), ('batch_scores'),
    ('incidents'), ('rca_diagnosis'), ('excluded_batches'), ('captures'), ('scheduler_slices'),
    ('anchor_candidates'), ('cycles'), ('communicator_peers'), ('phases'),
    ('rca_comparison'), ('rca_evaluation')
)

SELECT r.run_id, t.table_name, COALESCE(c.row_count, 0) AS row_count
FROM (SELECT DISTINCT run_id FROM runs) AS r
CROSS JOIN tables AS t
LEFT JOIN counted AS c ON c.run_id = r.run_id AND c.table_name = t.table_name
ORDER BY r.run_id, t.table_name;
COMMENT ON VIEW v_run_rows IS 'How many rows a run has in a table.';
COMMENT ON COLUMN v_run_rows.run_id IS 'key of runs';
COMMENT ON COLUMN v_run_rows.table_name IS 'any table that has a run_id';
COMMENT ON COLUMN v_run_rows.row_count IS 'its rows there; 0 when it has none';
