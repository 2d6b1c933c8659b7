-- One row per event of one trace that usage or ownership asks for, its name replaced by a number.
-- Grain: (event_index). Reads: the trace's events, functions. Params: $paths, $file_number, $kinds.
-- Python functions are the most of a trace, and are taken only where they are asked for.
CREATE OR REPLACE TEMP TABLE trace AS
SELECT
    e.event_index,
    f.function_id,
    f.kind,
    f.function_class,
    COALESCE(e.process, '') AS process,
    COALESCE(e.thread, '') AS thread,
    e.start_ns,
    e.start_ns + e.duration_ns AS end_ns,
    e.launch_index,
    CASE
        WHEN f.kind = 'gpu' THEN COALESCE(
            'GPU ' || COALESCE(
                e.device,
                TRY_CAST(REGEXP_EXTRACT(e.thread, 'device:([0-9]+)', 1) AS BIGINT),
                TRY_CAST(e.process AS BIGINT)
            ),
            'GPU'
        )
        ELSE 'Host'
    END AS device,
    IF(f.kind = 'gpu', COALESCE(e.thread, ''), NULL) AS stream
FROM READ_PARQUET($paths) AS e
INNER JOIN functions AS f ON f.category IS NOT DISTINCT FROM e.category AND f.name = e.name
WHERE e.phase = 'X' AND f.file_number = $file_number AND LIST_CONTAINS(CAST($kinds AS VARCHAR[]), f.kind);
