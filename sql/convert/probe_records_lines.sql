-- One row per line of a file of the trial probe: kept, or rejected with a reason.
-- Grain: (file_name, line_number). Reads: lines. Params: none.
-- A prefilling request is [id, prompt length, tokens computed before, new tokens]; the prompt length is null where the
-- request began before the probe did. dec_ctx has the context length of each decoding request.
CREATE OR REPLACE TEMP TABLE foreign_lines AS
WITH
documents AS (
    SELECT
        *,
        CASE WHEN problem IS NULL AND STARTS_WITH(TRIM(raw_text), '{') THEN TRY_CAST(raw_text AS JSON) END AS document
    FROM lines
),

kinds AS (
    SELECT
        *,
        CASE
            WHEN JSON_EXISTS(document, '$.t_sched') THEN 'vllm_scheduler'
            WHEN JSON_EXISTS(document, '$.exec_us') THEN 'vllm_worker'
            WHEN JSON_EXISTS(document, '$.run_us') THEN 'sglang_scheduler'
        END AS site
    FROM documents
),

needed AS (
    SELECT
        *,
        CASE site
            WHEN 'vllm_scheduler'
                THEN JSON_EXTRACT(document, ['$.t_sched', '$.wait_us', '$.bs', '$.ntok', '$.waiting', '$.running'])
            WHEN 'vllm_worker' THEN JSON_EXTRACT(document, ['$.t0', '$.batch_us', '$.bs', '$.ntok', '$.exec_us'])
            WHEN 'sglang_scheduler'
                THEN JSON_EXTRACT(
                    document, ['$.t0', '$.batch_us', '$.bs', '$.ntok', '$.run_us', '$.queue', '$.finished']
                )
        END AS numbers,
        COALESCE(JSON_EXTRACT(document, '$.prefill[*]'), []) AS prefill,
        COALESCE(JSON_EXTRACT(document, '$.dec_ctx[*]'), []) AS contexts
    FROM kinds
),

judged AS (
    SELECT
        *,
        LEN(LIST_FILTER(
            numbers,
            LAMBDA v: JSON_TYPE(v) IN ('BIGINT', 'UBIGINT')
                AND TRY_CAST(v AS BIGINT) BETWEEN -1000000000000000 AND 4000000000000000000
        )) = LEN(numbers) AS are_numbers,
        LEN(LIST_FILTER(
            prefill,
            LAMBDA p: JSON_ARRAY_LENGTH(p) = 4
                AND JSON_TYPE(p, '$[0]') = 'VARCHAR'
                AND JSON_TYPE(p, '$[1]') IN ('UBIGINT', 'NULL')
                AND JSON_TYPE(p, '$[2]') = 'UBIGINT'
                AND JSON_TYPE(p, '$[3]') = 'UBIGINT'
                AND COALESCE(TRY_CAST(p -> '$[1]' AS BIGINT), 0) <= 1000000000
                AND TRY_CAST(p -> '$[2]' AS BIGINT) <= 1000000000
                AND TRY_CAST(p -> '$[3]' AS BIGINT) <= 1000000000
        )) = LEN(prefill)
        AND LEN(LIST_FILTER(contexts, LAMBDA c: JSON_TYPE(c) = 'UBIGINT' AND TRY_CAST(c AS BIGINT) <= 1000000000))
            = LEN(contexts) AS are_requests
    FROM needed
)

SELECT
    file_name,
    line_number,
    'batches' AS table_name,
    1 AS table_rows,
    CASE
        WHEN problem IS NOT NULL THEN problem
        WHEN document IS NULL THEN 'not a JSON object'
        WHEN site IS NULL THEN 'a record of no known kind'
        WHEN NOT are_numbers THEN 'a field is missing or no whole number'
        WHEN LIST_MIN(LIST_TRANSFORM(numbers, LAMBDA v: TRY_CAST(v AS BIGINT))) < 0 THEN 'negative duration'
        WHEN LIST_MAX(LIST_TRANSFORM(numbers[2:], LAMBDA v: TRY_CAST(v AS BIGINT))) > 1000000000000000
            THEN 'a number is out of range'
        WHEN NOT are_requests THEN 'a request is not as the probe writes it'
        WHEN site <> 'vllm_scheduler' AND TRY_CAST(numbers[3] AS BIGINT) <> LEN(prefill) + LEN(contexts)
            THEN 'bs is not the number of requests'
    END AS reason,
    CASE WHEN reason IS NOT NULL THEN raw_text END AS raw_text,
    site,
    document ->> '$.mode' AS mode,
    TRY_CAST(numbers[1] AS BIGINT) AS start_ns,
    CASE WHEN reason IS NULL THEN TRY_CAST(numbers[2] AS BIGINT) * 1000 END AS duration_ns,
    TRY_CAST(numbers[3] AS BIGINT) AS batch_size,
    TRY_CAST(numbers[4] AS BIGINT) AS new_input_tokens,
    CASE WHEN reason IS NULL AND site <> 'vllm_scheduler' THEN TRY_CAST(numbers[5] AS BIGINT) * 1000 END AS execute_ns,
    CASE
        WHEN site = 'vllm_scheduler' THEN TRY_CAST(numbers[5] AS BIGINT)
        WHEN site = 'sglang_scheduler' THEN TRY_CAST(numbers[6] AS BIGINT)
    END AS waiting,
    CASE WHEN site = 'vllm_scheduler' THEN TRY_CAST(numbers[6] AS BIGINT) END AS running,
    CASE WHEN site = 'sglang_scheduler' THEN TRY_CAST(numbers[7] AS BIGINT) END AS finished_with_it,
    CASE
        WHEN reason IS NULL
            THEN LIST_TRANSFORM(
                prefill,
                LAMBDA p: {
                    'request_id': p ->> '$[0]',
                    'input_length': TRY_CAST(p -> '$[1]' AS BIGINT),
                    'computed': TRY_CAST(p -> '$[2]' AS BIGINT),
                    'new_tokens': TRY_CAST(p -> '$[3]' AS BIGINT)
                }
            )
    END AS prefill,
    CASE WHEN reason IS NULL THEN LIST_TRANSFORM(contexts, LAMBDA c: TRY_CAST(c AS BIGINT)) END AS contexts,
    CASE
        WHEN document IS NOT NULL
            THEN JSON_MERGE_PATCH(
                document, '{"prefill": null, "dec_ctx": null, "bs": null, "ntok": null, "t0": null, "t_sched": null}'
            )
    END AS others
FROM judged;
