-- One row per record of the trial probe.
-- Grain: (run_id, batch_index). Reads: foreign_lines, runs (the one that is being loaded). Params: none.
-- vLLM's worker: the forward pass and sampling. SGLang's scheduler: from the launch to the results on the host, which
-- overlaps the next batch where the overlap loop runs. vLLM's scheduler: from the schedule to the answer of the worker,
-- no composition. Prompt lengths are known of prefilling requests alone, so of a batch without others.
-- SGLang's probe counts the requests that end with a batch; here they count with the next.
INSERT INTO batches BY NAME
WITH
records AS (
    SELECT *, ROW_NUMBER() OVER (ORDER BY start_ns, line_number) - 1 AS place
    FROM foreign_lines
    WHERE reason IS NULL
),

prefills AS (
    SELECT place, UNNEST(prefill, recursive := TRUE)
    FROM records
    WHERE LEN(prefill) > 0
),

firsts AS (
    SELECT *, place = MIN(place) OVER (PARTITION BY request_id) AS is_first
    FROM prefills
),

admissions AS (
    SELECT
        place,
        COUNT(*) FILTER (WHERE is_first) AS admitted,
        COALESCE(SUM(computed) FILTER (WHERE is_first), 0) AS prefix_hit_tokens,
        SUM(computed + new_tokens) AS kv_tokens,
        CASE WHEN BOOL_AND(input_length IS NOT NULL) THEN AVG(input_length) END AS input_length_avg,
        CASE WHEN BOOL_AND(input_length IS NOT NULL) THEN MAX(input_length) END AS input_length_max
    FROM firsts
    GROUP BY place
)

SELECT
    r.run_id,
    b.place AS batch_index,
    b.start_ns,
    b.duration_ns,
    LEAD(b.start_ns) OVER (ORDER BY b.place) - b.start_ns AS interval_ns,
    b.execute_ns,
    CASE
        WHEN b.batch_size = 0 THEN 'idle'
        WHEN b.site = 'vllm_scheduler' THEN NULL
        WHEN LEN(b.prefill) = 0 THEN 'decode'
        WHEN LEN(b.contexts) = 0 THEN 'prefill'
        ELSE 'mixed'
    END AS forward_mode,
    b.batch_size,
    CASE WHEN LEN(b.contexts) = 0 THEN a.input_length_avg END AS input_length_avg,
    CASE WHEN LEN(b.contexts) = 0 THEN a.input_length_max END AS input_length_max,
    CASE
        WHEN b.site <> 'vllm_scheduler'
            THEN CAST(COALESCE(a.kv_tokens, 0) + COALESCE(LIST_SUM(b.contexts), 0) AS BIGINT)
    END AS kv_tokens,
    b.new_input_tokens,
    CASE WHEN b.site <> 'vllm_scheduler' THEN CAST(COALESCE(a.prefix_hit_tokens, 0) AS BIGINT) END
        AS prefix_hit_tokens,
    CASE WHEN b.site <> 'vllm_scheduler' THEN COALESCE(a.admitted, 0) END AS admitted,
    CASE WHEN b.site = 'sglang_scheduler' THEN LAG(b.finished_with_it, 1, 0) OVER (ORDER BY b.place) END AS finished,
    b.waiting,
    b.running,
    'probe_trial' AS source,
    JSON_MERGE_PATCH(b.others, JSON_OBJECT('site', b.site)) AS extra
FROM records AS b
LEFT JOIN admissions AS a USING (place)
CROSS JOIN runs AS r
ORDER BY batch_index;
