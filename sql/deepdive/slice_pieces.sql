-- One row per part of a slice of the scheduler that lies in a cycle of its process: slices are cut at the boundaries.
-- Grain: (file_number, process, number, lane, start_ns). Reads: trace, spans, scheduler_slices, processes, functions.
-- Params: $file_number.
-- Slices stand in the trace of the published profiler, or were recorded beside ours.
INSERT INTO pieces BY NAME
WITH
slices AS (
    SELECT process, function_class, function_id, start_ns, end_ns, thread AS lane
    FROM trace
    WHERE kind = 'slice'
    UNION ALL
    SELECT p.process, s.kind, -IF(s.kind = 'oncpu', 1, 2), s.start_ns, s.start_ns + s.duration_ns, 'CPU ' || s.cpu
    FROM scheduler_slices AS s
    INNER JOIN processes AS p ON p.pid = s.pid
    WHERE p.file_number = $file_number
      AND s.kind IN ('oncpu', 'runq')
      AND NOT EXISTS (FROM trace AS t WHERE t.kind = 'slice')
)

SELECT
    CAST($file_number AS INTEGER) AS file_number,
    c.process,
    c.number,
    s.function_id,
    s.function_class,
    'Host' AS device,
    GREATEST(s.start_ns, c.start_ns) AS start_ns,
    LEAST(s.end_ns, c.end_ns) AS end_ns,
    LEAST(s.end_ns, c.end_ns) - GREATEST(s.start_ns, c.start_ns) AS spent_ns,
    s.lane
FROM slices AS s
INNER JOIN spans AS c ON c.process = s.process AND s.start_ns < c.end_ns AND s.end_ns > c.start_ns
WHERE c.file_number = $file_number;
