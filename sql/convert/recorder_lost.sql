-- One row per kind of record of a bundle that did not become the rows it should: the load must not go on.
-- Grain: (name). Reads: recorder_lines, batches, counters, events. Params: none.
WITH
records AS (
    SELECT
        COUNT(*) FILTER (WHERE kind = 'batch') AS batches,
        COUNT(*) FILTER (WHERE kind = 'call') AS calls,
        COALESCE(SUM(JSON_ARRAY_LENGTH(document, '$.values')) FILTER (WHERE kind = 'sample'), 0) AS counters
    FROM recorder_lines
    WHERE reason IS NULL
)

SELECT 'batches' AS name, CONCAT(batches, ' records, ', (SELECT COUNT(*) FROM batches), ' rows') AS account
FROM records
WHERE batches <> (SELECT COUNT(*) FROM batches)
UNION ALL
SELECT 'counters', CONCAT(counters, ' values, ', (SELECT COUNT(*) FROM counters), ' rows')
FROM records
WHERE counters <> (SELECT COUNT(*) FROM counters)
UNION ALL
SELECT 'calls', CONCAT(calls, ' records, ', (SELECT COUNT(*) FROM events WHERE category = 'probe'), ' rows')
FROM records
WHERE calls <> (SELECT COUNT(*) FROM events WHERE category = 'probe');
