-- One row per file of the bundle, with what became of its lines.
-- Grain: (run_id, name). Reads: recorder_lines, quarantine, runs (the one that is being loaded).
-- Params: $name, $format, $size_bytes, $sha256, $rows_in.
-- rows_in was counted while reading, kept and quarantined lines are counted here: they must add up.
INSERT INTO files BY NAME
SELECT
    $sha256 AS sha256,
    run_id,
    campaign,
    $name AS name,
    $format AS format,
    $size_bytes AS size_bytes,
    $rows_in AS rows_in,
    (SELECT COUNT(*) FROM recorder_lines WHERE file_name = $name AND reason IS NULL) AS rows_kept,
    (SELECT COUNT(*) FROM quarantine WHERE file_name = $name) AS rows_quarantined
FROM runs;
