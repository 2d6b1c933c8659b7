-- One row per event of the files in $paths, each in a folder run_id=<run>: a question about a run opens no other file.
-- Grain: (run_id, file_name, event_index). Reads: the files. Params: $paths.
SELECT *
FROM READ_PARQUET($paths, hive_partitioning = true, hive_types_autocast = false);
