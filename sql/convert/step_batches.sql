-- One row per step of a trace: what its label tells, and how long it was.
-- Grain: (run_id, batch_index). Reads: steps, the files written, runs (the one being loaded).
-- Params: $paths, $rank.
-- A label is not the batch's time: kernels run on after it, sampling is another call. A batch lasts from its start to
-- the next start, or to the last operator or GPU work that began before that where the engine then idled: where what is
-- left is longer than the median step. An empty step (idle) lasts as long as its label.
INSERT INTO batches BY NAME
WITH
work AS (
    SELECT process, start_ns, start_ns + duration_ns AS end_ns
    FROM READ_PARQUET($paths)
    WHERE phase = 'X'
      AND category IN (
        'cpu_op', 'cuda_runtime', 'kernel', 'gpu_memcpy', 'gpu_memset',
        'Operator', 'Runtime', 'Kernel', 'Memcpy', 'Memset'
      )
),

ordered AS (
    SELECT *, LEAD(start_ns) OVER (PARTITION BY process ORDER BY start_ns) - start_ns AS interval_ns
    FROM steps
),

-- GPU rows name a device as their process: of them only the time tells the step.
ends AS (
    SELECT o.process, o.start_ns, MAX(w.end_ns) AS end_ns
    FROM work AS w
    ASOF INNER JOIN ordered AS o ON w.start_ns >= o.start_ns
    GROUP BY o.process, o.start_ns
),

lasting AS (
    SELECT
        o.*,
        GREATEST(o.start_ns + o.execute_ns, COALESCE(e.end_ns, 0)) AS end_ns,
        MEDIAN(o.interval_ns) OVER (PARTITION BY o.process) AS median_ns
    FROM ordered AS o
    LEFT JOIN ends AS e ON e.process IS NOT DISTINCT FROM o.process AND e.start_ns = o.start_ns
)

SELECT
    r.run_id,
    ROW_NUMBER() OVER (ORDER BY l.start_ns, l.process) - 1 AS batch_index,
    l.start_ns,
    CASE
        WHEN l.forward_mode = 'idle' THEN l.execute_ns
        WHEN l.interval_ns IS NULL OR l.start_ns + l.interval_ns - l.end_ns > l.median_ns THEN l.end_ns - l.start_ns
        ELSE l.interval_ns
    END AS duration_ns,
    l.interval_ns,
    l.execute_ns,
    l.forward_mode,
    l.batch_size,
    l.kv_tokens,
    l.context_tokens + l.generation_tokens AS new_input_tokens,
    $rank AS rank,
    l.source,
    TO_JSON({
        label: l.label, context_requests: l.context_requests, context_tokens: l.context_tokens,
        generation_requests: l.generation_requests, generation_tokens: l.generation_tokens
    }) AS extra
FROM lasting AS l
CROSS JOIN runs AS r;
