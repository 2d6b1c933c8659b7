-- One row per run and check of its suite: rows that break it, and rows of the table that it looks at.
-- Grain: (run_id, expectation). Reads: runs, v_run_rows, expectations (the checks of each suite), broken_runs.
-- Params: none.
-- Rows of a run that is not there have no suite, and make one row too many.
WITH
suites AS (
    SELECT run_id, IF(BOOL_OR(bundle IS NOT NULL), 'campaign', 'recording') AS suite
    FROM runs
    GROUP BY run_id
),

judged AS (
    SELECT s.suite, s.run_id, e.expectation, t.row_count AS total
    FROM suites AS s
    INNER JOIN expectations AS e ON e.suite = s.suite
    INNER JOIN v_run_rows AS t ON t.run_id = s.run_id AND t.table_name = e.table_name
)

SELECT
    j.suite,
    COALESCE(j.run_id, b.run_id) AS run_id,
    COALESCE(j.expectation, b.expectation) AS expectation,
    COALESCE(b.offending, 0) AS offending,
    COALESCE(j.total, 0) AS total,
    b.min_value,
    b.max_value,
    CAST(b.sample AS VARCHAR) AS sample
FROM judged AS j
FULL JOIN broken_runs AS b ON b.run_id = j.run_id AND b.expectation = j.expectation
WHERE j.run_id IS NOT NULL OR b.run_id NOT IN (SELECT run_id FROM runs)
ORDER BY ALL;
