-- One row per row of a published Sentinel table, kept or rejected with a reason; the kept ones go to batches.
-- Grain: (run_id, batch_index). Reads: published_lines, runs (the one that is being loaded). Params: none.
-- Of SGLang's tables compute_ is taken off: that is the batch; what post_ says of the same step goes to extra. vLLM's
-- tables have no modes, and their empty last steps, under 1 ms with every output complete, are marked idle.
-- Microseconds have at most 16 digits, the first of them below 9: what fits a BIGINT in ns.
CREATE OR REPLACE TEMP TABLE published_rows AS
WITH
modes (code, forward_mode) AS (
    VALUES ('1', 'prefill'), ('2', 'decode')
),

doubtful AS (
    SELECT
        *,
        LIST_FILTER(
            [
                {name: 'batch_size', text: batch_size},
                {name: 'max_input_length', text: max_input_length},
                {name: 'max_output_length', text: max_output_length},
                {name: 'post_batch_size', text: COALESCE(post_batch_size, '0')},
                {name: 'post_max_input_length', text: COALESCE(post_max_input_length, '0')},
                {name: 'post_max_output_length', text: COALESCE(post_max_output_length, '0')}
            ],
            LAMBDA field: NOT COALESCE(REGEXP_FULL_MATCH(field.text, '[0-9]{1,18}'), FALSE)
        )[1].name AS no_whole_number,
        LIST_FILTER(
            [
                {name: 'avg_input_length', text: avg_input_length},
                {name: 'avg_output_length', text: avg_output_length},
                {name: 'post_avg_input_length', text: COALESCE(post_avg_input_length, '0')},
                {name: 'post_avg_output_length', text: COALESCE(post_avg_output_length, '0')}
            ],
            LAMBDA field: NOT COALESCE(REGEXP_FULL_MATCH(field.text, '[0-9]{1,18}([.][0-9]+)?'), FALSE)
        )[1].name AS no_length,
        LIST_FILTER(
            [{name: 'start_ts', text: start_ts}, {name: 'duration_us', text: LTRIM(duration_us, '-')}],
            LAMBDA field: NOT COALESCE(REGEXP_FULL_MATCH(field.text, '[0-8]?[0-9]{1,15}([.][0-9]+)?'), FALSE)
        )[1].name AS no_time
    FROM published_lines
)

SELECT
    d.file_name,
    d.line_number,
    d.raw_text,
    CASE
        WHEN d.problem IS NOT NULL THEN d.problem
        WHEN d.no_whole_number IS NOT NULL THEN CONCAT(d.no_whole_number, ' is no whole number')
        WHEN d.no_length IS NOT NULL THEN CONCAT(d.no_length, ' is no length')
        WHEN d.no_time IS NOT NULL THEN CONCAT(d.no_time, ' is no time in us')
        WHEN STARTS_WITH(d.duration_us, '-') THEN 'negative duration'
        WHEN d.forward_mode IS NOT NULL AND m.code IS NULL THEN 'forward_mode is of no known kind'
        WHEN d.post_forward_mode <> 'N/A' AND p.code IS NULL THEN 'post_forward_mode is of no known kind'
    END AS reason,
    TRY_CAST(TRY_CAST(d.start_ts AS DECIMAL(28, 9)) * 1000 AS BIGINT) AS start_ns,
    TRY_CAST(TRY_CAST(d.duration_us AS DECIMAL(28, 9)) * 1000 AS BIGINT) AS duration_ns,
    CASE
        WHEN d.forward_mode IS NOT NULL THEN m.forward_mode
        WHEN TRY_CAST(d.duration_us AS DECIMAL(28, 9)) < 1000
            AND TRY_CAST(d.avg_output_length AS DECIMAL(28, 9))
            = TRY_CAST(REGEXP_EXTRACT(d.job_name, '^in[0-9]+_out([0-9]+)_conc[0-9]+$', 1) AS BIGINT)
            THEN 'idle'
    END AS forward_mode,
    TRY_CAST(d.batch_size AS BIGINT) AS batch_size,
    TRY_CAST(d.avg_input_length AS DOUBLE) AS input_length_avg,
    TRY_CAST(d.max_input_length AS BIGINT) AS input_length_max,
    TRY_CAST(d.avg_output_length AS DOUBLE) AS output_length_avg,
    TRY_CAST(d.max_output_length AS BIGINT) AS output_length_max,
    'published_sentinel' AS source,
    NULLIF(d.job_name, '') AS job_name,
    CASE
        WHEN d.post_batch_size IS NOT NULL
            THEN JSON_OBJECT(
                'post_batch_size', TRY_CAST(d.post_batch_size AS BIGINT),
                'post_input_length_avg', TRY_CAST(d.post_avg_input_length AS DOUBLE),
                'post_input_length_max', TRY_CAST(d.post_max_input_length AS BIGINT),
                'post_output_length_avg', TRY_CAST(d.post_avg_output_length AS DOUBLE),
                'post_output_length_max', TRY_CAST(d.post_max_output_length AS BIGINT),
                'post_forward_mode', p.forward_mode
            )
    END AS extra
FROM doubtful AS d
LEFT JOIN modes AS m ON m.code = d.forward_mode
LEFT JOIN modes AS p ON p.code = d.post_forward_mode;

INSERT INTO batches BY NAME
SELECT
    r.run_id,
    p.* EXCLUDE (file_name, line_number, raw_text, reason),
    ROW_NUMBER() OVER (ORDER BY p.start_ns, p.line_number) - 1 AS batch_index,
    LEAD(p.start_ns) OVER (PARTITION BY p.job_name ORDER BY p.start_ns, p.line_number) - p.start_ns AS interval_ns
FROM published_rows AS p
CROSS JOIN runs AS r
WHERE p.reason IS NULL
ORDER BY batch_index;
