-- One row per call of a function that does work, calls within a call of the same left out.
-- Grain: (process, thread, plain_name, start_ns). Reads: counted_calls, functions, tracks. Params: $file_number.
-- tasks/deepdive/calls.py makes counted_calls.
CREATE OR REPLACE TEMP TABLE calls AS
SELECT d.plain_name, t.process, t.thread, c.start_ns, c.end_ns, c.works
FROM counted_calls AS c
INNER JOIN tracks AS t ON t.track_id = c.track_id
INNER JOIN (
    SELECT plain_name, CAST(DENSE_RANK() OVER (ORDER BY plain_name) AS INTEGER) AS plain_id
    FROM (
        SELECT DISTINCT plain_name
        FROM functions
        WHERE file_number = $file_number AND kind IN ('python', 'annotation')
    )
) AS d ON d.plain_id = c.plain_id;
