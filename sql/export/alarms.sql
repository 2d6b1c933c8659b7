-- One row per incident of the exported run, and per batch with an alarm.
-- Grain: (start_ns, name). Reads: incidents, batch_scores, exported_run. Params: none.
SELECT
    i.start_ns,
    i.end_ns - i.start_ns AS duration_ns,
    TO_JSON({
        ph: 'X',
        name: CONCAT('incident ', i.incident_index, IF(i.slo_violated, ', objective broken', '')),
        cat: 'incident',
        pid: 200000001,
        tid: 4,
        ts: (i.start_ns - x.origin_ns) / 1e3,
        dur: (i.end_ns - i.start_ns) / 1e3,
        args: {
            incident_index: i.incident_index, batches: i.batches, alarms: i.alarms, expected_ms: i.expected_ms,
            actual_ms: i.actual_ms, slowdown: i.slowdown
        }
    }) AS event
FROM incidents AS i
INNER JOIN exported_run AS x USING (run_id)
WHERE i.start_ns <= x.until_ns AND i.end_ns >= x.from_ns
UNION ALL
SELECT
    s.start_ns,
    0,
    TO_JSON({
        ph: 'i',
        name: 'alarm',
        cat: 'alarm',
        pid: 200000001,
        tid: 5,
        ts: (s.start_ns - x.origin_ns) / 1e3,
        s: 't',
        args: {batch_index: s.batch_index, actual_ns: s.actual_ns, expected_ns: s.expected_ns}
    })
FROM batch_scores AS s
INNER JOIN exported_run AS x USING (run_id)
WHERE s.alarm AND s.start_ns BETWEEN x.from_ns AND x.until_ns
ORDER BY 1, 2 DESC;
