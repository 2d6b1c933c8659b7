-- One row per trace, the one that is being loaded: how many events have their place in `events` or `counters`.
-- Grain: (rows_kept). Reads: the files written, counters. Params: $paths.
SELECT
    (SELECT COUNT(*) FROM READ_PARQUET($paths)) + (SELECT COUNT(DISTINCT sample_index) FROM counters) AS rows_kept;
