-- One row per value of one counter over one interval.
-- Grain: (run_id, counter_name, device, pid, start_ns, sample_index).
CREATE TABLE counters (
    run_id VARCHAR,
    start_ns BIGINT,
    duration_ns BIGINT,
    counter_name VARCHAR,
    device VARCHAR,
    pid BIGINT,
    process_name VARCHAR,
    value DOUBLE,
    unit VARCHAR,
    hostname VARCHAR,
    sample_index BIGINT
);
COMMENT ON TABLE counters IS 'One sampled value of a resource counter.';
COMMENT ON COLUMN counters.run_id IS 'run it belongs to; key of runs';
COMMENT ON COLUMN counters.start_ns IS 'start of the interval that the value covers, ns since 1970 on the host''s clock';
COMMENT ON COLUMN counters.duration_ns IS 'length of that interval, ns; NULL where the source does not tell';
COMMENT ON COLUMN counters.counter_name IS 'counter, such as host_cpu_usage';
COMMENT ON COLUMN counters.device IS 'Host, CPU n, GPU n, or the name of an interface or disk; NULL where the source does not tell';
COMMENT ON COLUMN counters.pid IS 'process it is about, the root of its tree; NULL where it is about a device';
COMMENT ON COLUMN counters.process_name IS 'name that the process gives itself';
COMMENT ON COLUMN counters.value IS 'mean or rate over the interval, in unit';
COMMENT ON COLUMN counters.unit IS 'unit of value; NULL for a counter that is not known here';
COMMENT ON COLUMN counters.hostname IS 'host that it was sampled on; NULL where the source does not tell';
COMMENT ON COLUMN counters.sample_index IS 'row of its file, from 0, where the file names several devices alike; NULL elsewhere';
