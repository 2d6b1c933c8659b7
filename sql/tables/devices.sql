-- One row per component of a host: the host, its processors, GPUs, memory, disks, links, and who uses them.
-- Grain: (run_id, component_index).
CREATE TABLE devices (
    run_id VARCHAR,
    component_index BIGINT,
    category VARCHAR,
    name VARCHAR,
    device VARCHAR,
    device_index BIGINT,
    uuid VARCHAR,
    type VARCHAR,
    position VARCHAR,
    hostname VARCHAR,
    model VARCHAR,
    memory_bytes BIGINT,
    cores BIGINT,
    threads BIGINT,
    frequency_mhz DOUBLE,
    pid BIGINT,
    gpu_index BIGINT,
    command VARCHAR,
    details JSON
);
COMMENT ON TABLE devices IS 'One component of a host as its topology lists it.';
COMMENT ON COLUMN devices.run_id IS 'run it belongs to; key of runs';
COMMENT ON COLUMN devices.component_index IS 'place in the list, from 0';
COMMENT ON COLUMN devices.category IS 'kind of component as a topology writes it, such as CAT_XPU (GPU), CAT_CPU or CAT_PROCESS';
COMMENT ON COLUMN devices.name IS 'name as written';
COMMENT ON COLUMN devices.device IS 'GPU n, as in function_usage and counters; NULL for what is no GPU';
COMMENT ON COLUMN devices.device_index IS 'number of the GPU on its host; NULL for what is no GPU';
COMMENT ON COLUMN devices.uuid IS 'identifier as written';
COMMENT ON COLUMN devices.type IS 'type as written; NULL where none is written';
COMMENT ON COLUMN devices.position IS 'address on the bus, or another place, as written';
COMMENT ON COLUMN devices.hostname IS 'host that it is in';
COMMENT ON COLUMN devices.model IS 'model of a GPU, processor or disk';
COMMENT ON COLUMN devices.memory_bytes IS 'memory of a GPU or size of a memory module';
COMMENT ON COLUMN devices.cores IS 'cores of a processor; multiprocessors of a GPU that a trace lists';
COMMENT ON COLUMN devices.threads IS 'hardware threads of a processor';
COMMENT ON COLUMN devices.frequency_mhz IS 'highest frequency of a processor, MHz';
COMMENT ON COLUMN devices.pid IS 'process, or first process of a container';
COMMENT ON COLUMN devices.gpu_index IS 'GPU on its host that a process runs on';
COMMENT ON COLUMN devices.command IS 'command of a process';
COMMENT ON COLUMN devices.details IS 'all else that is written of it, config and inventory whole';
