-- One row per step of one trace that has been told as a batch: a cycle, from its start to the end of its work.
-- Grain: (file_number, process, number). Reads: batches (of this trace alone). Params: $file_number, $file_name.
INSERT INTO spans BY NAME
SELECT
    CAST($file_number AS INTEGER) AS file_number,
    $file_name AS file_name,
    COALESCE(extra ->> '$.process', '') AS process,
    ROW_NUMBER() OVER (PARTITION BY extra ->> '$.process' ORDER BY start_ns) AS number,
    start_ns,
    start_ns + duration_ns AS end_ns,
    execute_ns AS anchor_ns,
    interval_ns,
    forward_mode,
    batch_size,
    kv_tokens,
    new_input_tokens,
    IF(source = 'step_label', 'step label', extra ->> '$.label') AS anchor_name,
    source AS anchor_source,
    extra ->> '$.label' AS label
FROM batches
WHERE duration_ns > 0;
