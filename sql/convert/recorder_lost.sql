-- One row per kind of record of a bundle that did not become the rows it should: the load must not go on.
-- Grain: (name). Reads: recorder_lines, batches, counters, engine_metrics, scheduler_slices, events. Params: none.
WITH
records AS (
    SELECT
        COUNT(*) FILTER (WHERE kind IN ('batch', 'iteration')) AS batches,
        COUNT(*) FILTER (WHERE kind = 'call') AS calls,
        COALESCE(SUM(JSON_ARRAY_LENGTH(document, '$.values')) FILTER (WHERE kind = 'sample'), 0) AS counters,
        COUNT(*) FILTER (WHERE kind IN ('scrape', 'gap')) + COALESCE(SUM(LEN(LIST_FILTER(
            STRING_SPLIT(document ->> '$.text', CHR(10)), LAMBDA v: v <> '' AND NOT STARTS_WITH(v, '#')
        ))) FILTER (WHERE kind = 'scrape'), 0) AS engine_metrics,
        COUNT(*) FILTER (WHERE kind = 'lost') + COALESCE(SUM(
            JSON_ARRAY_LENGTH(document, '$.values')
        ) FILTER (WHERE kind = 'slices'), 0) AS slices
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
SELECT 'engine_metrics', CONCAT(engine_metrics, ' numbers, ', (SELECT COUNT(*) FROM engine_metrics), ' rows')
FROM records
WHERE engine_metrics <> (SELECT COUNT(*) FROM engine_metrics)
UNION ALL
SELECT 'scheduler_slices', CONCAT(slices, ' slices, ', (SELECT COUNT(*) FROM scheduler_slices), ' rows')
FROM records
WHERE slices <> (SELECT COUNT(*) FROM scheduler_slices)
UNION ALL
SELECT 'calls', CONCAT(calls, ' records, ', (SELECT COUNT(*) FROM events WHERE category = 'probe'), ' rows')
FROM records
WHERE calls <> (SELECT COUNT(*) FROM events WHERE category = 'probe');
