-- One row per run whose events and counter samples are not as many as its trace files say were kept.
-- Grain: (run_id). Reads: files, events, counters. Params: none.
-- An event of counters makes a row a value, under one sample_index of its file. Of several files it cannot be told
-- which one a sample stands in: then the samples lie between the distinct numbers and the rows.
-- What the probe recorded stands in `events`, too, and in no trace.
WITH
kept AS (
    SELECT run_id, COUNT(*) AS trace_files, SUM(rows_kept) AS rows_kept
    FROM files
    WHERE format IN ('chrome_trace', 'csv_pair')
    GROUP BY run_id
),

samples AS (
    SELECT run_id, COUNT(DISTINCT sample_index) AS numbers, COUNT(sample_index) AS counter_rows
    FROM counters
    GROUP BY run_id
),

by_file AS (
    SELECT run_id, file_name, COUNT(*) AS event_rows
    FROM events
    GROUP BY run_id, file_name
),

there AS (
    SELECT e.run_id, SUM(e.event_rows) AS event_rows
    FROM by_file AS e
    ANTI JOIN files AS f
        ON f.run_id = e.run_id
        AND f.name = e.file_name
        AND f.format NOT IN ('chrome_trace', 'csv_pair')
    GROUP BY e.run_id
)

SELECT
    k.run_id,
    k.rows_kept,
    COALESCE(t.event_rows, 0) AS event_rows,
    COALESCE(s.numbers, 0) AS sample_numbers,
    COALESCE(s.counter_rows, 0) AS counter_rows,
    k.rows_kept - COALESCE(t.event_rows, 0) - COALESCE(s.numbers, 0) AS missing_rows
FROM kept AS k
LEFT JOIN there AS t ON t.run_id = k.run_id
LEFT JOIN samples AS s ON s.run_id = k.run_id
WHERE k.rows_kept - COALESCE(t.event_rows, 0) NOT BETWEEN COALESCE(s.numbers, 0)
    AND IF(k.trace_files = 1, COALESCE(s.numbers, 0), COALESCE(s.counter_rows, 0));
