-- One row per incident: consecutive alarms merged.
-- Grain: (run_id, incident_index).
CREATE TABLE incidents (
    run_id VARCHAR,
    incident_index BIGINT,
    start_ns BIGINT,
    end_ns BIGINT,
    first_batch_index BIGINT,
    last_batch_index BIGINT,
    batches BIGINT,
    alarms BIGINT,
    expected_ms DOUBLE,
    actual_ms DOUBLE,
    slowdown DOUBLE,
    excess_ms DOUBLE,
    tpot_ms DOUBLE,
    slo_violated BOOLEAN,
    severity VARCHAR,
    workloads JSON
);
COMMENT ON TABLE incidents IS 'One stretch of batches that were slower than explained.';
COMMENT ON COLUMN incidents.run_id IS 'run it belongs to; key of runs';
COMMENT ON COLUMN incidents.incident_index IS 'number in the run, from 0';
COMMENT ON COLUMN incidents.start_ns IS 'start of its first batch, ns since 1970 on the host''s clock';
COMMENT ON COLUMN incidents.end_ns IS 'end of its last batch, ns since 1970 on the host''s clock';
COMMENT ON COLUMN incidents.first_batch_index IS 'its first batch';
COMMENT ON COLUMN incidents.last_batch_index IS 'its last batch';
COMMENT ON COLUMN incidents.batches IS 'scored batches in it';
COMMENT ON COLUMN incidents.alarms IS 'those of them with an alarm';
COMMENT ON COLUMN incidents.expected_ms IS 'median expected time of its batches, ms';
COMMENT ON COLUMN incidents.actual_ms IS 'median actual time of its batches, ms';
COMMENT ON COLUMN incidents.slowdown IS 'actual time over expected time, summed over its batches';
COMMENT ON COLUMN incidents.excess_ms IS 'actual less expected time, summed over its batches, ms';
COMMENT ON COLUMN incidents.tpot_ms IS 'mean start to start of its batches that give tokens, ms';
COMMENT ON COLUMN incidents.slo_violated IS 'whether tpot_ms is above the objective; NULL where none is set';
COMMENT ON COLUMN incidents.severity IS 'critical where the objective is broken; else major from 1.5 times as slow on, or minor';
COMMENT ON COLUMN incidents.workloads IS 'workloads of its batches';
