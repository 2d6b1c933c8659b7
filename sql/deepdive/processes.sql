-- One row per process of one trace that has cycles: its number, host and rank.
-- Grain: (file_number, process). Reads: spans, files, runs. Params: $file_number, $file_name.
-- The published profiler writes host(1234), or a number as floats are printed: host(1.234e+06).
INSERT INTO processes BY NAME
WITH
named AS (
    SELECT DISTINCT
        process,
        REGEXP_EXTRACT(process, '^(.*)\(([0-9.e+]+)\)$', ['host', 'pid']) AS parts
    FROM spans
    WHERE file_number = $file_number
),

head AS (
    SELECT
        ANY_VALUE(head ->> '$.host_name') AS hostname,
        ANY_VALUE(TRY_CAST(head ->> '$.distributedInfo.rank' AS BIGINT)) AS rank,
        COALESCE(BOOL_OR(TRY_CAST(head ->> '$.cut_off' AS BOOLEAN)), FALSE) AS is_cut_off
    FROM files
    WHERE name = $file_name
)

SELECT
    CAST($file_number AS INTEGER) AS file_number,
    n.process,
    CAST(TRY_CAST(COALESCE(NULLIF(n.parts.pid, ''), n.process) AS DECIMAL(18, 3)) AS BIGINT) AS pid,
    COALESCE(NULLIF(n.parts.host, ''), h.hostname, (SELECT ANY_VALUE(r.host) FROM runs AS r)) AS hostname,
    h.rank,
    h.is_cut_off
FROM named AS n
CROSS JOIN head AS h;
