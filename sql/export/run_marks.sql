-- One row per window, fault and capture of the exported run: where they lie on its time line.
-- Grain: (start_ns, name). Reads: exported_run, captures. Params: none.
WITH
spans AS (
    SELECT 1 AS tid, 'baseline' AS name, baseline_start_ns AS start_ns, baseline_end_ns AS end_ns, NULL AS about
    FROM exported_run
    UNION ALL BY NAME
    SELECT 1 AS tid, 'fault window' AS name, fault_start_ns AS start_ns, fault_end_ns AS end_ns FROM exported_run
    UNION ALL BY NAME
    SELECT 1 AS tid, 'recovery' AS name, recovery_start_ns AS start_ns, recovery_end_ns AS end_ns FROM exported_run
    UNION ALL BY NAME
    SELECT
        2 AS tid,
        COALESCE(anomaly, scenario) AS name,
        fault_apply_ns AS start_ns,
        COALESCE(fault_revert_ns, recording_stop_ns) AS end_ns,
        TO_JSON({
            strength: strength, effect_metric: effect_metric, effect_before: effect_before,
            effect_during: effect_during, effect_after: effect_after, effect_unit: effect_unit
        }) AS about
    FROM exported_run
    UNION ALL BY NAME
    SELECT
        3 AS tid,
        c.capture_name AS name,
        c.start_ns,
        c.end_ns,
        TO_JSON({lost: c.lost, iterations: c.iterations, stalled_ns: c.stalled_ns, files: c.files}) AS about
    FROM captures AS c
    INNER JOIN exported_run AS x USING (run_id)
    UNION ALL BY NAME
    SELECT
        3 AS tid, 'the engine stands still while the trace is written' AS name, c.end_ns - c.stalled_ns AS start_ns,
        c.end_ns
    FROM captures AS c
    INNER JOIN exported_run AS x USING (run_id)
    WHERE c.end_ns - c.stalled_ns >= c.start_ns
)

SELECT
    s.start_ns,
    s.end_ns - s.start_ns AS duration_ns,
    TO_JSON({
        ph: 'X', name: s.name, cat: 'run', pid: 200000001, tid: s.tid, ts: (s.start_ns - x.origin_ns) / 1e3,
        dur: (s.end_ns - s.start_ns) / 1e3,
        args: JSON_MERGE_PATCH(
            TO_JSON({start_ns: s.start_ns, duration_ns: s.end_ns - s.start_ns}), COALESCE(s.about, '{}')
        )
    }) AS event
FROM spans AS s
CROSS JOIN exported_run AS x
WHERE s.end_ns >= s.start_ns AND s.start_ns <= x.until_ns AND s.end_ns >= x.from_ns
ORDER BY s.start_ns, duration_ns DESC;
