-- One row per cycle of the exported run, on a track of its process.
-- Grain: (start_ns, process). Reads: cycles, exported_run. Params: none.
-- GPU work that it launched may run on after it: from when to when is in args. Processes are numbered over the whole
-- run, whatever part is wanted, as names does.
WITH
numbered AS (
    SELECT
        c.*,
        DENSE_RANK() OVER (ORDER BY c.rank, c.hostname, c.pid, c.process) AS process_number
    FROM cycles AS c
    INNER JOIN exported_run USING (run_id)
)

SELECT
    c.start_ns,
    LEAST(c.duration_ns, c.interval_ns) AS duration_ns,
    TO_JSON({
        ph: 'X',
        name: CONCAT(COALESCE(c.forward_mode, 'cycle'), ' ', c.cycle_index),
        cat: 'cycle',
        pid: 200000006,
        tid: c.process_number,
        ts: (c.start_ns - x.origin_ns) / 1e3,
        dur: LEAST(c.duration_ns, c.interval_ns) / 1e3,
        args: {
            cycle_index: c.cycle_index, start_ns: c.start_ns, duration_ns: c.duration_ns, anchor_name: c.anchor_name,
            anchor_ns: c.anchor_ns, label: c.label, forward_mode: c.forward_mode, batch_size: c.batch_size,
            batch_index: c.batch_index, run_window: c.run_window, aligned_index: c.aligned_index, skew_ns: c.skew_ns,
            gpu_events: c.gpu_events, gpu_ns: c.gpu_ns, gpu_start_ns: c.gpu_start_ns, gpu_end_ns: c.gpu_end_ns
        }
    }) AS event
FROM numbered AS c
INNER JOIN exported_run AS x USING (run_id)
WHERE c.start_ns <= x.until_ns AND c.start_ns + c.duration_ns >= x.from_ns
ORDER BY c.start_ns, duration_ns DESC;
