-- One row per forward pass, with lengths rebuilt from the tokens that each request got in the passes before.
-- Grain: (run_id, batch_index). Reads: foreign_lines, runs (the one that is being loaded). Params: none.
-- A request prefills in its first pass, and in every one that computes more than one token of it; else it decodes. Its
-- prompt is what its prefills compute before its first decode, so a prefix that was cached is not in it. More than one
-- token after a decode is a request computed anew after it was preempted: its cache is counted from there again.
INSERT INTO batches BY NAME
WITH
passes AS (
    SELECT
        *,
        ROW_NUMBER() OVER (ORDER BY start_ns, line_number) - 1 AS pass
    FROM foreign_lines
    WHERE reason IS NULL
),

computed AS (
    SELECT pass, UNNEST(request_ids) AS request_id, UNNEST(tokens) AS tokens
    FROM passes
),

kinds AS (
    SELECT
        *,
        tokens > 1 OR LAG(pass) OVER request IS NULL AS is_prefill,
        LEAD(pass) OVER request AS next_pass,
        LAG(pass) OVER request IS NULL AS is_first
    FROM computed
    WINDOW request AS (PARTITION BY request_id ORDER BY pass)
),

starts AS (
    SELECT
        *,
        is_prefill AND NOT is_first AND NOT LAG(is_prefill) OVER (PARTITION BY request_id ORDER BY pass) AS is_anew
    FROM kinds
),

lives AS (
    SELECT
        *,
        SUM(CASE WHEN is_anew THEN 1 ELSE 0 END)
            OVER (PARTITION BY request_id ORDER BY pass ROWS UNBOUNDED PRECEDING) AS life,
        COUNT(*) FILTER (WHERE NOT is_prefill)
            OVER (PARTITION BY request_id ORDER BY pass ROWS UNBOUNDED PRECEDING) AS output_tokens
    FROM starts
),

grown AS (
    SELECT
        *,
        SUM(tokens) OVER (PARTITION BY request_id, life ORDER BY pass ROWS UNBOUNDED PRECEDING) AS kv_tokens,
        SUM(tokens) FILTER (WHERE is_prefill AND life = 0) OVER (PARTITION BY request_id) AS input_tokens
    FROM lives
),

composed AS (
    SELECT
        pass,
        COUNT(*) FILTER (WHERE is_prefill) AS prefilling,
        AVG(input_tokens) AS input_length_avg,
        CAST(MAX(input_tokens) AS BIGINT) AS input_length_max,
        AVG(output_tokens) AS output_length_avg,
        MAX(output_tokens) AS output_length_max,
        CAST(SUM(kv_tokens) AS BIGINT) AS kv_tokens,
        CAST(SUM(tokens) AS BIGINT) AS new_input_tokens,
        COUNT(*) FILTER (WHERE is_first) AS admitted,
        COUNT(*) FILTER (WHERE next_pass IS NULL) AS last_ones
    FROM grown
    GROUP BY pass
)

SELECT
    r.run_id,
    p.pass AS batch_index,
    p.start_ns,
    p.duration_ns,
    LEAD(p.start_ns) OVER (ORDER BY p.pass) - p.start_ns AS interval_ns,
    CASE
        WHEN c.pass IS NULL THEN 'idle'
        WHEN c.prefilling = 0 THEN 'decode'
        WHEN c.prefilling = LEN(p.request_ids) THEN 'prefill'
        ELSE 'mixed'
    END AS forward_mode,
    LEN(p.request_ids) AS batch_size,
    c.input_length_avg,
    c.input_length_max,
    c.output_length_avg,
    c.output_length_max,
    COALESCE(c.kv_tokens, 0) AS kv_tokens,
    COALESCE(c.new_input_tokens, 0) AS new_input_tokens,
    COALESCE(c.admitted, 0) AS admitted,
    COALESCE(LAG(c.last_ones) OVER (ORDER BY p.pass), 0) AS finished,
    'fwd_jsonl' AS source,
    JSON_OBJECT('forward_id', p.forward_id, 'end_ns', p.end_ns) AS extra
FROM passes AS p
LEFT JOIN composed AS c USING (pass)
CROSS JOIN runs AS r
ORDER BY batch_index;
