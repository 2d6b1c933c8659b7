-- One row per iteration that vLLM logged, with what the line tells: counts and a duration, no lengths.
-- Grain: (run_id, batch_index). Reads: foreign_lines, runs (the one that is being loaded). Params: none.
-- A stamp is the end of its step. Of a stamp in whole seconds the earliest times are taken that agree with it, with
-- the order of the lines and with their durations: end = the largest, over this line and those before it, of stamp
-- plus the durations since. The interval to the next start is not known then, nor where an iteration is missing.
INSERT INTO batches BY NAME
WITH
iterations AS (
    SELECT * FROM foreign_lines WHERE table_name = 'batches' AND reason IS NULL
),

summed AS (
    SELECT
        *,
        SUM(duration_ns) OVER (PARTITION BY rank ORDER BY line_number ROWS UNBOUNDED PRECEDING) AS elapsed_ns
    FROM iterations
),

placed AS (
    SELECT
        *,
        CASE
            WHEN has_fraction THEN stamp_ns
            ELSE elapsed_ns + MAX(stamp_ns - elapsed_ns) OVER (
                PARTITION BY rank, has_fraction ORDER BY line_number ROWS UNBOUNDED PRECEDING
            )
        END - duration_ns AS start_ns
    FROM summed
),

followed AS (
    SELECT
        *,
        LEAD(start_ns) OVER following AS next_start_ns,
        LEAD(iteration) OVER following AS next_iteration
    FROM placed
    WINDOW following AS (PARTITION BY rank ORDER BY line_number)
)

SELECT
    r.run_id,
    ROW_NUMBER() OVER (ORDER BY b.start_ns, b.rank, b.line_number) - 1 AS batch_index,
    CAST(b.start_ns AS BIGINT) AS start_ns,
    b.duration_ns,
    CASE
        WHEN b.has_fraction AND b.next_iteration = b.iteration + 1 AND b.next_start_ns >= b.start_ns
            THEN CAST(b.next_start_ns - b.start_ns AS BIGINT)
    END AS interval_ns,
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
        'iteration', b.iteration,
        'context_requests', b.context_requests,
        'context_tokens', b.context_tokens,
        'dummy', b.is_dummy,
        'kv_device', b.kv_device,
        'kv_usage_pct', b.kv_usage_pct,
        'time_base', b.time_base || CASE WHEN b.has_fraction THEN '' ELSE ', whole seconds' END
    ) AS extra
FROM followed AS b
CROSS JOIN runs AS r
ORDER BY batch_index;
