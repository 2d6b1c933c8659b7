-- One row per function of the run's most frequent forward mode, the largest shares first.
-- Grain: (function_name, device). Reads: function_usage, cycles. Params: none.
WITH
usual AS (
    SELECT forward_mode FROM cycles GROUP BY forward_mode ORDER BY COUNT(*) DESC, forward_mode LIMIT 1
),

chosen AS (
    SELECT c.hostname, c.pid, c.cycle_index, c.forward_mode
    FROM cycles AS c
    INNER JOIN usual AS u ON u.forward_mode IS NOT DISTINCT FROM c.forward_mode
),

once AS (
    SELECT DISTINCT
        u.hostname, u.pid, u.cycle_index, u.function_name, u.simple_name, u.function_class, u.device, u.beta_pct,
        u.instances, c.forward_mode
    FROM function_usage AS u
    INNER JOIN chosen AS c
        ON c.hostname IS NOT DISTINCT FROM u.hostname
        AND c.pid IS NOT DISTINCT FROM u.pid
        AND c.cycle_index = u.cycle_index
)

SELECT
    ANY_VALUE(forward_mode) AS forward_mode,
    ANY_VALUE(simple_name) AS simple_name,
    ANY_VALUE(function_class) AS function_class,
    device,
    COUNT(*) AS cycles,
    SUM(beta_pct) / (SELECT COUNT(*) FROM chosen) AS beta_pct,
    SUM(instances) / COUNT(*) AS instances_a_cycle
FROM once
GROUP BY function_name, device
ORDER BY beta_pct DESC, simple_name, device
LIMIT 15;
