-- One row per sample of a counter that may go with a function, while the run's cycles lasted and a little around.
-- Grain: (series_id, start_ns). Reads: counters, spans. Params: none.
-- Of CPUs, interfaces and disks it is the mean over all of them, of rates in bytes their sum. A counter of a GPU that
-- does not say of which is left out: its samples cannot be told apart.
CREATE OR REPLACE TEMP TABLE series AS
WITH
lasted AS (
    SELECT MIN(start_ns) - 5000000000 AS from_ns, MAX(end_ns) + 5000000000 AS until_ns FROM spans
),

sampled AS (
    SELECT
        c.counter_name,
        CASE WHEN STARTS_WITH(c.device, 'GPU ') THEN c.device ELSE 'Host' END AS device,
        CASE WHEN STARTS_WITH(c.counter_name, 'process_') THEN c.pid END AS pid,
        c.start_ns,
        COALESCE(c.duration_ns, 0) AS duration_ns,
        c.value,
        c.unit
    FROM counters AS c
    CROSS JOIN lasted AS l
    WHERE c.start_ns BETWEEN l.from_ns AND l.until_ns
      AND ISFINITE(c.value)
      AND (
        STARTS_WITH(c.device, 'GPU ')
        OR NOT (STARTS_WITH(c.counter_name, 'gpu_') OR STARTS_WITH(c.counter_name, 'process_gpu_'))
      )
)

SELECT
    DENSE_RANK() OVER (ORDER BY counter_name, device, pid) AS series_id,
    counter_name,
    device,
    pid,
    start_ns,
    MAX(duration_ns) AS duration_ns,
    IF(MAX(unit) = 'bytes/s', SUM(value), AVG(value)) AS value,
    MAX(unit) AS unit
FROM sampled
GROUP BY counter_name, device, pid, start_ns;
