-- One row per expectation of a suite on a campaign.
-- Grain: (campaign, suite, expectation).
CREATE TABLE validation_results (
    campaign VARCHAR,
    suite VARCHAR,
    expectation VARCHAR,
    subject VARCHAR,
    success BOOLEAN,
    policy VARCHAR,
    observed VARCHAR,
    expected VARCHAR,
    offending BIGINT,
    total BIGINT,
    min_value DOUBLE,
    max_value DOUBLE,
    sample JSON,
    checked_ns BIGINT
);
COMMENT ON TABLE validation_results IS 'One check and its outcome.';
COMMENT ON COLUMN validation_results.campaign IS 'campaign instance';
COMMENT ON COLUMN validation_results.suite IS 'campaign: runs that a campaign of ours recorded; recording: all others; summary: what is judged itself';
COMMENT ON COLUMN validation_results.expectation IS 'sentence that must be true: a file in sql/checks, or the suite''s own';
COMMENT ON COLUMN validation_results.subject IS 'runs that break it, at most ten by name; all when none does';
COMMENT ON COLUMN validation_results.success IS 'whether it holds for every run of the suite';
COMMENT ON COLUMN validation_results.policy IS 'what a broken one means: fail stops the pipeline, quarantine leaves the batches out (excluded_batches), warn only tells';
COMMENT ON COLUMN validation_results.observed IS 'what was found, with numbers';
COMMENT ON COLUMN validation_results.expected IS 'what should be found';
COMMENT ON COLUMN validation_results.offending IS 'rows that break it';
COMMENT ON COLUMN validation_results.total IS 'rows of the table that it looks at';
COMMENT ON COLUMN validation_results.min_value IS 'smallest of the value that it is about, over the offending rows; NULL where there is none';
COMMENT ON COLUMN validation_results.max_value IS 'largest of the same';
COMMENT ON COLUMN validation_results.sample IS 'a few of the offending rows, an array of objects; NULL where there are none';
COMMENT ON COLUMN validation_results.checked_ns IS 'when it was judged, ns since 1970';
