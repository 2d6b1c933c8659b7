-- One row per table that has not as many rows as a foreign recording gave it: the load must not go on.
-- Grain: (table_name). Reads: foreign_lines, batches, requests, events, counters. Params: none.
WITH
kept AS (
    SELECT table_name, SUM(table_rows) AS rows_kept
    FROM foreign_lines
    WHERE reason IS NULL AND table_name IS NOT NULL
    GROUP BY table_name
),

there AS (
    SELECT 'batches' AS table_name, COUNT(*) AS rows_there FROM batches
    UNION ALL
    SELECT 'requests', COUNT(*) FROM requests
    UNION ALL
    SELECT 'events', COUNT(*) FROM events
    UNION ALL
    SELECT 'counters', COUNT(*) FROM counters
)

SELECT t.table_name, COALESCE(k.rows_kept, 0) AS rows_kept, t.rows_there
FROM there AS t
LEFT JOIN kept AS k USING (table_name)
WHERE t.rows_there <> COALESCE(k.rows_kept, 0);
