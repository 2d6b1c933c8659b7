-- One row per GPU event that names its launch by correlation.
-- Grain: (event_index). Reads: trace_rows. Params: none.
INSERT INTO events BY NAME
SELECT
    run_id, file_name, event_index, phase, category, name, process, pid, thread, tid, start_ns, duration_ns, flow_id,
    args, extra, correlation, external_id, device, stream, source_file, source_line, python_id, python_parent_id
FROM trace_rows
WHERE reason IS NULL AND is_gpu_work AND correlation IS NOT NULL AND phase <> 'C';
