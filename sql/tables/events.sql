-- One row per event of a trace; counter samples are in counters.
-- Grain: (run_id, file_name, event_index).
CREATE TABLE events (
    run_id VARCHAR,
    file_name VARCHAR,
    event_index BIGINT,
    phase VARCHAR,
    category VARCHAR,
    name VARCHAR,
    process VARCHAR,
    pid BIGINT,
    thread VARCHAR,
    tid BIGINT,
    start_ns BIGINT,
    duration_ns BIGINT,
    flow_id VARCHAR,
    args JSON,
    extra JSON,
    correlation BIGINT,
    external_id BIGINT,
    device BIGINT,
    stream BIGINT,
    source_file VARCHAR,
    source_line BIGINT,
    python_id BIGINT,
    python_parent_id BIGINT,
    launch_index BIGINT
);
COMMENT ON TABLE events IS 'One event of a trace, of any phase but counter samples.';
COMMENT ON COLUMN events.run_id IS 'run it belongs to; key of runs';
COMMENT ON COLUMN events.file_name IS 'file it stands in; key of files, with run_id';
COMMENT ON COLUMN events.event_index IS 'place in the file, from 0, rejected events and counter samples included';
COMMENT ON COLUMN events.phase IS 'X complete, B and E begin and end, s t f flow, i or I instant, M metadata, b n e async, N O D object';
COMMENT ON COLUMN events.category IS 'kind of event as written, such as cpu_op or kernel; NULL where none is written';
COMMENT ON COLUMN events.name IS 'function, operator, kernel or label as written';
COMMENT ON COLUMN events.process IS 'pid as written: a number, a device, or a text such as host(1234)';
COMMENT ON COLUMN events.pid IS 'number in process; of GPU rows the device, not a process';
COMMENT ON COLUMN events.thread IS 'tid as written: a number or a text';
COMMENT ON COLUMN events.tid IS 'number that thread is; NULL where it is a text';
COMMENT ON COLUMN events.start_ns IS 'start, ns since 1970 on the host''s clock where the file tells its base time or counts from 1970';
COMMENT ON COLUMN events.duration_ns IS 'length of a complete event, ns; NULL for other phases';
COMMENT ON COLUMN events.flow_id IS 'id as written, of flow, async and object events';
COMMENT ON COLUMN events.args IS 'arguments as written, without white space; NaN and infinities as text';
COMMENT ON COLUMN events.extra IS 'what the event tells beside the fields that have a column, such as bp and s; NULL where nothing';
COMMENT ON COLUMN events.correlation IS 'correlation id that links a launch to what it runs on the GPU';
COMMENT ON COLUMN events.external_id IS 'id of the operator that it belongs to';
COMMENT ON COLUMN events.device IS 'GPU number that args name; NULL on the CPU';
COMMENT ON COLUMN events.stream IS 'GPU stream that args name';
COMMENT ON COLUMN events.source_file IS 'file of a Python function';
COMMENT ON COLUMN events.source_line IS 'line of a Python function, from 1';
COMMENT ON COLUMN events.python_id IS 'id of a Python call, in its file';
COMMENT ON COLUMN events.python_parent_id IS 'id of the Python call that it was called from';
COMMENT ON COLUMN events.launch_index IS 'event_index of the call that launched this GPU work; NULL where none is recorded';
