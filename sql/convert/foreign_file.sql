-- One row per file of a foreign recording, with what became of its rows.
-- Grain: (run_id, name). Reads: quarantine, runs (the one that is being loaded).
-- Params: $name, $format, $size_bytes, $sha256, $rows_in, $rows_kept, $head.
-- rows_in was counted while reading and rows_kept by the SQL that converted the rows: they must add up.
INSERT INTO files BY NAME
SELECT
    $sha256 AS sha256,
    run_id,
    campaign,
    $name AS name,
    $format AS format,
    CAST($size_bytes AS BIGINT) AS size_bytes,
    CAST($rows_in AS BIGINT) AS rows_in,
    CAST($rows_kept AS BIGINT) AS rows_kept,
    (SELECT COUNT(*) FROM quarantine WHERE file_name = $name) AS rows_quarantined,
    CAST($head AS JSON) AS head
FROM runs;
