-- One row per trace, the one that is being loaded: the engine whose functions it shows, NULL where none is told.
-- Grain: (engine). Reads: the files written. Params: $paths.
-- SGLang calls into vLLM's kernels, not the other way round.
SELECT
    CASE
        WHEN BOOL_OR(is_sglang) THEN 'sglang'
        WHEN BOOL_OR(is_vllm) THEN 'vllm'
    END AS engine
FROM (
    SELECT
        name IN ('Scheduler.run_batch', 'scheduler.run_batch')
        OR REGEXP_MATCHES(COALESCE(source_file, name), '(^|/)sglang/srt/') AS is_sglang,
        REGEXP_MATCHES(COALESCE(source_file, name), '(^|/)vllm/(v1|engine|worker|executor|entrypoints)/') AS is_vllm
    FROM READ_PARQUET($paths)
    WHERE phase = 'X' AND category IN ('python_function', 'python', 'user_annotation')
);
