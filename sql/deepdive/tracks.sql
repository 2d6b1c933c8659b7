-- One row per thread of one trace that does work; where an anchor is named, per thread.
-- Grain: (track_id). Reads: work, the trace's events. Params: $paths, $anchor.
CREATE OR REPLACE TEMP TABLE tracks AS
SELECT process, thread, CAST(ROW_NUMBER() OVER () AS INTEGER) AS track_id
FROM (
    SELECT process, thread FROM work
    UNION
    SELECT COALESCE(process, ''), COALESCE(thread, '')
    FROM READ_PARQUET($paths)
    WHERE $anchor IS NOT NULL AND phase = 'X'
);
