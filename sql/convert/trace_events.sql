-- One row per event of the piece, in a Parquet file of its own; GPU work waits for its launch in `events`.
-- Grain: (event_index). Reads: trace_rows. Params: $path.
COPY (
    SELECT
        run_id, file_name, event_index, phase, category, name, process, pid, thread, tid, start_ns, duration_ns,
        flow_id, args, extra, correlation, external_id, device, stream, source_file, source_line, python_id,
        python_parent_id, CAST(NULL AS BIGINT) AS launch_index
    FROM trace_rows
    WHERE reason IS NULL AND phase <> 'C' AND NOT COALESCE(is_gpu_work AND correlation IS NOT NULL, FALSE)
) TO $path (FORMAT PARQUET, COMPRESSION ZSTD, COMPRESSION_LEVEL 1, PARQUET_VERSION V2, ROW_GROUP_SIZE 131072);
