-- One row per run of ours: its host as the run found it.
-- Grain: (run_id).
CREATE TABLE hosts (
    run_id VARCHAR,
    host VARCHAR,
    hostname VARCHAR,
    boot_id VARCHAR,
    os VARCHAR,
    kernel VARCHAR,
    cpu_model VARCHAR,
    cores BIGINT,
    physical_cores BIGINT,
    sockets BIGINT,
    smt BOOLEAN,
    avx512 BOOLEAN,
    memory_bytes BIGINT,
    swap_bytes BIGINT,
    disk_free_bytes BIGINT,
    gpus BIGINT,
    nvidia_driver VARCHAR,
    hypervisor BOOLEAN,
    container VARCHAR,
    cgroup_version BIGINT,
    clocksource VARCHAR,
    root BOOLEAN,
    engine_cpus JSON,
    our_cpus JSON,
    details JSON
);
COMMENT ON TABLE hosts IS 'The host of a run as the run found it: hardware, system, rights, and the CPUs that were used.';
COMMENT ON COLUMN hosts.run_id IS 'run that found it so; key of runs';
COMMENT ON COLUMN hosts.host IS 'host name in the spec';
COMMENT ON COLUMN hosts.hostname IS 'name that the host gives itself';
COMMENT ON COLUMN hosts.boot_id IS 'changes with every start of the system';
COMMENT ON COLUMN hosts.os IS 'operating system';
COMMENT ON COLUMN hosts.kernel IS 'release of the kernel';
COMMENT ON COLUMN hosts.cpu_model IS 'model of the processor';
COMMENT ON COLUMN hosts.cores IS 'hardware threads that the system shows';
COMMENT ON COLUMN hosts.physical_cores IS 'cores, each counted once';
COMMENT ON COLUMN hosts.sockets IS 'processors';
COMMENT ON COLUMN hosts.smt IS 'whether a core shows as several hardware threads';
COMMENT ON COLUMN hosts.avx512 IS 'whether the processor has AVX-512';
COMMENT ON COLUMN hosts.memory_bytes IS 'memory';
COMMENT ON COLUMN hosts.swap_bytes IS 'swap space; 0 where there is none';
COMMENT ON COLUMN hosts.disk_free_bytes IS 'free bytes where the run writes, before it began';
COMMENT ON COLUMN hosts.gpus IS 'GPUs that its driver lists';
COMMENT ON COLUMN hosts.nvidia_driver IS 'version of the NVIDIA driver; NULL without one';
COMMENT ON COLUMN hosts.hypervisor IS 'whether it is a virtual machine';
COMMENT ON COLUMN hosts.container IS 'kind of container that it is in; NULL when in none';
COMMENT ON COLUMN hosts.cgroup_version IS 'version of control groups, 1 or 2';
COMMENT ON COLUMN hosts.clocksource IS 'clock source of the kernel';
COMMENT ON COLUMN hosts.root IS 'whether the user of the run is root';
COMMENT ON COLUMN hosts.engine_cpus IS 'CPUs that the server was bound to, a list; NULL when to none';
COMMENT ON COLUMN hosts.our_cpus IS 'CPUs that recorders and load were bound to, a list; NULL when to none';
COMMENT ON COLUMN hosts.details IS 'all facts about it, as the manifest has them';
