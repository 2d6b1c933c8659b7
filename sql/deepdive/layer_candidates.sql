-- One row per function of one trace that may be a layer: called several times in one step, one call after the other.
-- Grain: (process, function_name). Reads: calls, steps, functions. Params: $file_number, $anchor.
-- Layers share a step's work among them, each about as much. Among those that do nearly as much of it as any, a module
-- of the model comes first, then what takes most time. Steps that replay graphs show no layers, and are left out.
CREATE OR REPLACE TEMP TABLE candidates AS
WITH
stepped AS (
    SELECT c.*, s.start_ns AS step_ns, s.execute_ns
    FROM calls AS c
    ASOF INNER JOIN steps AS s ON s.process = c.process AND s.start_ns <= c.start_ns
    WHERE c.end_ns <= s.start_ns + s.execute_ns
),

usual AS (
    SELECT process, plain_name, step_ns, COUNT(*) AS calls, MEDIAN(works) AS works
    FROM stepped
    WHERE works > 0
    GROUP BY process, plain_name, step_ns
),

alike AS (
    SELECT
        u.process, u.plain_name, u.step_ns, u.calls,
        COUNT(*) FILTER (WHERE s.works BETWEEN 0.5 * u.works AND 2 * u.works) AS alike
    FROM usual AS u
    INNER JOIN stepped AS s ON s.process = u.process AND s.plain_name = u.plain_name AND s.step_ns = u.step_ns
    WHERE s.works > 0
    GROUP BY u.process, u.plain_name, u.step_ns, u.calls
),

repeated AS (
    SELECT process, plain_name
    FROM alike
    GROUP BY process, plain_name
    HAVING MEDIAN(calls) >= 3 AND MIN(calls) * 2 >= MAX(calls) AND SUM(alike) >= 0.8 * SUM(calls)
),

about AS (
    SELECT plain_name, BOOL_OR(is_waiting) AS is_waiting, MAX(kind) AS kind
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
    FROM stepped AS c
    INNER JOIN repeated AS r ON r.process = c.process AND r.plain_name = c.plain_name
    WHERE $anchor IS NULL
        OR c.plain_name = $anchor
        OR SUFFIX(c.plain_name, '.' || $anchor)
        OR SUFFIX(c.plain_name, '/' || $anchor)
        OR SUFFIX(c.plain_name, ': ' || $anchor)
    GROUP BY c.process, c.plain_name
),

judged AS (
    SELECT
        c.*,
        a.kind,
        STARTS_WITH(c.function_name, 'nn.Module: ') AND c.function_name ILIKE '%layer%' AS is_known,
        100.0 * c.busy_calls / c.calls AS busy_pct,
        100.0 * c.works / (SELECT COUNT(*) FROM work AS w WHERE w.process = c.process) AS work_pct,
        c.works >= 0.9 * MAX(c.works) OVER (PARTITION BY c.process) AS covers
    FROM counted AS c
    INNER JOIN about AS a ON a.plain_name = c.function_name
    WHERE NOT a.is_waiting AND c.busy_calls * 2 >= c.calls
)

SELECT
    process,
    ROW_NUMBER() OVER (
        PARTITION BY process ORDER BY covers DESC, is_known DESC, time_ns DESC, calls DESC, function_name
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
FROM judged;
