-- One row per batch that the function probe recorded, with its composition.
-- Grain: (run_id, batch_index). Reads: recorder_lines, runs (the one run that is being loaded). Params: none.
-- A request row is [prompt length, tokens computed before, new tokens, output tokens so far]; while less is computed
-- than the prompt, or than what a preempted request had, it prefills, then it decodes.
-- vLLM's step is the forward pass and sampling. SGLang's is run_batch to the end of process_batch_result, cut at the
-- next start: the overlap loop processes a result while the next batch runs.
INSERT INTO batches BY NAME
WITH
recorded AS (
    SELECT
        file_name,
        line_number,
        CAST(document -> '$.pid' AS BIGINT) AS pid,
        CAST(document -> '$.rank' AS BIGINT) AS rank,
        CAST(document -> '$.start_mono_ns' AS BIGINT) + offset_ns AS start_ns,
        CAST(document -> '$.execute_end_mono_ns' AS BIGINT) + offset_ns AS execute_end_ns,
        CAST(document -> '$.end_mono_ns' AS BIGINT) + offset_ns AS end_ns,
        CAST(document -> '$.requests' AS BIGINT[][]) AS requests,
        CAST(document -> '$.admitted' AS BIGINT) AS admitted,
        CAST(document -> '$.finished' AS BIGINT) AS finished,
        CAST(document -> '$.preempted' AS BIGINT) AS preempted,
        CAST(document -> '$.prefix_hit_tokens' AS BIGINT) AS prefix_hit_tokens,
        CAST(document -> '$.waiting' AS BIGINT) AS waiting,
        CAST(document -> '$.running' AS BIGINT) AS running,
        document ->> '$.source' AS source,
        JSON_MERGE_PATCH(
            '{}',
            TO_JSON({
                schedule_ns: CAST(document -> '$.schedule_ns' AS BIGINT),
                scheduled_before_ns: CAST(document -> '$.start_mono_ns' AS BIGINT)
                    - CAST(document -> '$.schedule_start_mono_ns' AS BIGINT),
                update_ns: CAST(document -> '$.update_ns' AS BIGINT),
                process_ns: CAST(document -> '$.end_mono_ns' AS BIGINT)
                    - CAST(document -> '$.process_start_mono_ns' AS BIGINT),
                mode: document ->> '$.mode'
            })
        ) AS extra
    FROM recorder_lines
    WHERE format = 'batches' AND kind = 'batch' AND reason IS NULL
),

composed AS (
    SELECT
        *,
        LEN(requests) AS batch_size,
        LEN(LIST_FILTER(requests, LAMBDA r: r[2] < r[1] OR r[2] + 1 < r[1] + r[4])) AS prefilling,
        LIST_TRANSFORM(requests, LAMBDA r: r[1]) AS input_lengths,
        LIST_TRANSFORM(requests, LAMBDA r: r[2] + r[3]) AS kv_tokens,
        LIST_TRANSFORM(requests, LAMBDA r: r[3]) AS new_tokens,
        LIST_TRANSFORM(requests, LAMBDA r: r[4]) AS output_lengths
    FROM recorded
),

followed AS (
    SELECT
        * REPLACE (IF(source = 'sglang_probe', LEAST(end_ns, LEAD(start_ns) OVER next_step), end_ns) AS end_ns),
        LEAD(start_ns) OVER next_step - start_ns AS interval_ns
    FROM composed
    WINDOW next_step AS (PARTITION BY pid, rank ORDER BY start_ns, file_name, line_number)
)

SELECT
    r.run_id,
    ROW_NUMBER() OVER (ORDER BY b.start_ns, b.rank, b.file_name, b.line_number) - 1 AS batch_index,
    b.start_ns,
    b.end_ns - b.start_ns AS duration_ns,
    b.interval_ns,
    b.execute_end_ns - b.start_ns AS execute_ns,
    CASE
        WHEN b.batch_size = 0 THEN 'idle'
        WHEN b.prefilling = 0 THEN 'decode'
        WHEN b.prefilling = b.batch_size THEN 'prefill'
        ELSE 'mixed'
    END AS forward_mode,
    b.batch_size,
    LIST_AVG(b.input_lengths) AS input_length_avg,
    LIST_MAX(b.input_lengths) AS input_length_max,
    LIST_AVG(b.output_lengths) AS output_length_avg,
    LIST_MAX(b.output_lengths) AS output_length_max,
    COALESCE(LIST_SUM(b.kv_tokens), 0) AS kv_tokens,
    COALESCE(LIST_SUM(b.new_tokens), 0) AS new_input_tokens,
    b.prefix_hit_tokens,
    b.admitted,
    b.finished,
    b.preempted,
    b.waiting,
    b.running,
    b.rank,
    b.source,
    NULLIF(b.extra, '{}') AS extra
FROM followed AS b
CROSS JOIN runs AS r
ORDER BY batch_index;
