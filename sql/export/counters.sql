-- One row per sample of a counter of the exported run, where the interval that it covers begins.
-- Grain: (start_ns, counter_name, device, pid). Reads: counters, exported_run. Params: none.
-- A value that is no number cannot be drawn.
SELECT
    c.start_ns,
    0 AS duration_ns,
    TO_JSON({
        ph: 'C',
        name: CONCAT_WS(' ', c.counter_name, c.device, 'pid ' || c.pid, c.process_name),
        cat: 'counter',
        pid: 200000003,
        tid: 0,
        ts: (c.start_ns - x.origin_ns) / 1e3,
        args: {value: c.value}
    }) AS event
FROM counters AS c
INNER JOIN exported_run AS x USING (run_id)
WHERE ISFINITE(c.value) AND c.start_ns BETWEEN x.from_ns AND x.until_ns
ORDER BY c.start_ns, c.counter_name, c.device, c.pid;
