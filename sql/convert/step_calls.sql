-- One row per call of vLLM's model runner, for a trace that has no step labels but its Python stacks.
-- Grain: (process, start_ns). Reads: the files written. Params: $paths.
-- What is in the batch is not told. A step that adds requests is prefill; so is one that replays no graph where others
-- do; where others launch GPU work, one that launches none is empty. Where no step replays a graph, the rest is not
-- told. Graphs may be of pieces of the model: then prefill replays them, too.
INSERT INTO steps BY NAME
WITH
frames AS (
    SELECT
        COALESCE(process, '') AS process,
        thread,
        start_ns,
        duration_ns,
        name,
        SPLIT_PART(name, ': ', 2) = 'execute_model' AS is_call
    FROM READ_PARQUET($paths)
    WHERE phase = 'X'
      AND category = 'python_function'
      AND CONTAINS(name, 'vllm/v1/worker/')
      AND REGEXP_MATCHES(
        name,
        'vllm/v1/worker/((gpu_model_runner|gpu/model_runner)\.py\(\d+\): execute_model|.*\.py\(\d+\): add_requests?)$'
      )
),

-- Of calls within a call, such as that of a class it extends, the outer one is the step.
calls AS (
    SELECT *
    FROM frames
    WHERE is_call
    QUALIFY start_ns >= COALESCE(
        MAX(start_ns + duration_ns) OVER (
            PARTITION BY process, thread
            ORDER BY start_ns, duration_ns DESC ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ),
        0
    )
),

told AS (
    SELECT
        COALESCE(process, '') AS process, thread, start_ns,
        0 AS adds, 1 AS launches, CAST(name ILIKE '%GraphLaunch%' AS INTEGER) AS graphs
    FROM READ_PARQUET($paths)
    WHERE phase = 'X' AND category IN ('cuda_runtime', 'cuda_driver') AND name ILIKE '%Launch%'
    UNION ALL BY NAME
    SELECT process, thread, start_ns, 1 AS adds, 0 AS launches, 0 AS graphs
    FROM frames
    WHERE NOT is_call
),

counted AS (
    SELECT c.process, c.start_ns, SUM(t.adds) AS adds, SUM(t.launches) AS launches, SUM(t.graphs) AS graphs
    FROM told AS t
    ASOF INNER JOIN calls AS c ON c.process = t.process AND c.thread = t.thread AND c.start_ns <= t.start_ns
    WHERE t.start_ns < c.start_ns + c.duration_ns
    GROUP BY c.process, c.start_ns
),

steps_told AS (
    SELECT
        c.process,
        c.start_ns,
        c.duration_ns AS execute_ns,
        c.name AS label,
        CASE
            WHEN n.adds > 0 THEN 'prefill'
            WHEN COALESCE(n.launches, 0) = 0 AND SUM(n.launches) OVER () > 0 THEN 'idle'
            WHEN SUM(n.graphs) OVER () > 0 THEN CASE WHEN n.graphs > 0 THEN 'decode' ELSE 'prefill' END
        END AS forward_mode
    FROM calls AS c
    LEFT JOIN counted AS n ON n.process = c.process AND n.start_ns = c.start_ns
)

SELECT
    *,
    CASE forward_mode WHEN 'idle' THEN 0 END AS batch_size,
    CASE forward_mode WHEN 'idle' THEN 0 END AS context_tokens,
    CASE forward_mode WHEN 'idle' THEN 0 END AS generation_tokens,
    'execute_model' AS source
FROM steps_told;
