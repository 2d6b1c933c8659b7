-- One row per function that ran in a cycle, device and counter that may explain it; without a counter, one with none.
-- Grain: (run_id, hostname, pid, cycle_index, function_name, device, metric_name).
-- Reads: shares, measured, cycles, spans. Params: none.
INSERT INTO function_usage BY NAME
SELECT
    c.run_id,
    c.hostname,
    c.pid,
    c.cycle_index,
    c.start_ns AS cycle_start_ns,
    c.anchor_name,
    c.duration_ns AS anchor_duration_ns,
    s.function_name,
    s.simple_name,
    s.function_class,
    s.device,
    m.metric_name,
    1e2 * s.duration_ns / c.duration_ns AS beta_pct,
    1e2 * m.mean / COALESCE(m.capacity, 1) AS mu_pct,
    1e2 * m.deviation / COALESCE(m.capacity, 1) AS sigma_pct,
    s.duration_ns,
    s.instances,
    m.distinct_samples,
    m.interpolated,
    m.capacity,
    IF(s.function_class IN ('oncpu', 'runq'), s.lanes, NULL) AS cpus
FROM shares AS s
INNER JOIN spans AS p ON p.file_number = s.file_number AND p.process = s.process AND p.number = s.number
INNER JOIN cycles AS c ON c.file_name = p.file_name AND c.process = p.process AND c.start_ns = p.start_ns
LEFT JOIN measured AS m ON m.group_id = s.group_id
ORDER BY c.hostname, c.pid, c.cycle_index, beta_pct DESC, s.function_name, s.device, m.metric_name;
