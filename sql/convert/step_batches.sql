-- One row per step of a trace: what its label tells, and how long it was.
-- Grain: (run_id, batch_index). Reads: steps, the files written, runs (the one being loaded). Params: $paths, $rank.
-- A label is not the batch's time: kernels run on after it, sampling is another call. A batch lasts from its start to
-- the next start, or to its last work where the engine then idled. It idled where it says so (scheduler.idle, SGLang),
-- after its last step, and where it did nothing for longer than a step takes: the median from start to start where
-- requests go on, that is, where a decode or mixed step follows. Before such a step no pause is idle.
-- Work is operators, SGLang's processing of results, and GPU work from its launch to its end. It belongs to the step in
-- which it began; GPU work without a launch to none. Python alone is no work: an idle server spins in it.
-- An empty step (idle) lasts as long as its label.
INSERT INTO batches BY NAME
WITH
followed AS (
    SELECT
        *,
        LEAD(start_ns) OVER next_step - start_ns AS interval_ns,
        COALESCE(LEAD(forward_mode) OVER next_step IN ('decode', 'mixed'), FALSE) AS goes_on
    FROM steps
    WINDOW next_step AS (PARTITION BY process ORDER BY start_ns)
),

usual AS (
    SELECT process, COALESCE(MEDIAN(interval_ns) FILTER (WHERE goes_on), MEDIAN(execute_ns)) AS usual_ns
    FROM followed
    GROUP BY process
),

marks AS (
    SELECT COALESCE(process, '') AS process, start_ns, start_ns + duration_ns AS end_ns, name
    FROM READ_PARQUET($paths)
    WHERE phase = 'X'
      AND category = 'user_annotation'
      AND name IN ('scheduler.idle', 'scheduler.process_batch_result')
),

idles AS (
    SELECT s.process, s.start_ns, MIN(m.start_ns) AS idle_ns
    FROM marks AS m
    ASOF INNER JOIN steps AS s ON s.process = m.process AND s.start_ns <= m.start_ns
    WHERE m.name = 'scheduler.idle'
    GROUP BY s.process, s.start_ns
),

stopping AS (
    SELECT f.*, u.usual_ns, i.idle_ns
    FROM followed AS f
    INNER JOIN usual AS u ON u.process = f.process
    LEFT JOIN idles AS i ON i.process = f.process AND i.start_ns = f.start_ns
),

launched AS (
    SELECT launch_index, MAX(start_ns + duration_ns) AS end_ns
    FROM READ_PARQUET($paths)
    WHERE category IN ('kernel', 'gpu_memcpy', 'gpu_memset', 'Kernel', 'Memcpy', 'Memset') AND launch_index IS NOT NULL
    GROUP BY launch_index
),

work AS (
    SELECT COALESCE(process, '') AS process, start_ns, start_ns + duration_ns AS end_ns
    FROM READ_PARQUET($paths)
    WHERE phase = 'X' AND category IN ('cpu_op', 'Operator')
    UNION ALL
    SELECT COALESCE(e.process, ''), e.start_ns, l.end_ns
    FROM READ_PARQUET($paths) AS e
    INNER JOIN launched AS l ON l.launch_index = e.event_index
    UNION ALL
    SELECT process, start_ns, end_ns
    FROM marks
    WHERE name = 'scheduler.process_batch_result'
),

reached AS (
    SELECT
        s.process,
        s.start_ns,
        s.usual_ns,
        w.start_ns AS work_ns,
        w.end_ns,
        GREATEST(s.start_ns + s.execute_ns, MAX(w.end_ns) OVER before_it) AS reached_ns
    FROM work AS w
    ASOF INNER JOIN stopping AS s ON s.process = w.process AND s.start_ns <= w.start_ns
    WHERE (NOT s.goes_on OR s.idle_ns IS NOT NULL) AND w.start_ns < COALESCE(s.idle_ns, w.start_ns + 1)
    WINDOW before_it AS (
        PARTITION BY s.process, s.start_ns ORDER BY w.start_ns ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    )
),

ends AS (
    SELECT
        process,
        start_ns,
        COALESCE(ARG_MIN(reached_ns, work_ns) FILTER (WHERE work_ns - reached_ns > usual_ns), MAX(end_ns)) AS end_ns
    FROM reached
    GROUP BY process, start_ns
),

lasting AS (
    SELECT s.*, GREATEST(s.execute_ns, e.end_ns - s.start_ns) AS worked_ns
    FROM stopping AS s
    LEFT JOIN ends AS e ON e.process = s.process AND e.start_ns = s.start_ns
)

SELECT
    r.run_id,
    ROW_NUMBER() OVER (ORDER BY l.start_ns, l.process) - 1 AS batch_index,
    l.start_ns,
    CASE
        WHEN l.forward_mode = 'idle' THEN l.execute_ns
        WHEN l.interval_ns IS NULL
            OR l.idle_ns IS NOT NULL
            OR (NOT l.goes_on AND l.interval_ns - l.worked_ns > l.usual_ns) THEN LEAST(l.worked_ns, l.interval_ns)
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
    JSON_MERGE_PATCH(
        '{}',
        TO_JSON({
            process: l.process, label: l.label,
            context_requests: l.context_requests, context_tokens: l.context_tokens,
            generation_requests: l.generation_requests, generation_tokens: l.generation_tokens,
            height: TRY_CAST(REGEXP_EXTRACT(l.label, '^execute_diffusion_\d+_(\d+)x\d+$', 1) AS BIGINT),
            width: TRY_CAST(REGEXP_EXTRACT(l.label, '^execute_diffusion_\d+_\d+x(\d+)$', 1) AS BIGINT)
        })
    ) AS extra
FROM lasting AS l
CROSS JOIN runs AS r
ORDER BY batch_index;
