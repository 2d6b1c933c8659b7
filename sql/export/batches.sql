-- One row per batch of the exported run, with its composition.
-- Grain: (start_ns, batch_index). Reads: batches, exported_run. Params: none.
-- Slices of one thread must not overlap: a batch that lasts beyond the start of the next is drawn up to there, and its
-- own duration is in args.
SELECT
    b.start_ns,
    LEAST(b.duration_ns, b.interval_ns) AS duration_ns,
    TO_JSON({
        ph: 'X',
        name: CONCAT(COALESCE(b.forward_mode, 'step'), ' ', b.batch_size),
        cat: 'batch',
        pid: 200000002,
        tid: COALESCE(b.rank, 0) + 1,
        ts: (b.start_ns - x.origin_ns) / 1e3,
        dur: LEAST(b.duration_ns, b.interval_ns) / 1e3,
        args: {
            batch_index: b.batch_index, start_ns: b.start_ns, duration_ns: b.duration_ns, interval_ns: b.interval_ns,
            execute_ns: b.execute_ns, forward_mode: b.forward_mode, batch_size: b.batch_size, kv_tokens: b.kv_tokens,
            new_input_tokens: b.new_input_tokens, admitted: b.admitted, finished: b.finished,
            preempted: b.preempted, prefix_hit_tokens: b.prefix_hit_tokens, waiting: b.waiting, running: b.running,
            run_window: b.run_window
        }
    }) AS event
FROM batches AS b
INNER JOIN exported_run AS x USING (run_id)
WHERE b.start_ns <= x.until_ns AND b.start_ns + b.duration_ns >= x.from_ns
ORDER BY b.start_ns, b.batch_index;
