-- One row per call of a function that the user had the probe record: an event of category probe.
-- Grain: (run_id, file_name, event_index). Reads: recorder_lines, runs (the one that is being loaded). Params: none.
INSERT INTO events BY NAME
SELECT
    r.run_id,
    l.file_name,
    l.line_number - 1 AS event_index,
    'X' AS phase,
    'probe' AS category,
    l.document ->> '$.point' AS name,
    l.document ->> '$.pid' AS process,
    CAST(l.document -> '$.pid' AS BIGINT) AS pid,
    l.document ->> '$.tid' AS thread,
    CAST(l.document -> '$.tid' AS BIGINT) AS tid,
    CAST(l.document -> '$.start_mono_ns' AS BIGINT) + l.offset_ns AS start_ns,
    CAST(l.document -> '$.duration_ns' AS BIGINT) AS duration_ns,
    l.document -> '$.attributes' AS args,
    IF(l.document ->> '$.raised' IS NULL, NULL, JSON_OBJECT('raised', l.document ->> '$.raised')) AS extra
FROM recorder_lines AS l
CROSS JOIN runs AS r
WHERE l.format = 'batches' AND l.kind = 'call' AND l.reason IS NULL
ORDER BY l.file_name, l.line_number;
