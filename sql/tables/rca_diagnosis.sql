-- One row per ranked cause of an incident.
-- Grain: (run_id, incident_index, rank).
CREATE TABLE rca_diagnosis (
    run_id VARCHAR,
    incident_index BIGINT,
    rank BIGINT,
    cause VARCHAR,
    score DOUBLE,
    confidence DOUBLE,
    device VARCHAR,
    start_ns BIGINT,
    end_ns BIGINT,
    evidence VARCHAR
);
COMMENT ON TABLE rca_diagnosis IS 'One cause that explains an incident, or that there was none.';
COMMENT ON COLUMN rca_diagnosis.run_id IS 'run it belongs to; key of runs';
COMMENT ON COLUMN rca_diagnosis.incident_index IS 'incident of the run; NULL for the whole run, when it has none';
COMMENT ON COLUMN rca_diagnosis.rank IS '1 for the cause that is named';
COMMENT ON COLUMN rca_diagnosis.cause IS 'name of the cause, or none';
COMMENT ON COLUMN rca_diagnosis.score IS 'how well the signature fits, 0 to 1';
COMMENT ON COLUMN rca_diagnosis.confidence IS 'score less what speaks against it or what few samples leave open, 0 to 1';
COMMENT ON COLUMN rca_diagnosis.device IS 'device it acts on; empty when it is no single one';
COMMENT ON COLUMN rca_diagnosis.start_ns IS 'start of the span it explains, ns since 1970 on the host''s clock';
COMMENT ON COLUMN rca_diagnosis.end_ns IS 'end of that span, ns since 1970 on the host''s clock';
COMMENT ON COLUMN rca_diagnosis.evidence IS 'why, in words with numbers';
