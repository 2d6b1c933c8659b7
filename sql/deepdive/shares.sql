-- One row per function that ran in a cycle, and device: its time, its calls, the lanes that it ran on.
-- Grain: (group_id). Reads: pieces, functions, processes, devices, counters. Params: none.
-- A process's GPU has the number that its own libraries give it; where the topology or the driver's counters tell the
-- one GPU of a process that uses one, it gets that number, which is the counters'.
CREATE OR REPLACE TEMP TABLE shares AS
WITH
names AS (
    SELECT file_number, function_id, name, simple_name, DENSE_RANK() OVER (ORDER BY name) AS name_id
    FROM functions
),

told AS (
    SELECT pid, 'GPU ' || gpu_index AS device FROM devices WHERE category = 'CAT_PROCESS' AND gpu_index IS NOT NULL
    UNION
    SELECT pid, device FROM counters WHERE STARTS_WITH(counter_name, 'process_gpu_') AND STARTS_WITH(device, 'GPU ')
),

only_one AS (
    SELECT pid, MIN(device) AS device FROM told GROUP BY pid HAVING COUNT(DISTINCT device) = 1
),

used AS (
    SELECT p.file_number, p.process, MIN(q.pid) AS pid
    FROM pieces AS p
    INNER JOIN processes AS q ON q.file_number = p.file_number AND q.process = p.process
    WHERE STARTS_WITH(p.device, 'GPU')
    GROUP BY p.file_number, p.process
    HAVING COUNT(DISTINCT p.device) = 1
),

gpus AS (
    SELECT u.file_number, u.process, o.device
    FROM used AS u
    INNER JOIN only_one AS o ON o.pid = u.pid
),

added AS (
    SELECT
        p.file_number,
        p.process,
        p.number,
        COALESCE(n.name_id, p.function_id) AS name_id,
        p.device AS own_device,
        MIN(p.function_class) AS function_class,
        COALESCE(ANY_VALUE(n.name), MIN(p.function_class)) AS function_name,
        COALESCE(ANY_VALUE(n.simple_name), MIN(p.function_class)) AS simple_name,
        CAST(SUM(p.spent_ns) AS BIGINT) AS duration_ns,
        COUNT(*) AS instances,
        COUNT(DISTINCT p.lane) AS lanes
    FROM pieces AS p
    LEFT JOIN names AS n ON n.file_number = p.file_number AND n.function_id = p.function_id
    GROUP BY p.file_number, p.process, p.number, COALESCE(n.name_id, p.function_id), p.device
)

SELECT
    ROW_NUMBER() OVER () AS group_id,
    a.*,
    IF(STARTS_WITH(a.own_device, 'GPU'), COALESCE(g.device, a.own_device), a.own_device) AS device
FROM added AS a
LEFT JOIN gpus AS g ON g.file_number = a.file_number AND g.process = a.process;
