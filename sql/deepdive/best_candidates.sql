-- One row per candidate for an anchor, the first five of each process, for people.
-- Grain: (file_name, process, place). Reads: anchor_candidates. Params: none.
SELECT
    process,
    place,
    function_name,
    calls,
    busy_pct,
    work_pct,
    median_ns / 1e6 AS median_ms,
    time_ns / 1e6 AS time_ms,
    is_known,
    covers,
    chosen
FROM anchor_candidates
WHERE place <= 5
ORDER BY file_name, process, place;
