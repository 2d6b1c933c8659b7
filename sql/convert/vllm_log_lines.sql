-- One row per line of a vLLM log: an iteration, other text (kept as read), or rejected with a reason.
-- Grain: (file_name, line_number). Reads: lines. Params: none.
-- The stamp is the time of printing, after the step. Three forms are read: seconds since 1970 with a fraction
-- (%(created)f), date and time with a year, and vLLM's own: month, day and time of day, local and without a year.
-- There 1972 stands for the year, the first one with a 29 February, one more after each turn from December to January.
CREATE OR REPLACE TEMP TABLE foreign_lines AS
WITH
plain AS (
    SELECT
        file_name,
        line_number,
        problem,
        raw_text,
        REGEXP_REPLACE(raw_text, '\x1b\[[0-9;]*m', '', 'g') AS line,
        REGEXP_MATCHES(raw_text, '(^|[^A-Za-z0-9_])Iteration\([0-9]*(\)|$)') AS is_iteration
    FROM lines
),

parsed AS (
    SELECT
        * EXCLUDE (line),
        CASE
            WHEN is_iteration THEN REGEXP_EXTRACT(
                line,
                '^(.*?)(?:Engine ([0-9]{1,9}): )?Iteration\(([0-9]{1,18})\): ([0-9]{1,9}) context requests,'
                ' ([0-9]{1,9}) context tokens, ([0-9]{1,9}) generation requests, ([0-9]{1,9}) generation tokens,'
                ' iteration elapsed time: (-?[0-9]{1,12}(?:[.][0-9]{1,9})?) ms( \(dummy\))?'
                '(?:, ([A-Za-z0-9_]+) KV cache usage: ([0-9.]{1,12})[%](.*))?$',
                [
                    'prefix', 'rank', 'iteration', 'context_requests', 'context_tokens', 'generation_requests',
                    'generation_tokens', 'elapsed_ms', 'dummy', 'kv_device', 'kv_usage_pct', 'rest'
                ]
            )
        END AS f
    FROM plain
),

stamped AS (
    SELECT
        file_name,
        line_number,
        is_iteration,
        CASE
            WHEN problem IS NOT NULL THEN problem
            WHEN NOT is_iteration THEN NULL
            WHEN COALESCE(f.iteration, '') = '' THEN 'damaged iteration line'
            WHEN LEFT(f.elapsed_ms, 1) = '-' THEN 'negative duration'
        END AS problem,
        CASE WHEN problem IS NOT NULL OR is_iteration THEN LEFT(raw_text, 2000) END AS raw_text,
        CAST(NULLIF(f.rank, '') AS BIGINT) AS rank,
        CAST(NULLIF(f.iteration, '') AS BIGINT) AS iteration,
        CAST(NULLIF(f.context_requests, '') AS BIGINT) AS context_requests,
        CAST(NULLIF(f.context_tokens, '') AS BIGINT) AS context_tokens,
        CAST(NULLIF(f.generation_requests, '') AS BIGINT) AS generation_requests,
        CAST(NULLIF(f.generation_tokens, '') AS BIGINT) AS generation_tokens,
        CAST(CAST(NULLIF(f.elapsed_ms, '') AS DECIMAL(28, 9)) * 1000000 AS BIGINT) AS duration_ns,
        f.dummy <> '' AS is_dummy,
        NULLIF(f.kv_device, '') AS kv_device,
        TRY_CAST(f.kv_usage_pct AS DOUBLE) AS kv_usage_pct,
        NULLIF(REGEXP_EXTRACT(f.prefix, '(?:^|[^0-9.])([0-9]{9,10}[.][0-9]{1,9})(?:[^0-9.]|$)', 1), '') AS epoch_s,
        REGEXP_EXTRACT(
            f.prefix, '(?:^|[^0-9-])((?:[0-9]{4}-)?[0-9]{2}-[0-9]{2})[ T]([0-9]{2}:[0-9]{2}:[0-9]{2})', ['day', 'clock']
        ) AS written,
        REGEXP_EXTRACT(f.prefix, '[0-9]{2}:[0-9]{2}:[0-9]{2}[.,]([0-9]{1,9})', 1) AS fraction
    FROM parsed
),

turned AS (
    SELECT
        *,
        SUM(CASE WHEN LEFT(written.day, 3) = '01-' AND day_before LIKE '12-__' THEN 1 ELSE 0 END)
            OVER (PARTITION BY file_name ORDER BY line_number ROWS UNBOUNDED PRECEDING) AS turns
    FROM (
        SELECT
            *,
            LAG(NULLIF(written.day, '') IGNORE NULLS) OVER (PARTITION BY file_name ORDER BY line_number) AS day_before
        FROM stamped
    )
),

timed AS (
    SELECT
        * EXCLUDE (epoch_s, written, fraction, turns, day_before),
        CASE
            WHEN epoch_s IS NOT NULL THEN 'epoch'
            WHEN LENGTH(written.day) = 10 THEN 'date and time as logged, taken for UTC'
            WHEN written.day <> '' THEN 'local time without a year, 1972 for the first'
        END AS time_base,
        epoch_s IS NOT NULL OR fraction <> '' AS has_fraction,
        CASE
            WHEN epoch_s IS NOT NULL THEN TRY_CAST(CAST(epoch_s AS DECIMAL(28, 9)) * 1000000000 AS BIGINT)
            WHEN written.day <> ''
                THEN TRY(EPOCH_NS(TRY_CAST(
                    CONCAT(CASE WHEN LENGTH(written.day) = 5 THEN CONCAT(1972 + turns, '-') END, written.day, ' ',
                        written.clock) AS TIMESTAMP
                ))) + CAST(RPAD(fraction, 9, '0') AS BIGINT)
        END AS stamp_ns
    FROM turned
)

SELECT
    * EXCLUDE (problem, raw_text, is_iteration),
    CASE WHEN is_iteration THEN 'batches' END AS table_name,
    1 AS table_rows,
    COALESCE(problem, CASE WHEN is_iteration AND stamp_ns IS NULL THEN 'no time in front of the iteration' END)
        AS reason,
    CASE WHEN reason IS NOT NULL THEN raw_text END AS raw_text
FROM timed;
