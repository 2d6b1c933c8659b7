-- One row per thread of a trace that is exported, with the numbers and names that it gets there.
-- Grain: (process, thread, kind). Reads: events, exported_run. Params: none.
-- Numbers of processes and threads are the system's where they are known. A device, a text or nothing gets a number
-- that no process has; so does what the probe recorded, which may overlap the trace by microseconds.
CREATE OR REPLACE TABLE tracks AS
WITH
seen AS (
    SELECT DISTINCT
        COALESCE(e.process, '') AS process,
        COALESCE(e.thread, '') AS thread,
        CASE
            WHEN LOWER(e.category) IN ('kernel', 'gpu_memcpy', 'gpu_memset', 'gpu_user_annotation', 'memcpy', 'memset')
                THEN 'gpu'
            WHEN e.category = 'probe' THEN 'probe'
            ELSE 'trace'
        END AS kind
    FROM events AS e
    INNER JOIN exported_run AS x USING (run_id)
    WHERE e.phase <> 'M'
),

numbered AS (
    SELECT
        *,
        DENSE_RANK() OVER (ORDER BY kind, process) AS process_number,
        ROW_NUMBER() OVER (ORDER BY kind, process, thread) AS thread_number,
        TRY_CAST(process AS BIGINT) AS own_pid,
        TRY_CAST(thread AS BIGINT) AS own_tid
    FROM seen
)

SELECT
    process,
    thread,
    kind,
    IF(kind = 'trace' AND own_pid BETWEEN 1 AND 4194304, own_pid, 100000000 + process_number) AS pid,
    IF(own_tid BETWEEN 0 AND 4194304, own_tid, 100000000 + thread_number) AS tid,
    CASE kind
        WHEN 'gpu' THEN 'GPU ' || process
        WHEN 'probe' THEN 'probe calls, pid ' || process
        ELSE IF(own_pid IS NULL, 'trace: ' || process, 'pid ' || process)
    END AS process_name,
    CASE
        WHEN kind = 'gpu' THEN 'stream ' || thread
        WHEN own_tid IS NULL THEN thread
        ELSE 'thread ' || thread
    END AS thread_name
FROM numbered;
