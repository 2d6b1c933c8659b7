-- One row per event of a file of a trace, with its time on the clock that the run goes by.
-- Grain: (event_index). Reads: the file at $source. Params: $source, $path, $shift_ns.
COPY (
    SELECT * REPLACE (start_ns + CAST($shift_ns AS BIGINT) AS start_ns)
    FROM READ_PARQUET($source)
) TO $path (FORMAT PARQUET, COMPRESSION ZSTD, COMPRESSION_LEVEL 1, ROW_GROUP_SIZE 131072);
