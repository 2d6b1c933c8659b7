-- One row per call of each process's anchor, as far as it is a step: told as convert/step_labels tells labels.
-- Grain: (process, start_ns). Reads: candidates, calls, work, functions, the trace's events.
-- Params: $paths, $file_number.
-- Calls that do no work are empty steps, unless most calls are: then they are turns of an idle loop, and no steps. A
-- step that adds requests is prefill; so is one that replays no graph where others do. SGLang's model runner says it.
CREATE OR REPLACE TEMP TABLE steps AS
WITH
chosen AS (
    SELECT c.process, c.function_name, c.busy_calls > 0 AND c.busy_pct < 50 AS is_loop
    FROM candidates AS c
    WHERE c.rank = 1
),

anchored AS (
    SELECT a.process, a.thread, a.start_ns, a.end_ns, a.works, a.plain_name
    FROM calls AS a
    INNER JOIN chosen AS c ON c.process = a.process AND c.function_name = a.plain_name
    WHERE a.works > 0 OR NOT c.is_loop
),

told AS (
    SELECT
        COALESCE(e.process, '') AS process, COALESCE(e.thread, '') AS thread, e.start_ns,
        CAST(f.sign = 'prefill' AS INTEGER) AS prefills, CAST(f.sign = 'decode' AS INTEGER) AS decodes, 0 AS graphs
    FROM READ_PARQUET($paths) AS e
    INNER JOIN functions AS f ON f.category IS NOT DISTINCT FROM e.category AND f.name = e.name
    WHERE e.phase = 'X' AND f.file_number = $file_number AND f.sign IS NOT NULL
    UNION ALL BY NAME
    SELECT process, thread, start_ns, 0 AS prefills, 0 AS decodes, 1 AS graphs
    FROM work
    WHERE is_graph
),

counted AS (
    SELECT
        a.process, a.thread, a.start_ns,
        SUM(t.prefills) AS prefills, SUM(t.decodes) AS decodes, SUM(t.graphs) AS graphs
    FROM told AS t
    ASOF INNER JOIN anchored AS a ON a.process = t.process AND a.thread = t.thread AND a.start_ns <= t.start_ns
    WHERE t.start_ns < a.end_ns
    GROUP BY a.process, a.thread, a.start_ns
),

moded AS (
    SELECT
        a.process,
        a.start_ns,
        MAX(a.end_ns - a.start_ns) AS execute_ns,
        ANY_VALUE(a.plain_name) AS label,
        ANY_VALUE(
            CASE
                WHEN n.prefills > 0 AND n.decodes > 0 THEN 'mixed'
                WHEN n.prefills > 0 THEN 'prefill'
                WHEN n.decodes > 0 THEN 'decode'
                WHEN a.works = 0 AND EXISTS (FROM work) THEN 'idle'
                WHEN EXISTS (FROM work AS w WHERE w.is_graph)
                    THEN IF(COALESCE(n.graphs, 0) > 0, 'decode', 'prefill')
            END
        ) AS forward_mode
    FROM anchored AS a
    LEFT JOIN counted AS n ON n.process = a.process AND n.thread = a.thread AND n.start_ns = a.start_ns
    GROUP BY a.process, a.start_ns
)

SELECT
    *,
    CASE forward_mode WHEN 'idle' THEN 0 END AS batch_size,
    CAST(NULL AS BIGINT) AS kv_tokens,
    CAST(NULL AS BIGINT) AS context_requests,
    CASE forward_mode WHEN 'idle' THEN 0 END AS context_tokens,
    CAST(NULL AS BIGINT) AS generation_requests,
    CASE forward_mode WHEN 'idle' THEN 0 END AS generation_tokens,
    'call_statistics' AS source
FROM moded;
