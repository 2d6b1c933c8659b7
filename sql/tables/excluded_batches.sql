-- One row per batch and check of policy quarantine that it breaks: features leave it out.
-- Grain: (run_id, batch_index, expectation).
CREATE TABLE excluded_batches (
    run_id VARCHAR,
    batch_index BIGINT,
    expectation VARCHAR
);
COMMENT ON TABLE excluded_batches IS 'One batch that is not learned from and not scored, as the last validation of its campaign found.';
COMMENT ON COLUMN excluded_batches.run_id IS 'run it belongs to; key of runs';
COMMENT ON COLUMN excluded_batches.batch_index IS 'key of batches, with run_id';
COMMENT ON COLUMN excluded_batches.expectation IS 'sentence that it breaks; key of validation_results, with campaign and suite';
