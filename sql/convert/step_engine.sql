-- One row per trace, the one that is being loaded: the engine whose steps it holds, NULL where there is none.
-- Grain: (engine). Reads: steps. Params: none.
SELECT
    CASE
        WHEN BOOL_OR(label LIKE 'step[%') THEN 'sglang'
        WHEN BOOL_OR(label LIKE 'execute\_diffusion\_%' ESCAPE '\') THEN 'xdit'
        WHEN COUNT(*) > 0 THEN 'vllm'
    END AS engine
FROM steps;
