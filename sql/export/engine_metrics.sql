-- One row per value of the engine's own metrics in the exported run; buckets of histograms are left out.
-- Grain: (start_ns, metric_name, labels). Reads: engine_metrics, exported_run. Params: none.
SELECT
    m.start_ns,
    0 AS duration_ns,
    TO_JSON({
        ph: 'C',
        name: CONCAT_WS(' ', m.metric_name, NULLIF(CAST(m.labels AS VARCHAR), '{}')),
        cat: 'engine_metric',
        pid: 200000004,
        tid: 0,
        ts: (m.start_ns - x.origin_ns) / 1e3,
        args: {value: m.value}
    }) AS event
FROM engine_metrics AS m
INNER JOIN exported_run AS x USING (run_id)
WHERE ISFINITE(m.value)
  AND m.start_ns BETWEEN x.from_ns AND x.until_ns
  AND NOT SUFFIX(m.metric_name, '_bucket')
ORDER BY m.start_ns, m.metric_name, CAST(m.labels AS VARCHAR);
