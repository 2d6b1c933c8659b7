-- One row per function of one trace that may delimit cycles, the best of each process first.
-- Grain: (process, function_name). Reads: calls, work, functions. Params: $file_number, $anchor.
-- A step does all the work, again and again: work is launches of GPU work, else operators, and what does less than a
-- quarter of its process's is no step. A candidate covers when it
-- does nearly as much of its process's work as any; it is busy when most of its calls do work. Among those the engines'
-- own step functions come first, then the program's own before that of libraries, then what takes most time, that is,
-- the outermost: layers lie within steps. What only waits is no candidate, unless it is named. $anchor is a name, its
-- end after a dot, slash or colon, or NULL.
CREATE OR REPLACE TEMP TABLE candidates AS
WITH
totals AS (
    SELECT process, COUNT(*) AS works FROM work GROUP BY process
),

about AS (
    SELECT
        plain_name,
        BOOL_OR(is_waiting) AS is_waiting,
        BOOL_OR(is_step) AS is_step,
        BOOL_OR(is_plumbing) AS is_plumbing,
        MAX(kind) AS kind
    FROM functions
    WHERE file_number = $file_number AND kind IN ('python', 'annotation')
    GROUP BY plain_name
),

counted AS (
    SELECT
        c.process,
        c.plain_name AS function_name,
        COUNT(*) AS calls,
        COUNT(*) FILTER (WHERE c.works > 0) AS busy_calls,
        SUM(c.works) AS works,
        SUM(c.end_ns - c.start_ns) AS time_ns,
        CAST(MEDIAN(c.end_ns - c.start_ns) FILTER (WHERE c.works > 0) AS BIGINT) AS median_ns
    FROM calls AS c
    WHERE $anchor IS NULL
        OR c.plain_name = $anchor
        OR SUFFIX(c.plain_name, '.' || $anchor)
        OR SUFFIX(c.plain_name, '/' || $anchor)
        OR SUFFIX(c.plain_name, ': ' || $anchor)
    GROUP BY c.process, c.plain_name
    HAVING COUNT(*) FILTER (WHERE c.works > 0) > 1 OR $anchor IS NOT NULL
),

measured AS (
    SELECT
        c.*,
        a.kind,
        a.is_step,
        a.is_waiting,
        a.is_plumbing,
        100.0 * c.works / t.works AS work_pct,
        100.0 * c.busy_calls / c.calls AS busy_pct,
        MAX(c.works) FILTER (WHERE NOT a.is_waiting) OVER (PARTITION BY c.process) AS most_works
    FROM counted AS c
    INNER JOIN about AS a ON a.plain_name = c.function_name
    LEFT JOIN totals AS t ON t.process = c.process
),

judged AS (
    SELECT
        *,
        COALESCE(works >= 0.98 * most_works, FALSE) AS covers,
        is_step AND COALESCE(works >= 0.5 * most_works, FALSE) AS is_known
    FROM measured
    WHERE NOT is_waiting OR $anchor IS NOT NULL
)

SELECT
    process,
    ROW_NUMBER() OVER (
        PARTITION BY process
        ORDER BY is_known DESC, covers DESC, busy_pct >= 50 DESC, is_plumbing, time_ns DESC, calls DESC, function_name
    ) AS rank,
    function_name,
    kind,
    calls,
    busy_calls,
    busy_pct,
    works,
    work_pct,
    time_ns,
    median_ns,
    is_known,
    covers
FROM judged
WHERE $anchor IS NOT NULL OR (works >= 0.5 * most_works AND work_pct >= 25);
