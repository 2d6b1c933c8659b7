-- One row per step that a trace's labels tell, empty ones (counts of 0) too.
-- Grain: (process, start_ns). Reads: the files written. Params: $paths.
-- vLLM writes execute_context_{requests}({tokens})_generation_{requests}({tokens}), or in detail
-- execute_{tokens}_context_{n}(sq..sk..sqsq..sqsk..)_generation_{n}(...), sq query tokens and sk tokens in the cache;
-- SGLang step[EXTEND bs=15 toks=15360], in detail with c_sq= c_sk= g_sq= g_sk=. Where both stand nested it is one step:
-- step[..] is the batch, the one around it has the counts. GPU copies of labels (gpu_user_annotation) are no further
-- steps. xDiT writes execute_diffusion_{requests}_{height}x{width} around a generation, all its denoising steps.
CREATE OR REPLACE TEMP TABLE steps AS
WITH
labels AS (
    SELECT
        COALESCE(process, '') AS process,
        start_ns,
        duration_ns,
        name,
        REGEXP_EXTRACT(name, '^step\[(\w+) bs=(\d+)', ['mode', 'bs']) AS step,
        REGEXP_EXTRACT(name, ' toks=(\d+)', 1) AS toks,
        REGEXP_EXTRACT(name, ' c_sq=(\d+)', 1) AS c_sq,
        REGEXP_EXTRACT(name, ' g_sq=(\d+)', 1) AS g_sq,
        REGEXP_EXTRACT(name, ' c_sk=(\d+)', 1) AS c_sk,
        REGEXP_EXTRACT(name, ' g_sk=(\d+)', 1) AS g_sk,
        REGEXP_EXTRACT(
            name, '^execute_context_(\d+)\((\d+)\)_generation_(\d+)\((\d+)\)$', ['c', 'c_sq', 'g', 'g_sq']
        ) AS plain,
        REGEXP_EXTRACT(
            name,
            '^execute_\d+_context_(\d+)\(sq(\d+)sk(\d+)sq[sqk\d]*\)_generation_(\d+)\(sq(\d+)sk(\d+)sq[sqk\d]*\)$',
            ['c', 'c_sq', 'c_sk', 'g', 'g_sq', 'g_sk']
        ) AS detailed,
        REGEXP_EXTRACT(name, '^execute_diffusion_(\d{1,9})_\d{1,9}x\d{1,9}$', 1) AS images
    FROM READ_PARQUET($paths)
    WHERE phase = 'X' AND category = 'user_annotation' AND (name LIKE 'step[%' OR name LIKE 'execute\_%' ESCAPE '\')
),

counted AS (
    SELECT
        process,
        start_ns,
        duration_ns,
        name,
        step.mode <> '' AS is_step,
        step.mode AS step_mode,
        TRY_CAST(step.bs AS BIGINT) AS step_size,
        TRY_CAST(images AS BIGINT) AS images,
        TRY_CAST(COALESCE(NULLIF(plain.c, ''), detailed.c) AS BIGINT) AS context_requests,
        TRY_CAST(COALESCE(NULLIF(plain.c_sq, ''), NULLIF(detailed.c_sq, ''), NULLIF(c_sq, ''), toks) AS BIGINT)
            AS context_tokens,
        TRY_CAST(COALESCE(NULLIF(plain.g, ''), detailed.g) AS BIGINT) AS generation_requests,
        TRY_CAST(COALESCE(NULLIF(plain.g_sq, ''), NULLIF(detailed.g_sq, ''), g_sq) AS BIGINT) AS generation_tokens,
        TRY_CAST(COALESCE(NULLIF(detailed.c_sk, ''), c_sk) AS BIGINT) AS context_kv_tokens,
        TRY_CAST(COALESCE(NULLIF(detailed.g_sk, ''), g_sk) AS BIGINT) AS generation_kv_tokens
    FROM labels
),

-- A step[..] tells one kind of requests alone, but for mixed ones: of the other kind there are none.
known AS (
    SELECT
        * REPLACE (
            CASE step_mode WHEN 'EXTEND' THEN step_size WHEN 'DECODE' THEN 0 ELSE context_requests END
                AS context_requests,
            CASE step_mode WHEN 'DECODE' THEN 0 ELSE context_tokens END AS context_tokens,
            CASE step_mode WHEN 'EXTEND' THEN 0 WHEN 'DECODE' THEN step_size ELSE generation_requests END
                AS generation_requests,
            CASE step_mode
                WHEN 'EXTEND' THEN 0
                WHEN 'DECODE' THEN COALESCE(generation_tokens, step_size)
                ELSE generation_tokens
            END AS generation_tokens,
            CASE step_mode WHEN 'DECODE' THEN 0 ELSE context_kv_tokens END AS context_kv_tokens,
            CASE step_mode WHEN 'EXTEND' THEN 0 ELSE generation_kv_tokens END AS generation_kv_tokens
        )
    FROM counted
    WHERE is_step OR images IS NOT NULL OR (context_requests IS NOT NULL AND generation_requests IS NOT NULL)
),

around AS (
    SELECT
        i.process,
        i.start_ns,
        o.start_ns AS outer_start_ns,
        o.context_requests,
        o.context_tokens,
        o.generation_requests,
        o.generation_tokens,
        o.context_kv_tokens,
        o.generation_kv_tokens
    FROM (FROM known WHERE is_step) AS i
    ASOF INNER JOIN (FROM known WHERE NOT is_step) AS o ON o.process = i.process AND o.start_ns <= i.start_ns
    WHERE i.start_ns < o.start_ns + o.duration_ns
)

SELECT
    k.process,
    k.start_ns,
    k.duration_ns AS execute_ns,
    k.name AS label,
    COALESCE(a.context_requests, k.context_requests) AS context_requests,
    COALESCE(a.context_tokens, k.context_tokens) AS context_tokens,
    COALESCE(a.generation_requests, k.generation_requests) AS generation_requests,
    COALESCE(a.generation_tokens, k.generation_tokens) AS generation_tokens,
    COALESCE(k.step_size, k.images, k.context_requests + k.generation_requests) AS batch_size,
    CASE
        WHEN k.images IS NOT NULL THEN NULL
        WHEN k.step_size = 0 OR k.step_mode = 'IDLE' THEN 'idle'
        WHEN k.step_mode = 'EXTEND' THEN 'prefill'
        WHEN k.step_mode = 'DECODE' THEN 'decode'
        WHEN k.step_mode = 'MIXED' THEN 'mixed'
        WHEN k.is_step THEN NULL
        WHEN k.context_requests > 0 AND k.generation_requests > 0 THEN 'mixed'
        WHEN k.context_requests > 0 THEN 'prefill'
        WHEN k.generation_requests > 0 THEN 'decode'
        ELSE 'idle'
    END AS forward_mode,
    COALESCE(a.context_kv_tokens + a.generation_kv_tokens, k.context_kv_tokens + k.generation_kv_tokens) AS kv_tokens,
    'step_label' AS source
FROM known AS k
LEFT JOIN around AS a ON a.process = k.process AND a.start_ns = k.start_ns
WHERE k.is_step OR NOT EXISTS (
    SELECT 1
    FROM around AS o
    WHERE o.process = k.process AND o.outer_start_ns = k.start_ns
);
