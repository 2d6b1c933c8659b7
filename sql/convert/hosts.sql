-- One row per run: the host that its bundle's manifest tells of; a fact of another type than it should be is NULL.
-- Grain: (run_id). Reads: runs (the one that is being loaded). Params: $manifest.
INSERT INTO hosts BY NAME
SELECT
    r.run_id,
    r.host,
    m.facts ->> '$.hostname' AS hostname,
    m.facts ->> '$.boot_id' AS boot_id,
    m.facts ->> '$.os' AS os,
    m.facts ->> '$.kernel' AS kernel,
    m.facts ->> '$.cpu_model' AS cpu_model,
    TRY_CAST(m.facts ->> '$.cores' AS BIGINT) AS cores,
    TRY_CAST(m.facts ->> '$.physical_cores' AS BIGINT) AS physical_cores,
    TRY_CAST(m.facts ->> '$.sockets' AS BIGINT) AS sockets,
    TRY_CAST(m.facts ->> '$.smt' AS BOOLEAN) AS smt,
    TRY_CAST(m.facts ->> '$.avx512' AS BOOLEAN) AS avx512,
    TRY_CAST(m.facts ->> '$.memory_bytes' AS BIGINT) AS memory_bytes,
    TRY_CAST(m.facts ->> '$.swap_bytes' AS BIGINT) AS swap_bytes,
    TRY_CAST(m.facts ->> '$.disk_free_bytes' AS BIGINT) AS disk_free_bytes,
    JSON_ARRAY_LENGTH(m.facts -> '$.gpus') AS gpus,
    m.facts ->> '$.nvidia_driver' AS nvidia_driver,
    TRY_CAST(m.facts ->> '$.virtualisation.hypervisor' AS BOOLEAN) AS hypervisor,
    m.facts ->> '$.virtualisation.container' AS container,
    TRY_CAST(m.facts ->> '$.cgroup_version' AS BIGINT) AS cgroup_version,
    m.facts ->> '$.clocksource' AS clocksource,
    TRY_CAST(m.facts ->> '$.root' AS BOOLEAN) AS root,
    NULLIF(m.whole -> '$.engine_cpus', 'null') AS engine_cpus,
    NULLIF(m.whole -> '$.our_cpus', 'null') AS our_cpus,
    m.facts AS details
FROM (
    SELECT CAST($manifest AS JSON) AS whole, CAST($manifest AS JSON) -> '$.host_facts' AS facts
) AS m
CROSS JOIN runs AS r;
