-- One row per event of the piece of a trace that has just been read: typed, or with the reason why it cannot be used.
-- Grain: (event_index). Reads: chunk (as the scanner gives it), trace_file. Params: none.
-- The published profiler puts JSON text under args.args: its keys are taken up among the others.
CREATE OR REPLACE TEMP TABLE trace_rows AS
WITH
opened AS (
    SELECT
        * EXCLUDE (args),
        CASE
            WHEN CONTAINS(args, '"args":"{') AND JSON_VALID(args ->> '$.args')
                THEN JSON_MERGE_PATCH(args, '{"args":null}', args ->> '$.args')
            ELSE args
        END AS args,
        CONTAINS(args, '"args":"{') AS promoted
    FROM chunk
)

SELECT
    f.run_id,
    f.file_name,
    o.event_index,
    o.phase,
    o.category,
    o.name,
    o.process,
    COALESCE(
        TRY_CAST(o.process AS BIGINT), TRY_CAST(REGEXP_EXTRACT(o.process, '\((\d+)\)$', 1) AS BIGINT)
    ) AS pid,
    o.thread,
    TRY_CAST(o.thread AS BIGINT) AS tid,
    o.start_ns + f.base_ns AS start_ns,
    o.duration_ns,
    o.flow_id,
    o.args,
    CAST(o.extra AS JSON) AS extra,
    CASE WHEN o.promoted THEN TRY_CAST(o.args ->> '$.correlation' AS BIGINT) ELSE o.correlation END AS correlation,
    COALESCE(o.external_id, o.external_id_2021) AS external_id,
    o.device,
    o.stream,
    CASE WHEN o.category = 'python' THEN o.args ->> '$.filePath' ELSE o.source_file END AS source_file,
    CASE WHEN o.category = 'python' THEN o.lineno ELSE o.source_line END AS source_line,
    o.python_id,
    o.python_parent_id,
    LOWER(o.category) IN ('kernel', 'gpu_memcpy', 'gpu_memset', 'memcpy', 'memset') AS is_gpu_work,
    o.raw_text,
    CASE
        WHEN o.problem IS NOT NULL THEN o.problem
        WHEN o.phase IS NULL THEN 'no phase'
        WHEN o.phase NOT IN (
            'X', 'B', 'E', 'C', 'M', 's', 't', 'f', 'i', 'I', 'R', 'b', 'n', 'e', 'S', 'T', 'p', 'F', 'N', 'O', 'D', 'P'
        ) THEN 'unknown phase'
        WHEN o.start_ns IS NULL AND o.phase <> 'M' THEN 'no ts'
        WHEN o.phase = 'X' AND o.duration_ns IS NULL THEN 'no dur'
        WHEN o.duration_ns < 0 THEN 'negative duration'
        WHEN o.phase = 'C' AND (COALESCE(JSON_TYPE(o.args), '') <> 'OBJECT' OR o.args = '{}')
            THEN 'a counter without a value'
    END AS reason
FROM opened AS o
CROSS JOIN trace_file AS f;
