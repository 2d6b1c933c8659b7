-- One row per call of vLLM's model runner, where a trace has no step labels but its Python stacks.
-- Grain: (process, start_ns). Reads: the files written, steps. Params: $paths.
-- What is in the batch is not told. Where some steps replay a graph, one that does not is prefill; one that launches
-- nothing is empty. Where none does, nothing can be told.
INSERT INTO steps BY NAME
WITH
calls AS (
    SELECT process, thread, start_ns, duration_ns AS execute_ns, name AS label
    FROM READ_PARQUET($paths)
    WHERE phase = 'X'
      AND category = 'python_function'
      AND REGEXP_MATCHES(name, 'vllm/v1/worker/(gpu_model_runner|gpu/model_runner)\.py\(\d+\): execute_model$')
      AND NOT EXISTS (SELECT 1 FROM steps)
),

launches AS (
    SELECT process, thread, start_ns, name ILIKE '%GraphLaunch%' AS is_graph
    FROM READ_PARQUET($paths)
    WHERE phase = 'X' AND category IN ('cuda_runtime', 'cuda_driver') AND name ILIKE '%Launch%'
),

counted AS (
    SELECT
        c.process,
        c.start_ns,
        c.execute_ns,
        c.label,
        COUNT(l.start_ns) AS launches,
        COUNT(l.start_ns) FILTER (WHERE l.is_graph) AS graphs
    FROM calls AS c
    LEFT JOIN launches AS l ON l.process = c.process
        AND l.start_ns BETWEEN c.start_ns AND c.start_ns + c.execute_ns
    GROUP BY ALL
)

SELECT
    process,
    start_ns,
    execute_ns,
    label,
    CASE
        WHEN MAX(graphs) OVER () = 0 THEN NULL
        WHEN launches = 0 THEN 'idle'
        WHEN graphs = 0 THEN 'prefill'
        ELSE 'decode'
    END AS forward_mode,
    'execute_model' AS source
FROM counted;
