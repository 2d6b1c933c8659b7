-- One row per time that a thread of the exported run's engine spent on a CPU or in the queue for one.
-- Grain: (start_ns, cpu, tid). Reads: scheduler_slices, exported_run. Params: none.
-- On tracks beside those of the trace, which they would cut across. Where events were lost, it is told for the CPU.
SELECT
    s.start_ns,
    s.duration_ns,
    TO_JSON({
        ph: 'X',
        name: CASE s.kind
            WHEN 'oncpu' THEN 'on CPU ' || s.cpu
            WHEN 'runq' THEN CONCAT_WS(', instead ', 'in the queue of CPU ' || s.cpu, s.instead_name)
            ELSE 'events were lost'
        END,
        cat: 'sched',
        pid: COALESCE(300000000 + s.pid, 200000005),
        tid: COALESCE(s.tid, s.cpu),
        ts: (s.start_ns - x.origin_ns) / 1e3,
        dur: s.duration_ns / 1e3,
        args: {
            cpu: s.cpu, state: s.state, instead_pid: s.instead_pid, instead_tid: s.instead_tid,
            instead_ns: s.instead_ns, lost_events: s.lost_events
        }
    }) AS event
FROM scheduler_slices AS s
INNER JOIN exported_run AS x USING (run_id)
WHERE s.start_ns <= x.until_ns AND s.start_ns + s.duration_ns >= x.from_ns
ORDER BY s.start_ns, s.duration_ns DESC, s.cpu, s.tid;
