-- One row per cycle of one trace, and per transition after one, that launched GPU work: how much, from when to when.
-- Grain: (file_number, process, number, inside). Reads: owned. Params: $file_number.
-- late counts what began before its launch did, as it only can when clocks disagree.
INSERT INTO gpu_spans BY NAME
SELECT
    CAST($file_number AS INTEGER) AS file_number,
    process,
    number,
    part = 'cycle' AS inside,
    COUNT(*) AS events,
    SUM(end_ns - start_ns) AS time_ns,
    MIN(start_ns) AS start_ns,
    MAX(end_ns) AS end_ns,
    COUNT(*) FILTER (WHERE start_ns < begun_ns) AS late
FROM owned
WHERE kind = 'gpu' AND number IS NOT NULL
GROUP BY process, number, part;
