-- One row per rejected line of an ingested file.
-- Grain: (run_id, file_name, line_number).
CREATE TABLE quarantine (
    run_id VARCHAR,
    file_name VARCHAR,
    line_number BIGINT,
    reason VARCHAR,
    raw_text VARCHAR
);
COMMENT ON TABLE quarantine IS 'One rejected line: nothing is dropped silently.';
COMMENT ON COLUMN quarantine.run_id IS 'run it belongs to; key of runs';
COMMENT ON COLUMN quarantine.file_name IS 'file name in the bundle';
COMMENT ON COLUMN quarantine.line_number IS 'line in the file, from 1';
COMMENT ON COLUMN quarantine.reason IS 'why it was rejected';
COMMENT ON COLUMN quarantine.raw_text IS 'the line''s first 2000 characters; bytes that are no UTF-8 are written \xNN';
