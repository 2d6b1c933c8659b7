-- One row: how many events of a trace have their place in `events` or `counters`.
-- Grain: one row. Reads: the files written, counters. Params: $paths.
SELECT
    (SELECT COUNT(*) FROM READ_PARQUET($paths)) + (SELECT COUNT(DISTINCT sample_index) FROM counters) AS rows_kept;
