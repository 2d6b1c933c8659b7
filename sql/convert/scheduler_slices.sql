-- One row per slice that the scheduler recorder wrote, and one per loss of events that it told.
-- Grain: (run_id, kind, cpu, tid, start_ns). Reads: recorder_lines, runs (the one that is being loaded).
-- Params: none.
-- A line has slices of a thread: [start, duration, CPU, state], and of a wait who ran instead: pid, tid, name, ns.
INSERT INTO scheduler_slices BY NAME
WITH
sliced AS (
    SELECT
        document ->> '$.kind' AS kind,
        CAST(document -> '$.pid' AS BIGINT) AS pid,
        CAST(document -> '$.tid' AS BIGINT) AS tid,
        document ->> '$.name' AS thread_name,
        offset_ns,
        UNNEST(CAST(document -> '$.values' AS JSON[])) AS slice
    FROM recorder_lines
    WHERE format = 'slices' AND kind = 'slices' AND reason IS NULL
),

typed AS (
    SELECT
        * EXCLUDE (offset_ns, slice),
        CAST(slice -> '$[0]' AS BIGINT) + offset_ns AS start_ns,
        CAST(slice -> '$[1]' AS BIGINT) AS duration_ns,
        CAST(slice -> '$[2]' AS BIGINT) AS cpu,
        slice ->> '$[3]' AS state,
        CAST(slice -> '$[4]' AS BIGINT) AS instead_pid,
        CAST(slice -> '$[5]' AS BIGINT) AS instead_tid,
        slice ->> '$[6]' AS instead_name,
        CAST(slice -> '$[7]' AS BIGINT) AS instead_ns
    FROM sliced
    UNION ALL BY NAME
    SELECT
        'lost' AS kind,
        CAST(document -> '$.last_mono_ns' AS BIGINT) + offset_ns AS start_ns,
        CAST(document -> '$.mono_ns' AS BIGINT) - CAST(document -> '$.last_mono_ns' AS BIGINT) AS duration_ns,
        CAST(document -> '$.cpu' AS BIGINT) AS cpu,
        CAST(document -> '$.events' AS BIGINT) AS lost_events
    FROM recorder_lines
    WHERE format = 'slices' AND kind = 'lost' AND reason IS NULL
)

SELECT r.run_id, t.*
FROM typed AS t
CROSS JOIN runs AS r
ORDER BY t.kind, t.start_ns, t.cpu, t.tid;
