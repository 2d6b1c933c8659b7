-- One row per phase of a run: a part of it that the orchestrator timed.
-- Grain: (run_id, phase_index).
CREATE TABLE phases (
    run_id VARCHAR,
    phase_index BIGINT,
    phase VARCHAR,
    host_session VARCHAR,
    start_ns BIGINT,
    duration_ns BIGINT
);
COMMENT ON TABLE phases IS 'One phase of a run, from the connection to the fetched records, as the orchestrator timed it.';
COMMENT ON COLUMN phases.run_id IS 'run it belongs to; key of runs';
COMMENT ON COLUMN phases.phase_index IS 'place in the run, from 0; a server or a connection belongs to the first run that used it';
COMMENT ON COLUMN phases.phase IS 'what was done, such as start the server, baseline window, fetch';
COMMENT ON COLUMN phases.host_session IS 'visit to the host: runs of one follow each other on one connection; NULL where it was not told';
COMMENT ON COLUMN phases.start_ns IS 'begin, ns since 1970 on the orchestrator''s clock, from which the host''s differs by runs.clock_offset_ns';
COMMENT ON COLUMN phases.duration_ns IS 'length, ns';
