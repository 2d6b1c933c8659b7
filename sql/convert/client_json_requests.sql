-- One row per request that a load client sent.
-- Grain: (run_id, client_run_index, request_index).
-- Reads: foreign_lines, runs (the one that is being loaded). Params: none.
-- It failed where the client says an error, or saw neither a first token nor an end. Where the client writes no end, it
-- is that of the last token. Milliseconds are rounded to the ns.
INSERT INTO requests BY NAME
WITH
judged AS (
    SELECT
        *,
        CASE
            WHEN error <> '' THEN 'failed'
            WHEN ttft_s IS NULL AND e2e_s IS NULL THEN 'failed'
            WHEN ttft_s IS NULL AND output_tokens = 0 THEN 'failed'
            WHEN error = '' THEN 'completed'
        END AS status
    FROM foreign_lines
    WHERE table_name = 'requests' AND reason IS NULL
)

SELECT
    r.run_id,
    q.client_run_index,
    q.request_index,
    q.start_monotonic_ns,
    q.status,
    NULLIF(q.error, '') AS error,
    q.input_tokens,
    q.output_tokens,
    ROUND(q.queue_s * 1000, 6) AS queue_ms,
    ROUND(q.ttft_s * 1000, 6) AS ttft_ms,
    LEN(q.itl_s) AS itl_count,
    ROUND(LIST_AVG(q.itl_s) * 1000, 6) AS itl_avg_ms,
    ROUND(LIST_MAX(q.itl_s) * 1000, 6) AS itl_max_ms,
    TO_JSON(LIST_TRANSFORM(q.itl_s, LAMBDA s: ROUND(s * 1000, 6))) AS itl_ms_values,
    CASE
        WHEN q.status IS DISTINCT FROM 'failed'
            THEN ROUND(COALESCE(q.e2e_s, q.ttft_s + COALESCE(LIST_SUM(q.itl_s), 0)) * 1000, 6)
    END AS e2e_ms,
    q.source
FROM judged AS q
CROSS JOIN runs AS r
ORDER BY q.client_run_index, q.request_index;
