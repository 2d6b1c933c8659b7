-- One row per value that the sampler recorded.
-- Grain: (run_id, counter_name, device, pid, start_ns). Reads: recorder_lines, runs (the one that is being loaded).
-- Params: none.
INSERT INTO counters BY NAME
WITH
units (counter_name, unit) AS (
    VALUES
    ('host_cpu_usage', '% of all cores'),
    ('cpu_usage', '% of the core'),
    ('cpu_steal', '% of the core'),
    ('cpu_frequency', 'MHz'),
    ('process_cpu_usage', '% of one core'),
    ('process_runq_wait', 'ms/s'),
    ('process_cgroup_throttled', 'ms/s'),
    ('process_cgroup_throttled_periods', '% of periods'),
    ('process_cgroup_cpu_usage', '% of one core'),
    ('process_cgroup_quota', '% of one core'),
    ('process_cgroup_mem_used', 'bytes'),
    ('process_mem_rss', 'bytes'),
    ('process_mem_usage', '%'),
    ('process_mem_swap', 'bytes'),
    ('process_gpu_usage', '%'),
    ('process_gpu_mem_used', 'bytes'),
    ('host_mem_usage', '%'),
    ('host_swap_usage', '%'),
    ('host_swap_in', 'pages/s'),
    ('host_swap_out', 'pages/s'),
    ('net_rx', 'bytes/s'),
    ('net_tx', 'bytes/s'),
    ('disk_usage', 'bytes/s'),
    ('pressure_cpu', '% of time'),
    ('pressure_memory', '% of time'),
    ('pressure_io', '% of time'),
    ('other_cpu_usage', '% of one core'),
    ('other_process_cpu_usage', '% of one core'),
    ('other_process_avx512_age', 'ms'),
    ('sampler_cpu_usage', '% of one core'),
    ('gpu_usage', '%'),
    ('gpu_sm_util', '%'),
    ('gpu_sm_occupancy', '%'),
    ('gpu_mem_used', 'bytes'),
    ('gpu_frequency', 'MHz'),
    ('gpu_sm_frequency', 'MHz'),
    ('gpu_mem_frequency', 'MHz'),
    ('gpu_pcie_transmit', 'bytes/s'),
    ('gpu_pcie_receive', 'bytes/s'),
    ('gpu_link_transmit', 'bytes/s'),
    ('gpu_link_receive', 'bytes/s'),
    ('gpu_power', 'W'),
    ('gpu_temp', 'degrees Celsius'),
    ('gpu_throttle_reasons', 'bit mask of NVML')
),

sampled AS (
    SELECT
        CAST(document -> '$.mono_ns' AS BIGINT) + offset_ns AS end_ns,
        CAST(document -> '$.interval_ns' AS BIGINT) AS duration_ns,
        UNNEST(CAST(document -> '$.values' AS JSON[])) AS sample
    FROM recorder_lines
    WHERE format = 'counters' AND kind = 'sample' AND reason IS NULL
),

typed AS (
    SELECT
        end_ns - duration_ns AS start_ns,
        duration_ns,
        sample ->> '$[0]' AS counter_name,
        sample ->> '$[1]' AS device,
        CAST(sample -> '$[2]' AS BIGINT) AS pid,
        sample ->> '$[3]' AS process_name,
        CAST(sample -> '$[4]' AS DOUBLE) AS value
    FROM sampled
)

SELECT r.run_id, t.*, u.unit, r.host AS hostname
FROM typed AS t
CROSS JOIN runs AS r
LEFT JOIN units AS u USING (counter_name)
ORDER BY t.counter_name, t.device, t.pid, t.start_ns;
