-- One row per function that ran in a cycle, device and counter that may explain it.
-- Grain: (run_id, hostname, pid, cycle_index, function_name, device, metric_name).
CREATE TABLE function_usage (
    run_id VARCHAR,
    hostname VARCHAR,
    pid BIGINT,
    cycle_index BIGINT,
    cycle_start_ns BIGINT,
    anchor_name VARCHAR,
    anchor_duration_ns BIGINT,
    function_name VARCHAR,
    simple_name VARCHAR,
    function_class VARCHAR,
    device VARCHAR,
    metric_name VARCHAR,
    beta_pct DOUBLE,
    mu_pct DOUBLE,
    sigma_pct DOUBLE,
    duration_ns BIGINT,
    instances BIGINT,
    distinct_samples BIGINT,
    interpolated VARCHAR,
    capacity DOUBLE,
    cpus BIGINT
);
COMMENT ON TABLE function_usage IS 'One function''s share of a cycle, beside one counter while it ran.';
COMMENT ON COLUMN function_usage.run_id IS 'run it belongs to; key of runs';
COMMENT ON COLUMN function_usage.hostname IS 'host that it ran on; NULL where the source does not tell';
COMMENT ON COLUMN function_usage.pid IS 'process that it ran in';
COMMENT ON COLUMN function_usage.cycle_index IS 'number of the cycle in its process, from 1';
COMMENT ON COLUMN function_usage.cycle_start_ns IS 'start of the cycle, ns since 1970 on the host''s clock';
COMMENT ON COLUMN function_usage.anchor_name IS 'function whose calls delimit the cycles';
COMMENT ON COLUMN function_usage.anchor_duration_ns IS 'length of the cycle, ns';
COMMENT ON COLUMN function_usage.function_name IS 'function, kernel or kind of event as the trace writes it';
COMMENT ON COLUMN function_usage.simple_name IS 'the same without what differs from shape to shape';
COMMENT ON COLUMN function_usage.function_class IS 'class that decides which counters go with it, such as gpu_compute or oncpu';
COMMENT ON COLUMN function_usage.device IS 'Host, or GPU n';
COMMENT ON COLUMN function_usage.metric_name IS 'counter; NULL for a function that none goes with';
COMMENT ON COLUMN function_usage.beta_pct IS 'share of the cycle spent in it, %; over 100 for what runs on several CPUs';
COMMENT ON COLUMN function_usage.mu_pct IS 'mean of the counter while it ran, times 100, of the counter as its source scales it (usages to 1 at most)';
COMMENT ON COLUMN function_usage.sigma_pct IS 'standard deviation of the counter while it ran, scaled as mu_pct';
COMMENT ON COLUMN function_usage.duration_ns IS 'time spent in it in the cycle, ns';
COMMENT ON COLUMN function_usage.instances IS 'calls or pieces of it in the cycle';
COMMENT ON COLUMN function_usage.distinct_samples IS 'samples of the counter that mu_pct rests on; NULL where the source does not tell';
COMMENT ON COLUMN function_usage.interpolated IS 'of how many instances the counter had to be interpolated: all, some or none; NULL without a counter';
COMMENT ON COLUMN function_usage.capacity IS 'value of the counter that is 100 % of mu_pct, in its unit; NULL where mu_pct is its value times 100, or the source does not tell';
COMMENT ON COLUMN function_usage.cpus IS 'CPUs, or threads where these are not told, that the time of oncpu or runq is added up over; NULL for other classes';
