-- One row per file of an ingested bundle.
-- Grain: (run_id, name).
CREATE TABLE files (
    sha256 VARCHAR,
    run_id VARCHAR,
    campaign VARCHAR,
    name VARCHAR,
    format VARCHAR,
    size_bytes BIGINT,
    rows_in BIGINT,
    rows_kept BIGINT,
    rows_quarantined BIGINT,
    head JSON
);
COMMENT ON TABLE files IS 'One ingested file: its digest, and what became of its lines.';
COMMENT ON COLUMN files.sha256 IS 'digest of the file as it was ingested';
COMMENT ON COLUMN files.run_id IS 'run it belongs to; key of runs';
COMMENT ON COLUMN files.campaign IS 'campaign instance';
COMMENT ON COLUMN files.name IS 'file name in the bundle';
COMMENT ON COLUMN files.format IS 'batches, iterations, counters, metrics, slices (these are converted), manifest, log (text, catalogued alone) or other';
COMMENT ON COLUMN files.size_bytes IS 'size of the file';
COMMENT ON COLUMN files.rows_in IS 'lines read; 0 for a file that is not converted';
COMMENT ON COLUMN files.rows_kept IS 'lines converted, or used for the conversion: clock and end lines count here';
COMMENT ON COLUMN files.rows_quarantined IS 'lines set aside in quarantine; rows_in = rows_kept + rows_quarantined';
COMMENT ON COLUMN files.head IS 'what a trace says of itself outside its events: devices, rank, versions; NULL for other files';
