-- One row per cycle that has no number from 1, two starts or two lengths.
-- Grain: (run_id, hostname, pid, cycle_index). Reads: function_usage. Params: none.
SELECT
    run_id, hostname, pid, cycle_index, MIN(cycle_start_ns) AS first_start_ns, MAX(cycle_start_ns) AS last_start_ns,
    MIN(anchor_duration_ns) AS shortest_ns, MAX(anchor_duration_ns) AS longest_ns
FROM function_usage
GROUP BY run_id, hostname, pid, cycle_index
HAVING NOT COALESCE(
    cycle_index >= 1
    AND MIN(cycle_start_ns) = MAX(cycle_start_ns)
    AND MIN(anchor_duration_ns) = MAX(anchor_duration_ns),
    FALSE
);
