-- One row per file, or kind of file, whose rows do not add up: the load must not go on.
-- Grain: (name). Reads: files, recorder_lines, batches, counters. Params: none.
-- Of a file, every line must be kept or quarantined; of a kind, every kept record must have become its rows.
WITH
records AS (
    SELECT
        COUNT(*) FILTER (WHERE kind = 'batch') AS batches,
        COALESCE(SUM(JSON_ARRAY_LENGTH(document, '$.values')) FILTER (WHERE kind = 'sample'), 0) AS counters
    FROM recorder_lines
    WHERE reason IS NULL
)

SELECT
    name,
    CONCAT(rows_in, ' lines read, ', rows_kept, ' kept and ', rows_quarantined, ' quarantined') AS account
FROM files
WHERE rows_in <> rows_kept + rows_quarantined
UNION ALL
SELECT 'batches', CONCAT(batches, ' records, ', (SELECT COUNT(*) FROM batches), ' rows')
FROM records
WHERE batches <> (SELECT COUNT(*) FROM batches)
UNION ALL
SELECT 'counters', CONCAT(counters, ' values, ', (SELECT COUNT(*) FROM counters), ' rows')
FROM records
WHERE counters <> (SELECT COUNT(*) FROM counters);
