-- One row per operator of one trace with the time that it spent itself, without the operators that it called.
-- Grain: (event_index). Reads: trace. Params: none.
-- An operator's caller is the last one on its thread that began a level higher; partly overlapping ones are cut.
CREATE OR REPLACE TEMP TABLE operator_times AS
WITH
lasting AS (
    SELECT event_index, process, thread, start_ns, end_ns
    FROM trace
    WHERE kind = 'operator' AND end_ns > start_ns
),

points AS (
    SELECT process, thread, start_ns AS at_ns, 1 AS step, -end_ns AS place, event_index, end_ns FROM lasting
    UNION ALL
    SELECT process, thread, end_ns, -1, 0, NULL, NULL FROM lasting
),

levels AS (
    SELECT
        *,
        SUM(step) OVER (
            PARTITION BY process, thread ORDER BY at_ns, step, place ROWS UNBOUNDED PRECEDING
        ) AS level
    FROM points
),

opened AS (
    SELECT event_index, process, thread, level, at_ns AS start_ns, end_ns
    FROM levels
    WHERE step = 1
),

called AS (
    SELECT o.event_index, SUM(LEAST(c.end_ns, o.end_ns) - c.start_ns) AS within_ns
    FROM opened AS c
    ASOF INNER JOIN opened AS o
        ON o.process = c.process AND o.thread = c.thread AND o.level = c.level - 1 AND o.start_ns <= c.start_ns
    WHERE o.end_ns > c.start_ns
    GROUP BY o.event_index
)

SELECT
    o.event_index,
    CAST(GREATEST(o.end_ns - o.start_ns - COALESCE(c.within_ns, 0), 0) AS BIGINT) AS spent_ns
FROM opened AS o
LEFT JOIN called AS c ON c.event_index = o.event_index;
