-- One row per phase that a bundle's manifest tells, in its order.
-- Grain: (run_id, phase_index). Reads: runs (the one that is being loaded). Params: $manifest.
INSERT INTO phases BY NAME
SELECT
    r.run_id,
    CAST(p.key AS BIGINT) AS phase_index,
    p.value ->> '$.name' AS phase,
    m.whole ->> '$.session' AS host_session,
    CAST(p.value ->> '$.start_ns' AS BIGINT) AS start_ns,
    CAST(p.value ->> '$.duration_ns' AS BIGINT) AS duration_ns
FROM (SELECT CAST($manifest AS JSON) AS whole) AS m
CROSS JOIN runs AS r
CROSS JOIN JSON_EACH(m.whole, '$.phases') AS p;
