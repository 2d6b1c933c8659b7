-- One row per batch of the published profiler's trace, with its composition; and per gap in which the server idled.
-- Grain: (run_id, batch_index).
-- Reads: foreign_lines (of a model_config), events, batches, runs (the one that is being loaded). Params: none.
-- Attributes of one start time belong to the call of their name that starts within 5 us of it, the nearest one.
-- A batch is from Scheduler.run_batch to the end of the next Scheduler.process_batch_result of its process that is not
-- another batch's: results come in the order of the runs. Where two runs follow each other without a result and in
-- another mode, the first ends as the second starts. A batch without any result lasts as long as its run.
-- A gap in which the scheduler asked several times for a batch is idle.
INSERT INTO batches BY NAME
WITH
calls AS (
    SELECT file_name, event_index, name, process, start_ns, start_ns + duration_ns AS end_ns
    FROM events
    WHERE phase = 'X'
        AND name IN ('Scheduler.run_batch', 'Scheduler.process_batch_result', 'Scheduler.get_next_batch_to_run')
),

told AS (
    SELECT
        call_name,
        start_ns,
        FIRST(forward_mode ORDER BY line_number) FILTER (WHERE forward_mode <> '') AS mode,
        FIRST(batch_size ORDER BY line_number) FILTER (WHERE batch_size IS NOT NULL) AS batch_size,
        FIRST(input_lengths ORDER BY line_number) FILTER (WHERE LEN(request_ids) > 0) AS input_lengths,
        FIRST(output_lengths ORDER BY line_number) FILTER (WHERE LEN(request_ids) > 0) AS output_lengths
    FROM foreign_lines
    WHERE reason IS NULL
    GROUP BY call_name, start_ns
),

pairs AS (
    SELECT t.*, c.file_name, c.event_index, ABS(c.start_ns - t.start_ns) AS distance_ns
    FROM told AS t
    INNER JOIN calls AS c
        ON c.name = t.call_name AND c.start_ns BETWEEN t.start_ns - 5000 AND t.start_ns + 5000
    QUALIFY ROW_NUMBER() OVER (PARTITION BY t.call_name, t.start_ns ORDER BY distance_ns, c.event_index) = 1
),

composed AS (
    SELECT
        c.*,
        c.name = 'Scheduler.run_batch' AS is_run,
        p.mode,
        COALESCE(LEN(p.input_lengths), p.batch_size) AS batch_size,
        p.input_lengths,
        p.output_lengths
    FROM calls AS c
    LEFT JOIN (
        SELECT *
        FROM pairs
        QUALIFY ROW_NUMBER() OVER (PARTITION BY file_name, event_index ORDER BY distance_ns, start_ns) = 1
    ) AS p USING (file_name, event_index)
    WHERE c.name <> 'Scheduler.get_next_batch_to_run'
),

followed AS (
    SELECT
        *,
        CASE
            WHEN is_run AND LEAD(is_run) OVER following AND mode <> LEAD(mode) OVER following
                THEN LEAD(start_ns) OVER following
        END AS closed_ns
    FROM composed
    WINDOW following AS (PARTITION BY process ORDER BY start_ns, event_index)
),

pending AS (
    SELECT
        *,
        SUM(CASE WHEN closed_ns IS NOT NULL THEN 0 WHEN is_run THEN 1 ELSE -1 END) OVER until_here AS balance
    FROM followed
    WINDOW until_here AS (PARTITION BY process ORDER BY start_ns, event_index ROWS UNBOUNDED PRECEDING)
),

-- A result that makes the balance lower than it ever was belongs to a run before the recording.
answered AS (
    SELECT
        *,
        is_run OR balance >= LEAST(0, COALESCE(MIN(balance) OVER before_here, 0)) AS is_paired
    FROM pending
    WINDOW before_here AS (
        PARTITION BY process ORDER BY start_ns, event_index ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    )
),

numbered AS (
    SELECT
        *,
        COUNT(*) OVER (PARTITION BY process, is_run ORDER BY start_ns, event_index ROWS UNBOUNDED PRECEDING) AS turn
    FROM answered
    WHERE closed_ns IS NULL AND is_paired
),

