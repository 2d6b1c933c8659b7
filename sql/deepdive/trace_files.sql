-- One row per trace of a run, with the Parquet files that hold its events.
-- Grain: (file_name). Reads: the run's events. Params: $paths.
-- What the probe recorded is in `events` too, and is no trace.
SELECT
    file_name,
    LIST(DISTINCT filename) FILTER (WHERE phase = 'X') AS paths,
    COUNT(*) FILTER (WHERE phase = 's') AS flow_starts,
    COUNT(*) FILTER (WHERE phase = 'f') AS flow_ends
FROM READ_PARQUET($paths, filename = TRUE, hive_partitioning = FALSE)
WHERE phase IN ('X', 's', 'f') AND category IS DISTINCT FROM 'probe'
GROUP BY file_name
HAVING COUNT(*) FILTER (WHERE phase = 'X') > 0
ORDER BY file_name;
