-- One row per event of the exported run's traces, and per call that its probe recorded.
-- Grain: (start_ns, file_name, event_index). Reads: events, tracks, exported_run. Params: none.
-- Names of processes and threads are in names.sql. Each id belongs to its file: two files may use the same.
SELECT
    e.start_ns,
    COALESCE(e.duration_ns, 0) AS duration_ns,
    CASE
        WHEN e.phase = 'X' THEN TO_JSON({
            ph: e.phase, name: e.name, cat: COALESCE(e.category, ''), pid: t.pid, tid: t.tid,
            ts: (e.start_ns - x.origin_ns) / 1e3, dur: e.duration_ns / 1e3,
            args: IF(STARTS_WITH(e.args, '{'), e.args, '{}')
        })
        WHEN e.flow_id IS NULL THEN TO_JSON({
            ph: e.phase, name: e.name, cat: COALESCE(e.category, ''), pid: t.pid, tid: t.tid,
            ts: (e.start_ns - x.origin_ns) / 1e3, s: COALESCE(e.extra ->> '$.s', 't'),
            args: IF(STARTS_WITH(e.args, '{'), e.args, '{}')
        })
        ELSE TO_JSON({
            ph: e.phase, name: e.name, cat: COALESCE(e.category, ''), pid: t.pid, tid: t.tid,
            ts: (e.start_ns - x.origin_ns) / 1e3, id: CONCAT(e.file_name, ' ', e.flow_id),
            bp: COALESCE(e.extra ->> '$.bp', 'e'), args: IF(STARTS_WITH(e.args, '{'), e.args, '{}')
        })
    END AS event
FROM events AS e
INNER JOIN exported_run AS x USING (run_id)
INNER JOIN tracks AS t
    ON t.process = COALESCE(e.process, '')
    AND t.thread = COALESCE(e.thread, '')
    AND t.kind = CASE
        WHEN LOWER(e.category) IN ('kernel', 'gpu_memcpy', 'gpu_memset', 'gpu_user_annotation', 'memcpy', 'memset')
            THEN 'gpu'
        WHEN e.category = 'probe' THEN 'probe'
        ELSE 'trace'
    END
WHERE e.phase <> 'M'
  AND e.start_ns <= x.until_ns
  AND e.start_ns + COALESCE(e.duration_ns, 0) >= x.from_ns
ORDER BY e.start_ns, duration_ns DESC, e.file_name, e.event_index;
