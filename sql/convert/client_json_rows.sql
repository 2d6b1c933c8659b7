-- One row per object of a load client's file and per request in it: kept, or rejected with a reason.
-- Grain: (file_name, line_number). Reads: lines. Params: none.
-- The client counts in seconds; a time of 0 is one that it never took. Numbers are read from their text.
CREATE OR REPLACE TEMP TABLE foreign_lines AS
WITH
documents AS (
    SELECT *, CASE WHEN problem IS NULL THEN TRY_CAST(raw_text AS JSON) END AS document
    FROM lines
),

texts AS (
    SELECT
        * EXCLUDE (document),
        document,
        CAST(document ->> '$.request_index' AS BIGINT) AS request_index,
        document ->> '$.input_tokens' AS input_text,
        document ->> '$.output_tokens' AS output_text,
        LIST_TRANSFORM(
            [
                document ->> '$.ttft_s', document ->> '$.e2e_s', document ->> '$.queue_s', document ->> '$.start_s'
            ],
            LAMBDA v: CASE WHEN REGEXP_FULL_MATCH(v, '-?[0-9]{1,9}([.][0-9]+)?([eE]-[0-9]{1,3})?') THEN v END
        ) AS times,
        LEN(LIST_FILTER(
            [document -> '$.ttft_s', document -> '$.e2e_s', document -> '$.queue_s', document -> '$.start_s'],
            LAMBDA v: JSON_TYPE(v) <> 'NULL'
        )) AS times_written,
        JSON_TYPE(document, '$.itl_s') AS itl_type,
        CASE WHEN JSON_TYPE(document, '$.itl_s') = 'ARRAY' THEN document ->> '$.itl_s[*]' END AS itl_texts
    FROM documents
),

typed AS (
    SELECT
        *,
        TRY_CAST(times[1] AS DOUBLE) AS ttft_s,
        TRY_CAST(times[2] AS DOUBLE) AS e2e_s,
        TRY_CAST(times[3] AS DOUBLE) AS queue_s,
        TRY_CAST(TRY_CAST(times[4] AS DECIMAL(38, 18)) * 1000000000 AS BIGINT) AS start_monotonic_ns,
        LIST_TRANSFORM(
            itl_texts,
            LAMBDA v: CASE
                WHEN REGEXP_FULL_MATCH(v, '-?[0-9]{1,9}([.][0-9]+)?([eE]-[0-9]{1,3})?') THEN TRY_CAST(v AS DOUBLE)
            END
        ) AS itl_s
    FROM texts
)

SELECT
    file_name,
    line_number,
    CASE WHEN request_index IS NOT NULL THEN 'requests' END AS table_name,
    1 AS table_rows,
    CASE
        WHEN problem IS NOT NULL THEN problem
        WHEN document IS NULL THEN 'text that is no Unicode'
        WHEN request_index IS NULL THEN NULL
        WHEN NOT REGEXP_FULL_MATCH(COALESCE(input_text, '0'), '[0-9]{1,9}') THEN 'input_lens is no count'
        WHEN NOT REGEXP_FULL_MATCH(COALESCE(output_text, '0'), '[0-9]{1,9}') THEN 'output_lens is no count'
        WHEN times_written <> LEN(LIST_FILTER(times, LAMBDA v: v IS NOT NULL)) THEN 'a time is no number'
        WHEN itl_type NOT IN ('ARRAY', 'NULL') OR LEN(itl_s) <> LEN(LIST_FILTER(itl_s, LAMBDA v: v IS NOT NULL))
            THEN 'itls is no list of numbers'
        WHEN LEAST(ttft_s, e2e_s, queue_s, LIST_MIN(itl_s)) < 0 THEN 'negative duration'
    END AS reason,
    CASE WHEN reason IS NOT NULL THEN raw_text END AS raw_text,
    CAST(document ->> '$.client_run_index' AS BIGINT) AS client_run_index,
    request_index,
    document ->> '$.source' AS source,
    document -> '$.summary' AS summary,
    TRY_CAST(input_text AS BIGINT) AS input_tokens,
    TRY_CAST(output_text AS BIGINT) AS output_tokens,
    document ->> '$.error' AS error,
    NULLIF(ttft_s, 0) AS ttft_s,
    NULLIF(e2e_s, 0) AS e2e_s,
    queue_s,
    NULLIF(start_monotonic_ns, 0) AS start_monotonic_ns,
    itl_s
FROM typed;
