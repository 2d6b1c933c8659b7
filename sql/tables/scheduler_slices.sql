-- One row per time that a thread of the engine spent on a CPU or in the queue for one.
-- Grain: (run_id, kind, cpu, tid, start_ns).
CREATE TABLE scheduler_slices (
    run_id VARCHAR,
    start_ns BIGINT,
    duration_ns BIGINT,
    kind VARCHAR,
    pid BIGINT,
    tid BIGINT,
    thread_name VARCHAR,
    cpu BIGINT,
    state VARCHAR,
    instead_pid BIGINT,
    instead_tid BIGINT,
    instead_name VARCHAR,
    instead_ns BIGINT,
    lost_events BIGINT
);
COMMENT ON TABLE scheduler_slices IS 'One time that a thread of the engine spent on a CPU or in the queue for one; also when events were lost.';
COMMENT ON COLUMN scheduler_slices.run_id IS 'run it belongs to; key of runs';
COMMENT ON COLUMN scheduler_slices.start_ns IS 'when it began, or the recording if that was later, ns since 1970 on the host''s clock';
COMMENT ON COLUMN scheduler_slices.duration_ns IS 'how long it lasted, or until the recording ended, ns';
COMMENT ON COLUMN scheduler_slices.kind IS 'oncpu; runq: it could run, and waited in that CPU''s queue; lost: slices are missing, as events of that CPU were lost';
COMMENT ON COLUMN scheduler_slices.pid IS 'process of the thread; NULL for lost';
COMMENT ON COLUMN scheduler_slices.tid IS 'thread; NULL for lost';
COMMENT ON COLUMN scheduler_slices.thread_name IS 'name that the thread had then, 15 bytes at most';
COMMENT ON COLUMN scheduler_slices.cpu IS 'the CPU';
COMMENT ON COLUMN scheduler_slices.state IS 'oncpu, how it left: S it slept, D it waited for a disk or a lock, R it could have gone on, T stopped, X or Z ended; runq, how it came: W woken, R sent off the CPU, M moved from another queue; NULL where the recording cut it';
COMMENT ON COLUMN scheduler_slices.instead_pid IS 'runq: process of the thread that had the CPU for longest meanwhile; NULL where it stood idle';
COMMENT ON COLUMN scheduler_slices.instead_tid IS 'runq: that thread; NULL where the CPU stood idle';
COMMENT ON COLUMN scheduler_slices.instead_name IS 'runq: its name; NULL where the CPU stood idle';
COMMENT ON COLUMN scheduler_slices.instead_ns IS 'runq: how long it had the CPU meanwhile, ns; NULL where the CPU stood idle';
COMMENT ON COLUMN scheduler_slices.lost_events IS 'lost: scheduler events that the recorder did not get; NULL otherwise';
