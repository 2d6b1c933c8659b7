-- One row per line of a file of forward passes: kept, or rejected with a reason.
-- Grain: (file_name, line_number). Reads: lines. Params: none.
-- Times are taken from the line's text and not from its JSON value, which is a float: "key" followed by a colon occurs
-- in JSON text only as a key, as a quote inside of a string has a backslash before it.
CREATE OR REPLACE TEMP TABLE foreign_lines AS
WITH
documents AS (
    SELECT
        *,
        CASE WHEN problem IS NULL AND STARTS_WITH(TRIM(raw_text), '{') THEN TRY_CAST(raw_text AS JSON) END AS document,
        REGEXP_EXTRACT(raw_text, '"start_ts"\s*:\s*(-?[0-9]{1,10}(?:[.][0-9]+)?(?:[eE][+-]?[0-9]{1,2})?)\s*[,}]', 1)
            AS start_s,
        REGEXP_EXTRACT(raw_text, '"end_ts"\s*:\s*(-?[0-9]{1,10}(?:[.][0-9]+)?(?:[eE][+-]?[0-9]{1,2})?)\s*[,}]', 1)
            AS end_s,
        REGEXP_EXTRACT(raw_text, '"duration_ms"\s*:\s*(-?[0-9]{1,12}(?:[.][0-9]+)?(?:[eE][+-]?[0-9]{1,2})?)\s*[,}]', 1)
            AS duration_ms
    FROM lines
),

typed AS (
    SELECT
        *,
        TRY_CAST(TRY_CAST(start_s AS DECIMAL(28, 15)) * 1000000000 AS BIGINT) AS start_ns,
        TRY_CAST(TRY_CAST(end_s AS DECIMAL(28, 15)) * 1000000000 AS BIGINT) AS end_ns,
        TRY_CAST(TRY_CAST(duration_ms AS DECIMAL(30, 15)) * 1000000 AS BIGINT) AS duration_ns,
        JSON_KEYS(document, '$.num_tokens') AS request_ids,
        JSON_EXTRACT(document, '$.num_tokens.*') AS tokens
    FROM documents
),

judged AS (
    SELECT
        *,
        LEN(LIST_FILTER(tokens, LAMBDA v: JSON_TYPE(v) = 'UBIGINT' AND TRY_CAST(v AS BIGINT) <= 1000000000))
            = LEN(tokens) AS are_counts,
        CASE WHEN JSON_TYPE(document, '$.req_ids') = 'ARRAY' THEN document ->> '$.req_ids[*]' END AS listed_ids
    FROM typed
)

SELECT
    file_name,
    line_number,
    'batches' AS table_name,
    1 AS table_rows,
    CASE
        WHEN problem IS NOT NULL THEN problem
        WHEN document IS NULL THEN 'not a JSON object'
        WHEN start_ns IS NULL THEN 'start_ts is no time'
        WHEN duration_ns IS NULL THEN 'duration_ms is no number'
        WHEN duration_ns < 0 OR end_ns < start_ns THEN 'negative duration'
        WHEN end_ns IS NULL AND JSON_EXISTS(document, '$.end_ts') THEN 'end_ts is no time'
        WHEN JSON_TYPE(document, '$.num_tokens') IS DISTINCT FROM 'OBJECT' OR NOT are_counts
            THEN 'num_tokens is no object of counts'
        WHEN LEN(request_ids) <> LEN(LIST_DISTINCT(request_ids)) THEN 'a request has two counts in num_tokens'
        WHEN LIST_SORT(listed_ids) <> LIST_SORT(request_ids) THEN 'req_ids are not those of num_tokens'
        WHEN JSON_EXISTS(document, '$.total_tokens')
            AND (document ->> '$.total_tokens')
                <> CAST(COALESCE(LIST_SUM(TRY_CAST(tokens AS BIGINT[])), 0) AS VARCHAR)
            THEN 'total_tokens is not the sum of num_tokens'
    END AS reason,
    CASE WHEN reason IS NOT NULL THEN raw_text END AS raw_text,
    start_ns,
    end_ns,
    duration_ns,
    document ->> '$.fwd_id' AS forward_id,
    CASE WHEN reason IS NULL THEN request_ids END AS request_ids,
    CASE WHEN reason IS NULL THEN CAST(tokens AS BIGINT[]) END AS tokens
FROM judged;
