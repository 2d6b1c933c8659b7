-- One row per function of a pair whose time a cycle moved: of each pair the ten that moved most, whichever way.
-- Grain: (pair_id, hostname, pid, function_name, device). Reads: rca_comparison, runs. Params: $campaign.
-- A function stands there once a counter, its times the same in each.
WITH
functions AS (
    SELECT DISTINCT ON (c.pair_id, c.hostname, c.pid, c.normal_hostname, c.normal_pid, c.function_name, c.device)
        r.scenario,
        r.run_order,
        c.run_id,
        c.pair_id,
        c.hostname,
        c.pid,
        c.function_name,
        c.simple_name,
        c.device,
        c.matched_on,
        c.normal_cycles,
        c.abnormal_cycles,
        c.beta_normal_ms,
        c.beta_abnormal_ms,
        c.slowdown,
        c.effect_size,
        c.p_corrected,
        c.is_waiting
    FROM rca_comparison AS c
    INNER JOIN runs AS r USING (run_id)
    WHERE r.campaign = $campaign AND c.beta_normal_ms IS NOT NULL AND c.beta_abnormal_ms IS NOT NULL
)

SELECT *
FROM functions
QUALIFY ROW_NUMBER() OVER (
    PARTITION BY pair_id
    ORDER BY ABS(beta_abnormal_ms - beta_normal_ms) DESC, function_name, device, hostname, pid
) <= 10
ORDER BY run_order, pair_id, ABS(beta_abnormal_ms - beta_normal_ms) DESC, function_name, device, hostname, pid;
