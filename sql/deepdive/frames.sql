-- One row per call of a Python function or annotation of one trace, names and threads replaced by numbers.
-- Grain: (plain_id, track_id, start_ns). Reads: the trace's events, functions, tracks.
-- Params: $paths, $file_number, $anchor.
SELECT
    d.plain_id,
    t.track_id,
    e.start_ns,
    e.start_ns + e.duration_ns AS end_ns
FROM READ_PARQUET($paths) AS e
INNER JOIN (
    SELECT category, name, plain_name, CAST(DENSE_RANK() OVER (ORDER BY plain_name) AS INTEGER) AS plain_id
    FROM functions
    WHERE file_number = $file_number AND kind IN ('python', 'annotation')
) AS d ON d.category = e.category AND d.name = e.name
INNER JOIN tracks AS t ON t.process = COALESCE(e.process, '') AND t.thread = COALESCE(e.thread, '')
WHERE e.phase = 'X'
  AND (
    $anchor IS NULL
    OR d.plain_name = $anchor
    OR SUFFIX(d.plain_name, '.' || $anchor)
    OR SUFFIX(d.plain_name, '/' || $anchor)
    OR SUFFIX(d.plain_name, ': ' || $anchor)
  );
