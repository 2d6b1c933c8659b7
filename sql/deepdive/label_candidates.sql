-- One row per process of one trace that has step labels: these delimit its cycles, and nothing else is looked at.
-- Grain: (process). Reads: steps. Params: none.
CREATE OR REPLACE TEMP TABLE candidates AS
SELECT
    process,
    1 AS rank,
    'step label' AS function_name,
    'label' AS kind,
    COUNT(*) AS calls,
    COUNT(*) FILTER (WHERE forward_mode IS DISTINCT FROM 'idle') AS busy_calls,
    100.0 * COUNT(*) FILTER (WHERE forward_mode IS DISTINCT FROM 'idle') / COUNT(*) AS busy_pct,
    CAST(NULL AS BIGINT) AS works,
    CAST(NULL AS DOUBLE) AS work_pct,
    SUM(execute_ns) AS time_ns,
    CAST(MEDIAN(execute_ns) FILTER (WHERE forward_mode IS DISTINCT FROM 'idle') AS BIGINT) AS median_ns,
    TRUE AS is_known,
    TRUE AS covers
FROM steps
GROUP BY process;
