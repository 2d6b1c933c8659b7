-- One row per call of each process's layer: a cycle of its own, with the mode of the step that it is in.
-- Grain: (file_number, process, number). Reads: candidates, calls, steps. Params: $file_number, $file_name.
-- A layer ends with its call: what follows the last one, such as sampling, is none of its.
INSERT INTO spans BY NAME
SELECT
    CAST($file_number AS INTEGER) AS file_number,
    $file_name AS file_name,
    c.process,
    ROW_NUMBER() OVER (PARTITION BY c.process ORDER BY c.start_ns) AS number,
    c.start_ns,
    c.end_ns,
    c.end_ns - c.start_ns AS anchor_ns,
    LEAD(c.start_ns) OVER (PARTITION BY c.process ORDER BY c.start_ns) - c.start_ns AS interval_ns,
    s.forward_mode,
    s.batch_size,
    s.kv_tokens,
    s.context_tokens + s.generation_tokens AS new_input_tokens,
    c.plain_name AS anchor_name,
    'layer' AS anchor_source,
    s.label
FROM calls AS c
INNER JOIN candidates AS d ON d.process = c.process AND d.function_name = c.plain_name AND d.rank = 1
ASOF INNER JOIN steps AS s ON s.process = c.process AND s.start_ns <= c.start_ns
WHERE c.end_ns <= s.start_ns + s.execute_ns AND c.end_ns > c.start_ns AND c.works > 0;
