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
    checked_ns BIGINT
);
COMMENT ON TABLE validation_results IS 'One check and its outcome.';
COMMENT ON COLUMN validation_results.campaign IS 'campaign instance';
COMMENT ON COLUMN validation_results.suite IS 'name of the suite';
COMMENT ON COLUMN validation_results.expectation IS 'sentence that must be true: a file in sql/checks, or the suite''s own';
COMMENT ON COLUMN validation_results.subject IS 'runs that break it, at most ten by name; all when none does';
COMMENT ON COLUMN validation_results.success IS 'whether it holds for every run';
COMMENT ON COLUMN validation_results.policy IS 'fail stops the pipeline, quarantine sets rows aside, warn only tells';
COMMENT ON COLUMN validation_results.observed IS 'what was found, with numbers';
COMMENT ON COLUMN validation_results.expected IS 'what should be found';
COMMENT ON COLUMN validation_results.checked_ns IS 'when it was judged, ns since 1970';