computed AS (
    SELECT
        run.*,
        COALESCE(run.closed_ns, result.end_ns, run.end_ns) AS batch_end_ns,
        result.batch_size AS post_batch_size,
        result.mode AS post_mode,
        result.input_lengths AS post_input_lengths,
        result.output_lengths AS post_output_lengths
    FROM answered AS run
    LEFT JOIN numbered AS place
        ON run.file_name = place.file_name AND run.event_index = place.event_index
    LEFT JOIN numbered AS result
        ON NOT result.is_run AND run.process IS NOT DISTINCT FROM result.process AND place.turn = result.turn
    WHERE run.is_run
),

gaps AS (
    SELECT *
    FROM (
        SELECT
            process,
            MAX(batch_end_ns) OVER (
                PARTITION BY process ORDER BY start_ns, event_index ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
            ) AS gap_start_ns,
            start_ns AS gap_end_ns
        FROM computed
    )
    WHERE gap_start_ns < gap_end_ns
),

idle AS (
    SELECT g.process, g.gap_start_ns, g.gap_end_ns
    FROM gaps AS g
    INNER JOIN calls AS c
        ON c.name = 'Scheduler.get_next_batch_to_run' AND g.process IS NOT DISTINCT FROM c.process
        AND c.start_ns >= g.gap_start_ns AND c.start_ns < g.gap_end_ns
    GROUP BY ALL
    HAVING COUNT(*) > 1
),

everything AS (
    SELECT
        process,
        start_ns,
        batch_end_ns - start_ns AS duration_ns,
        end_ns - start_ns AS execute_ns,
        CASE mode
            WHEN '1' THEN 'prefill'
            WHEN 'EXTEND' THEN 'prefill'
            WHEN '2' THEN 'decode'
            WHEN 'DECODE' THEN 'decode'
            WHEN '3' THEN 'mixed'
            WHEN 'MIXED' THEN 'mixed'
            WHEN '4' THEN 'idle'
            WHEN 'IDLE' THEN 'idle'
        END AS forward_mode,
        batch_size,
        input_lengths,
        output_lengths,
        JSON_OBJECT(
            'process', process,
            'post_forward_mode', post_mode,
            'post_batch_size', post_batch_size,
            'post_input_length_avg', LIST_AVG(post_input_lengths),
            'post_input_length_max', LIST_MAX(post_input_lengths),
            'post_output_length_avg', LIST_AVG(post_output_lengths),
            'post_output_length_max', LIST_MAX(post_output_lengths)
        ) AS extra
    FROM computed
    UNION ALL BY NAME
    SELECT
        process,
        gap_start_ns AS start_ns,
        gap_end_ns - gap_start_ns AS duration_ns,
        'idle' AS forward_mode,
        0 AS batch_size,
        JSON_OBJECT('process', process) AS extra
    FROM idle
)

SELECT
    r.run_id,
    (SELECT COUNT(*) FROM batches) + ROW_NUMBER() OVER (ORDER BY b.start_ns, b.process) - 1 AS batch_index,
    b.start_ns,
    b.duration_ns,
    LEAD(b.start_ns) OVER (PARTITION BY b.process ORDER BY b.start_ns) - b.start_ns AS interval_ns,
    CASE WHEN b.execute_ns <= b.duration_ns THEN b.execute_ns END AS execute_ns,
    b.forward_mode,
    b.batch_size,
    LIST_AVG(b.input_lengths) AS input_length_avg,
    LIST_MAX(b.input_lengths) AS input_length_max,
    LIST_AVG(b.output_lengths) AS output_length_avg,
    LIST_MAX(b.output_lengths) AS output_length_max,
    CASE
        WHEN b.batch_size = 0 THEN 0
        ELSE CAST(LIST_SUM(b.input_lengths) + LIST_SUM(b.output_lengths) AS BIGINT)
    END AS kv_tokens,
    CASE WHEN b.forward_mode IN ('decode', 'idle') THEN b.batch_size END AS new_input_tokens,
    'profiler_config' AS source,
    b.extra
FROM everything AS b
CROSS JOIN runs AS r
ORDER BY batch_index;
