-- One row per run, the one that is being loaded: the engine that its trace names.
-- Grain: (run_id). Reads: runs, steps. Params: $vllm_version.
UPDATE runs SET
    engine = CASE
        WHEN CAST($vllm_version AS VARCHAR) IS NOT NULL OR EXISTS (
            SELECT 1 FROM steps WHERE source = 'execute_model' OR label LIKE 'execute%'
        ) AND NOT EXISTS (SELECT 1 FROM steps WHERE label LIKE 'step[%') THEN 'vllm'
        WHEN EXISTS (SELECT 1 FROM steps WHERE label LIKE 'step[%') THEN 'sglang'
    END,
    engine_version = CAST($vllm_version AS VARCHAR);
