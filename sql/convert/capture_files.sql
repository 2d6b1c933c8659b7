-- One row per capture, the one that is being loaded: what its traces hold.
-- Grain: (capture_name). Reads: captures, files. Params: $capture_name, $iterations, $last_ns.
-- last_ns is where the last event of its traces ends.
UPDATE captures SET
    iterations = CAST($iterations AS BIGINT),
    stalled_ns = IF(profiler = 'torch', GREATEST(end_ns - CAST($last_ns AS BIGINT), 0), NULL),
    events = (SELECT SUM(f.rows_kept) FROM files AS f WHERE LIST_CONTAINS(CAST(captures.files AS VARCHAR[]), f.name)),
    size_bytes = (
        SELECT SUM(f.size_bytes) FROM files AS f WHERE LIST_CONTAINS(CAST(captures.files AS VARCHAR[]), f.name)
    )
WHERE capture_name = $capture_name;
