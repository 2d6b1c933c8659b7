-- One row per deep capture of a run.
-- Grain: (run_id, capture_name).
CREATE TABLE captures (
    run_id VARCHAR,
    capture_name VARCHAR,
    run_window VARCHAR,
    profiler VARCHAR,
    start_ns BIGINT,
    ready_ns BIGINT,
    stop_ns BIGINT,
    end_ns BIGINT,
    stalled_ns BIGINT,
    iterations_asked BIGINT,
    iterations BIGINT,
    events BIGINT,
    size_bytes BIGINT,
    files JSON,
    lost VARCHAR
);
COMMENT ON TABLE captures IS 'One deep capture: when the profiler ran, what it took and what it gave.';
COMMENT ON COLUMN captures.run_id IS 'run it belongs to; key of runs';
COMMENT ON COLUMN captures.capture_name IS 'capture-baseline or capture-fault; begins the names of its files';
COMMENT ON COLUMN captures.run_window IS 'window in which it was made: baseline or fault';
COMMENT ON COLUMN captures.profiler IS 'torch: the server''s own, which slows the steps that it records; command: an installed profiler';
COMMENT ON COLUMN captures.start_ns IS 'the profiler is told to start, ns since 1970 on the host''s clock; NULL when it never was';
COMMENT ON COLUMN captures.ready_ns IS 'it runs, ns since 1970 on the host''s clock; NULL when it never did';
COMMENT ON COLUMN captures.stop_ns IS 'first sign outside the engine that a trace is being written, ns since 1970 on the host''s clock';
COMMENT ON COLUMN captures.end_ns IS 'the trace is written, and the engine goes on, ns since 1970 on the host''s clock';
COMMENT ON COLUMN captures.stalled_ns IS 'from the last event of its traces to end_ns: the engine stood still for it, ns; NULL for an installed profiler';
COMMENT ON COLUMN captures.iterations_asked IS 'engine iterations that it was to record; NULL for an installed profiler, which records the window';
COMMENT ON COLUMN captures.iterations IS 'steps that its traces tell, of the rank that tells most; fewer than asked when the load ended';
COMMENT ON COLUMN captures.events IS 'events and counter samples kept of its traces';
COMMENT ON COLUMN captures.size_bytes IS 'size of its traces as written';
COMMENT ON COLUMN captures.files IS 'names of its traces, a list; a rank has one';
COMMENT ON COLUMN captures.lost IS 'why there is no capture; NULL when there is';
