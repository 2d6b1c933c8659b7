-- One row per call of a Python function or annotation that may delimit cycles, with the work that it starts.
-- Grain: (process, thread, plain_name, start_ns). Reads: the trace's events, functions, work.
-- Params: $paths, $file_number.
-- Of calls within a call, such as that of a class it extends, the outer one counts.
CREATE OR REPLACE TEMP TABLE calls AS
WITH
plain AS (
    SELECT plain_name, ROW_NUMBER() OVER () AS plain_id
    FROM functions
    WHERE file_number = $file_number AND kind IN ('python', 'annotation')
    GROUP BY plain_name
),

frames AS (
    SELECT
        p.plain_id,
        COALESCE(e.process, '') AS process,
        COALESCE(e.thread, '') AS thread,
        e.start_ns,
        e.start_ns + e.duration_ns AS end_ns
    FROM READ_PARQUET($paths) AS e
    INNER JOIN functions AS f ON f.category IS NOT DISTINCT FROM e.category AND f.name = e.name
    INNER JOIN plain AS p ON p.plain_name = f.plain_name
    WHERE e.phase = 'X' AND f.file_number = $file_number AND f.kind IN ('python', 'annotation')
),

outer_frames AS (
    SELECT *
    FROM frames
    QUALIFY start_ns >= COALESCE(
        MAX(end_ns) OVER (
            PARTITION BY plain_id, process, thread
            ORDER BY start_ns, end_ns DESC ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ),
        start_ns
    )
)

SELECT
    p.plain_name,
    o.process,
    o.thread,
    o.start_ns,
    o.end_ns,
    COALESCE(z.number, 0) - COALESCE(a.number, 0) AS works
FROM outer_frames AS o
INNER JOIN plain AS p ON p.plain_id = o.plain_id
ASOF LEFT JOIN work AS a ON a.process = o.process AND a.thread = o.thread AND o.start_ns > a.start_ns
ASOF LEFT JOIN work AS z ON z.process = o.process AND z.thread = o.thread AND o.end_ns > z.start_ns;
