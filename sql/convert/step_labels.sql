-- One row per step that a trace's labels tell, empty ones (counts of 0) too.
-- Grain: (process, start_ns). Reads: the files written. Params: $paths.
-- vLLM writes execute_context_{requests}({tokens})_generation_{requests}({tokens}), or in detail
-- execute_{tokens}_context_{n}(sq..sk..sqsq..sqsk..)_generation_{n}(...), sq query tokens and sk tokens in the cache;
-- SGLang step[EXTEND bs=15 toks=15360], in detail with c_sk= and g_sk=. Where both stand nested it is one step:
-- step[..] is the batch, the one around it has the counts. GPU copies of labels (gpu_user_annotation) are no further
-- steps.
CREATE OR REPLACE TEMP TABLE steps AS
WITH
labels AS (
    SELECT
        process,
        start_ns,
        duration_ns,
        name,
        REGEXP_EXTRACT(name, '^step\[(EXTEND|DECODE|MIXED) bs=(\d+)', ['mode', 'bs']) AS step,
        TRY_CAST(REGEXP_EXTRACT(name, ' toks=(\d+)', 1) AS BIGINT) AS toks,
        TRY_CAST(REGEXP_EXTRACT(name, ' c_sk=(\d+)', 1) AS BIGINT) AS c_sk,
        TRY_CAST(REGEXP_EXTRACT(name, ' g_sk=(\d+)', 1) AS BIGINT) AS g_sk,
        REGEXP_EXTRACT(
            name, '^execute_context_(\d+)\((\d+)\)_generation_(\d+)\((\d+)\)$', ['c', 'c_sq', 'g', 'g_sq']
        ) AS plain,
        REGEXP_EXTRACT(
            name,
            '^execute_\d+_context_(\d+)\(sq(\d+)sk(\d+)sq[sqk\d]*\)_generation_(\d+)\(sq(\d+)sk(\d+)sq[sqk\d]*\)$',
            ['c', 'c_sq', 'c_sk', 'g', 'g_sq', 'g_sk']
        ) AS detailed
    FROM READ_PARQUET($paths)
    WHERE phase = 'X' AND category = 'user_annotation' AND (name LIKE 'step[%' OR name LIKE 'execute\_%' ESCAPE '\')
),

counted AS (
    SELECT
        process,
        start_ns,
        duration_ns,
        name,
        NULLIF(step.mode, '') AS step_mode,
        TRY_CAST(step.bs AS BIGINT) AS step_size,
        toks,
        TRY_CAST(COALESCE(NULLIF(plain.c, ''), NULLIF(detailed.c, '')) AS BIGINT) AS context_requests,
        TRY_CAST(COALESCE(NULLIF(plain.c_sq, ''), NULLIF(detailed.c_sq, '')) AS BIGINT) AS context_tokens,
        TRY_CAST(COALESCE(NULLIF(plain.g, ''), NULLIF(detailed.g, '')) AS BIGINT) AS generation_requests,
        TRY_CAST(COALESCE(NULLIF(plain.g_sq, ''), NULLIF(detailed.g_sq, '')) AS BIGINT) AS generation_tokens,
        COALESCE(
            TRY_CAST(NULLIF(detailed.c_sk, '') AS BIGINT) + TRY_CAST(detailed.g_sk AS BIGINT), c_sk + g_sk, c_sk, g_sk
        ) AS kv_tokens
    FROM labels
),

known AS (
    SELECT *, (step_mode IS NOT NULL) AS is_step
    FROM counted
    WHERE step_mode IS NOT NULL OR context_requests IS NOT NULL
),

-- Of nested labels: a step[..] takes what it lacks from the label around it, which is then no step of its own.
around AS (
    SELECT
        i.process,
        i.start_ns,
        ANY_VALUE(o.start_ns) AS outer_start_ns,
        ANY_VALUE(o.context_requests) AS context_requests,
        ANY_VALUE(o.context_tokens) AS context_tokens,
        ANY_VALUE(o.generation_requests) AS generation_requests,
        ANY_VALUE(o.generation_tokens) AS generation_tokens,
        ANY_VALUE(o.kv_tokens) AS kv_tokens
    FROM known AS i
    INNER JOIN known AS o ON o.process IS NOT DISTINCT FROM i.process
        AND NOT o.is_step
        AND o.start_ns <= i.start_ns
        AND o.start_ns + o.duration_ns >= i.start_ns + i.duration_ns
    WHERE i.is_step
    GROUP BY i.process, i.start_ns
)

SELECT
    k.process,
    k.start_ns,
    k.duration_ns AS execute_ns,
    k.name AS label,
    COALESCE(a.context_requests, k.context_requests) AS context_requests,
    COALESCE(a.context_tokens, k.context_tokens, CASE k.step_mode WHEN 'EXTEND' THEN k.toks WHEN 'DECODE' THEN 0 END)
        AS context_tokens,
    COALESCE(a.generation_requests, k.generation_requests) AS generation_requests,
    COALESCE(
        a.generation_tokens,
        k.generation_tokens,
        CASE k.step_mode WHEN 'DECODE' THEN k.step_size WHEN 'EXTEND' THEN 0 END
    ) AS generation_tokens,
    COALESCE(k.step_size, k.context_requests + k.generation_requests) AS batch_size,
    CASE
        WHEN k.step_mode = 'EXTEND' THEN 'prefill'
        WHEN k.step_mode = 'DECODE' THEN 'decode'
        WHEN k.step_mode = 'MIXED' THEN 'mixed'
        WHEN k.context_requests > 0 AND k.generation_requests > 0 THEN 'mixed'
        WHEN k.context_requests > 0 THEN 'prefill'
        WHEN k.generation_requests > 0 THEN 'decode'
        ELSE 'idle'
    END AS forward_mode,
    COALESCE(a.kv_tokens, k.kv_tokens) AS kv_tokens,
    'step_label' AS source
FROM known AS k
LEFT JOIN around AS a ON a.process IS NOT DISTINCT FROM k.process AND a.start_ns = k.start_ns
WHERE k.is_step OR NOT EXISTS (
    SELECT 1
    FROM around AS o
    WHERE o.process IS NOT DISTINCT FROM k.process AND o.outer_start_ns = k.start_ns
);
