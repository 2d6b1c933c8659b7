-- One row per process or thread of the exported file: its name, as an event.
-- Grain: (event). Reads: tracks, exported_run, batches, scheduler_slices, cycles. Params: none.
WITH
sliced AS (
    SELECT
        COALESCE(300000000 + s.pid, 200000005) AS pid,
        COALESCE(s.tid, s.cpu) AS tid,
        COALESCE('scheduler, pid ' || s.pid, 'scheduler, losses') AS process_name,
        COALESCE(MAX(s.thread_name), 'CPU') AS thread_name
    FROM scheduler_slices AS s
    INNER JOIN exported_run USING (run_id)
    GROUP BY ALL
),

divided AS (
    SELECT DISTINCT
        DENSE_RANK() OVER (ORDER BY c.rank, c.hostname, c.pid, c.process) AS tid,
        CONCAT_WS(', ', 'rank ' || c.rank, 'pid ' || COALESCE(CAST(c.pid AS VARCHAR), c.process)) AS name
    FROM cycles AS c
    INNER JOIN exported_run USING (run_id)
),

processes AS (
    SELECT 200000001 AS pid, 'run ' || run_name AS name, 0 AS place FROM exported_run
    UNION ALL
    SELECT 200000002, 'batches', 1
    UNION ALL
    SELECT 200000003, 'counters', 8
    UNION ALL
    SELECT 200000004, 'engine metrics', 9
    UNION ALL
    SELECT DISTINCT 200000006, 'cycles', 1 FROM divided
    UNION ALL
    SELECT DISTINCT pid, process_name, 2 FROM sliced
    UNION ALL
    SELECT DISTINCT pid, process_name, IF(kind = 'probe', 3, 4) FROM tracks
),

threads AS (
    SELECT 200000001 AS pid, 1 AS tid, 'windows' AS name
    UNION ALL
    SELECT 200000001, 2, 'fault'
    UNION ALL
    SELECT 200000001, 3, 'captures'
    UNION ALL
    SELECT 200000001, 4, 'incidents'
    UNION ALL
    SELECT 200000001, 5, 'alarms'
    UNION ALL
    SELECT 200000006, tid, name FROM divided
    UNION ALL
    SELECT DISTINCT 200000002, COALESCE(rank, 0) + 1, CONCAT('rank ', rank, ', ', source)
    FROM batches
    INNER JOIN exported_run USING (run_id)
    UNION ALL
    SELECT pid, tid, CONCAT(thread_name, ' ', tid) FROM sliced
    UNION ALL
    SELECT DISTINCT pid, tid, thread_name FROM tracks
)

SELECT TO_JSON({ph: 'M', name: 'process_name', pid: pid, tid: 0, ts: 0, args: {name: name}}) AS event
FROM processes
UNION ALL
SELECT TO_JSON({ph: 'M', name: 'process_sort_index', pid: pid, tid: 0, ts: 0, args: {sort_index: place}})
FROM processes
UNION ALL
SELECT TO_JSON({ph: 'M', name: 'thread_name', pid: pid, tid: tid, ts: 0, args: {name: name}})
FROM threads;
