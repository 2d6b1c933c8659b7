-- One row per class of functions of a process on a device, and counter that goes with it: what 100 % of it is.
-- Grain: (file_number, process, function_class, own_device, metric_name).
-- Reads: series, shares, processes, devices, counters.
-- Params: none.
-- Which counters go with which class: design 12. A counter of a process is that process's, or of the one process that
-- it is sampled of: the root of the engine's tree. capacity is NULL where it is not known: then mu is absolute.
WITH
mapped (function_class, pattern) AS (
    SELECT class_name, UNNEST(patterns)
    FROM (
        VALUES
        (
            'gpu_compute',
            [
                'gpu_link_.*', 'process_gpu_usage', 'gpu_usage', 'gpu_sm_util', 'gpu_sm_occupancy', 'gpu_mem_used',
                'gpu_frequency', 'gpu_sm_frequency', 'gpu_mem_frequency'
            ]
        ),
        (
            'gpu_comm',
            [
                'process_gpu_usage', 'gpu_usage', 'gpu_sm_util', 'gpu_sm_occupancy', 'gpu_pcie_.*', 'gpu_link_.*',
                'net_.*'
            ]
        ),
        ('gpu_memcpy_h2d', ['gpu_pcie_.*']),
        ('gpu_memcpy_d2h', ['gpu_pcie_.*']),
        ('gpu_memcpy_d2d', ['gpu_link_.*', 'net_.*']),
        (
            'oncpu',
            [
                'process_cpu_usage', 'host_cpu_usage', 'host_mem_usage', 'process_mem_usage', 'cpu_frequency',
                'cpu_temp', 'cpu_power'
            ]
        ),
        (
            'cpu_compute',
            [
                'process_cpu_usage', 'host_cpu_usage', 'host_mem_usage', 'process_mem_usage', 'cpu_frequency',
                'cpu_temp', 'cpu_power'
            ]
        ),
        ('runq', ['process_cpu_usage', 'host_cpu_usage', 'host_mem_usage', 'process_mem_usage']),
        ('syscall_memory', ['host_mem_usage', 'process_mem_usage', 'process_mem_rss']),
        ('disk_read_and_write', ['disk_usage'])
    ) AS classes (class_name, patterns)
),

kinds AS (
    SELECT series_id, counter_name, device, pid, MAX(unit) AS unit
    FROM series
    GROUP BY series_id, counter_name, device, pid
),

alone AS (
    SELECT counter_name, device FROM kinds GROUP BY counter_name, device HAVING COUNT(DISTINCT pid) = 1
),

sources AS (
    SELECT DISTINCT s.file_number, s.process, s.function_class, s.own_device, s.device, p.pid
    FROM shares AS s
    INNER JOIN processes AS p ON p.file_number = s.file_number AND p.process = s.process
),

host AS (
    SELECT
        COALESCE(
            (SELECT SUM(COALESCE(threads, cores)) FROM devices WHERE category = 'CAT_CPU'),
            NULLIF((SELECT COUNT(DISTINCT device) FROM counters WHERE REGEXP_FULL_MATCH(device, 'CPU [0-9]+')), 0)
        ) AS cpus,
        (SELECT MAX(frequency_mhz) FROM devices WHERE category = 'CAT_CPU') AS most_mhz
)

SELECT
    s.file_number,
    s.process,
    s.function_class,
    s.own_device,
    k.counter_name AS metric_name,
    k.series_id,
    CAST(
        CASE
            WHEN STARTS_WITH(k.unit, '% of one core') OR (k.unit IS NULL AND k.counter_name = 'process_cpu_usage')
                THEN 100 * COALESCE(h.cpus, 1)
            WHEN STARTS_WITH(k.unit, '%') THEN 100
            WHEN k.unit IS NULL AND REGEXP_MATCHES(k.counter_name, 'usage|rate|util|occupancy') THEN 100
            WHEN k.counter_name = 'cpu_frequency' THEN h.most_mhz
            WHEN k.counter_name = 'gpu_mem_used' THEN (
                SELECT MAX(d.memory_bytes) FROM devices AS d WHERE d.device = s.device
            )
        END AS DOUBLE
    ) AS capacity
FROM sources AS s
INNER JOIN mapped AS m ON m.function_class = s.function_class
INNER JOIN kinds AS k
    ON REGEXP_FULL_MATCH(k.counter_name, m.pattern)
    AND k.device = IF(STARTS_WITH(k.counter_name, 'gpu_') OR k.counter_name = 'process_gpu_usage', s.device, 'Host')
LEFT JOIN alone AS a ON a.counter_name = k.counter_name AND a.device = k.device
CROSS JOIN host AS h
WHERE k.pid IS NULL OR k.pid = s.pid OR a.counter_name IS NOT NULL
ORDER BY s.file_number, s.process, s.function_class, s.own_device, metric_name;
