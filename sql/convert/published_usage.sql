-- One row per row of a published usage table, kept or rejected with a reason; the kept ones go to function_usage.
-- Grain: (run_id, cycle_index, pid, function_name, device, metric_name).
-- Reads: published_lines, runs (the one that is being loaded). Params: none.
-- Microseconds have at most 16 digits, the first of them below 9: what fits a BIGINT in ns.
CREATE OR REPLACE TEMP TABLE published_rows AS
WITH
doubtful AS (
    SELECT
        *,
        LIST_FILTER(
            [
                {name: 'cycle', text: cycle},
                {name: 'pid', text: pid},
                {name: 'instances_count', text: instances_count}
            ],
            LAMBDA field: NOT COALESCE(REGEXP_FULL_MATCH(field.text, '[0-9]{1,18}'), FALSE)
        )[1].name AS no_whole_number,
        LIST_FILTER(
            [
                {name: 'duration', text: LTRIM(duration, '-')},
                {name: 'anchor_dur_us', text: LTRIM(anchor_dur_us, '-')},
                {name: 'cycle_start_ts', text: cycle_start_ts}
            ],
            LAMBDA field: NOT COALESCE(REGEXP_FULL_MATCH(field.text, '[0-8]?[0-9]{1,15}([.][0-9]+)?'), FALSE)
        )[1].name AS no_time,
        LIST_FILTER(
            [
                {name: 'beta_pct', text: beta_pct},
                {name: 'mu_pct', text: COALESCE(NULLIF(mu_pct, ''), '0')},
                {name: 'sigma_pct', text: COALESCE(NULLIF(sigma_pct, ''), '0')}
            ],
            LAMBDA field: NOT COALESCE(
                REGEXP_FULL_MATCH(field.text, '-?[0-9]+([.][0-9]+)?([eE][+-]?[0-9]+)?')
                AND ISFINITE(TRY_CAST(field.text AS DOUBLE)),
                FALSE
            )
        )[1].name AS no_number
    FROM published_lines
)

SELECT
    file_name,
    line_number,
    raw_text,
    CASE
        WHEN problem IS NOT NULL THEN problem
        WHEN no_whole_number IS NOT NULL THEN CONCAT(no_whole_number, ' is no whole number')
        WHEN no_time IS NOT NULL THEN CONCAT(no_time, ' is no time in us')
        WHEN no_number IS NOT NULL THEN CONCAT(no_number, ' is no number')
        WHEN STARTS_WITH(duration, '-') OR STARTS_WITH(anchor_dur_us, '-') THEN 'negative duration'
        WHEN function_name = '' THEN 'function_name is empty'
        WHEN interpolation_status NOT IN ('', ' ', '*', '**') THEN 'interpolation_status is of no known kind'
    END AS reason,
    NULLIF(hostname, '') AS hostname,
    TRY_CAST(pid AS BIGINT) AS pid,
    TRY_CAST(cycle AS BIGINT) AS cycle_index,
    TRY_CAST(TRY_CAST(cycle_start_ts AS DECIMAL(28, 9)) * 1000 AS BIGINT) AS cycle_start_ns,
    NULLIF(anchor_name, '') AS anchor_name,
    TRY_CAST(TRY_CAST(anchor_dur_us AS DECIMAL(28, 9)) * 1000 AS BIGINT) AS anchor_duration_ns,
    function_name,
    NULLIF(simple_name, '') AS simple_name,
    NULLIF(func_type, '') AS function_class,
    NULLIF(device, '') AS device,
    CASE WHEN metric_name NOT IN ('', 'N/A') THEN metric_name END AS metric_name,
    TRY_CAST(beta_pct AS DOUBLE) AS beta_pct,
    TRY_CAST(NULLIF(mu_pct, '') AS DOUBLE) AS mu_pct,
    TRY_CAST(NULLIF(sigma_pct, '') AS DOUBLE) AS sigma_pct,
    TRY_CAST(TRY_CAST(duration AS DECIMAL(28, 9)) * 1000 AS BIGINT) AS duration_ns,
    TRY_CAST(instances_count AS BIGINT) AS instances,
    CASE
        WHEN interpolation_status = '**' THEN 'all'
        WHEN interpolation_status = '*' THEN 'some'
        WHEN metric_name NOT IN ('', 'N/A') THEN 'none'
    END AS interpolated
FROM doubtful;

INSERT INTO function_usage BY NAME
SELECT r.run_id, p.* EXCLUDE (file_name, line_number, raw_text, reason)
FROM published_rows AS p
CROSS JOIN runs AS r
WHERE p.reason IS NULL
ORDER BY p.line_number;
