-- One row per iteration that was seen in the log of a server that somebody else runs.
-- Grain: (run_id, batch_index). Reads: recorder_lines, batches, runs (the one being loaded). Params: none.
-- A step has ended when its line is seen; of lines that were seen at one look each ends where the next one begins. What
-- the line does not tell, such as lengths, is NULL, and so is the interval: lines come late.
INSERT INTO batches BY NAME
WITH
seen AS (
    SELECT
        file_name,
        line_number,
        CAST(document -> '$.mono_ns' AS BIGINT) + offset_ns AS seen_ns,
        CAST(document -> '$.elapsed_ns' AS BIGINT) AS duration_ns,
        CAST(document -> '$.rank' AS BIGINT) AS rank,
        CAST(document -> '$.iteration' AS BIGINT) AS iteration,
        CAST(document -> '$.context_requests' AS BIGINT) AS context_requests,
        CAST(document -> '$.context_tokens' AS BIGINT) AS context_tokens,
        CAST(document -> '$.generation_requests' AS BIGINT) AS generation_requests,
        CAST(document -> '$.generation_tokens' AS BIGINT) AS generation_tokens
    FROM recorder_lines
    WHERE format = 'iterations' AND kind = 'iteration' AND reason IS NULL
),

placed AS (
    SELECT
        *,
        seen_ns - CAST(SUM(duration_ns) OVER (
            PARTITION BY rank, seen_ns ORDER BY line_number ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING
        ) AS BIGINT) AS start_ns
    FROM seen
)

SELECT
    r.run_id,
    (SELECT COUNT(*) FROM batches)
    + ROW_NUMBER() OVER (ORDER BY b.start_ns, b.rank, b.file_name, b.line_number) - 1 AS batch_index,
    b.start_ns,
    b.duration_ns,
    CASE
        WHEN b.context_requests + b.generation_requests = 0 THEN 'idle'
        WHEN b.context_requests = 0 THEN 'decode'
        WHEN b.generation_requests = 0 THEN 'prefill'
        ELSE 'mixed'
    END AS forward_mode,
    b.context_requests + b.generation_requests AS batch_size,
    b.context_tokens + b.generation_tokens AS new_input_tokens,
    b.rank,
    'vllm_log' AS source,
    JSON_OBJECT(
        'iteration', b.iteration, 'context_requests', b.context_requests, 'context_tokens', b.context_tokens,
        'time_base', 'when the line was seen'
    ) AS extra
FROM placed AS b
CROSS JOIN runs AS r
ORDER BY batch_index;
