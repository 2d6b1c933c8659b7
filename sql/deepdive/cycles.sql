-- One row per cycle of the run: numbered by process, beside its batch, its window and its GPU work.
-- Grain: (run_id, hostname, pid, cycle_index). Reads: spans, processes, gpu_spans, recorded, captures, runs.
-- Params: $anchor.
-- recorded are the run's batches that are not made of a trace. What a label tells goes before what they tell.
INSERT INTO cycles BY NAME
WITH
numbered AS (
    SELECT
        s.*,
        p.pid,
        p.hostname,
        p.rank,
        ROW_NUMBER() OVER (
            PARTITION BY p.hostname, p.pid ORDER BY s.start_ns, s.file_number, s.process
        ) AS cycle_index
    FROM spans AS s
    INNER JOIN processes AS p ON p.file_number = s.file_number AND p.process = s.process
),

beside AS (
    SELECT n.file_number, n.process, n.number, r.batch_index, r.forward_mode, r.batch_size, r.kv_tokens,
        r.new_input_tokens
    FROM numbered AS n
    INNER JOIN recorded AS r
        ON r.start_ns < n.end_ns
        AND r.start_ns + r.duration_ns > n.start_ns
        AND COALESCE(r.rank, 0) = COALESCE(n.rank, 0)
    QUALIFY ROW_NUMBER() OVER (
        PARTITION BY n.file_number, n.process, n.number
        ORDER BY LEAST(r.start_ns + r.duration_ns, n.end_ns) - GREATEST(r.start_ns, n.start_ns) DESC
    ) = 1
),

windows AS (
    SELECT c.run_window, UNNEST(CAST(c.files AS VARCHAR[])) AS file_name
    FROM captures AS c
)

SELECT
    r.run_id,
    n.hostname,
    n.pid,
    n.cycle_index,
    n.rank,
    n.start_ns,
    n.end_ns - n.start_ns AS duration_ns,
    n.interval_ns,
    n.anchor_name,
    IF($anchor IS NOT NULL AND n.anchor_source = 'call_statistics', 'named', n.anchor_source) AS anchor_source,
    n.anchor_ns,
    n.label,
    COALESCE(n.forward_mode, b.forward_mode) AS forward_mode,
    COALESCE(n.batch_size, b.batch_size) AS batch_size,
    COALESCE(n.kv_tokens, b.kv_tokens) AS kv_tokens,
    COALESCE(n.new_input_tokens, b.new_input_tokens) AS new_input_tokens,
    b.batch_index,
    w.run_window,
    COALESCE(g.events, 0) AS gpu_events,
    COALESCE(g.time_ns, 0) AS gpu_ns,
    g.start_ns AS gpu_start_ns,
    g.end_ns AS gpu_end_ns,
    COALESCE(t.events, 0) AS transition_gpu_events,
    n.process,
    n.file_name
FROM numbered AS n
CROSS JOIN runs AS r
LEFT JOIN beside AS b ON b.file_number = n.file_number AND b.process = n.process AND b.number = n.number
LEFT JOIN windows AS w ON w.file_name = n.file_name
LEFT JOIN gpu_spans AS g
    ON g.file_number = n.file_number AND g.process = n.process AND g.number = n.number AND g.inside
LEFT JOIN gpu_spans AS t
    ON t.file_number = n.file_number AND t.process = n.process AND t.number = n.number AND NOT t.inside
ORDER BY n.hostname, n.pid, n.cycle_index;
