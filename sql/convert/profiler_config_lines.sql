-- One row per line of a model_config.txt: an attribute of a call, or rejected with a reason.
-- Grain: (file_name, line_number). Reads: lines. Params: none.
-- Lengths are the numbers of elements of input_ids and output_ids, request by request. Forward modes are SGLang's.
CREATE OR REPLACE TEMP TABLE foreign_lines AS
WITH
parsed AS (
    SELECT
        *,
        REGEXP_EXTRACT(raw_text, '"class"\s*:\s*"([^"]*)"', 1) AS class_name,
        REGEXP_EXTRACT(raw_text, '"fn"\s*:\s*"([^"]*)"', 1) AS function_name,
        REGEXP_EXTRACT(raw_text, '"attr"\s*:\s*"([^"]*)"', 1) AS attribute,
        REGEXP_EXTRACT(raw_text, '"start_time"\s*:\s*"?([0-9]{1,16}(?:[.][0-9]+)?)"?\s*(?:[,}]|$)', 1) AS start_us,
        CONTAINS(raw_text, '"Value"') AS has_value,
        TRIM(COALESCE(
            NULLIF(REGEXP_EXTRACT(raw_text, '(?s)"Value"\s*:\s*(.*?)\s*,\s*"start_time"\s*:', 1), ''),
            REGEXP_EXTRACT(raw_text, '(?s)"Value"\s*:\s*(.*?)[\s},]*$', 1)
        )) AS value
    FROM lines
),

requests_of AS (
    SELECT
        *,
        NULLIF(REGEXP_EXTRACT(value, '\bforward_mode=(?:ForwardMode[.])?([A-Z0-9_]+)', 1), '') AS mode_text,
        REGEXP_EXTRACT_ALL(value, '\brid=\W?([0-9A-Za-z_-]+)', 1) AS request_ids,
        LIST_TRANSFORM(
            REGEXP_EXTRACT_ALL(value, '\binput_ids=\[([^\]]*)\]', 1),
            LAMBDA ids: CASE WHEN TRIM(ids) = '' THEN 0 ELSE LENGTH(ids) - LENGTH(REPLACE(ids, ',', '')) + 1 END
        ) AS input_lengths,
        LIST_TRANSFORM(
            REGEXP_EXTRACT_ALL(value, '\boutput_ids=\[([^\]]*)\]', 1),
            LAMBDA ids: CASE WHEN TRIM(ids) = '' THEN 0 ELSE LENGTH(ids) - LENGTH(REPLACE(ids, ',', '')) + 1 END
        ) AS output_lengths
    FROM parsed
)

SELECT
    file_name,
    line_number,
    CAST(NULL AS VARCHAR) AS table_name,
    0 AS table_rows,
    CASE
        WHEN problem IS NOT NULL THEN problem
        WHEN class_name = '' OR function_name = '' OR attribute = '' THEN 'not an attribute of a call'
        WHEN start_us = '' THEN 'start_time is no time in us'
        WHEN TRY_CAST(CAST(start_us AS DECIMAL(28, 9)) * 1000 AS BIGINT) IS NULL THEN 'start_time is no time in us'
        WHEN NOT has_value THEN 'no value'
        WHEN attribute IN ('reqs', 'result')
            AND (LEN(input_lengths) <> LEN(output_lengths) OR LEN(request_ids) <> LEN(input_lengths))
            THEN 'a request is cut off'
        WHEN attribute = 'batch_size' AND NOT REGEXP_FULL_MATCH(value, '[0-9]{1,9}') THEN 'batch_size is no count'
    END AS reason,
    CASE WHEN reason IS NOT NULL THEN LEFT(raw_text, 2000) END AS raw_text,
    TRY_CAST(TRY_CAST(NULLIF(start_us, '') AS DECIMAL(28, 9)) * 1000 AS BIGINT) AS start_ns,
    class_name || '.' || function_name AS call_name,
    attribute,
    CASE WHEN attribute NOT IN ('reqs', 'result') THEN LEFT(value, 2000) END AS value,
    CASE
        WHEN attribute = 'forward_mode' THEN REGEXP_EXTRACT(value, '^\W*(?:ForwardMode[.])?([A-Z0-9_]+)\W*$', 1)
        ELSE mode_text
    END AS forward_mode,
    CASE WHEN attribute = 'batch_size' THEN TRY_CAST(value AS BIGINT) END AS batch_size,
    CASE WHEN attribute IN ('reqs', 'result') THEN request_ids END AS request_ids,
    CASE WHEN attribute IN ('reqs', 'result') THEN input_lengths END AS input_lengths,
    CASE WHEN attribute IN ('reqs', 'result') THEN output_lengths END AS output_lengths
FROM requests_of;
