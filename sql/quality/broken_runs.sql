-- One row per run and check that it breaks; `offending_by_run` fills it.
-- Grain: (run_id, expectation). Reads: nothing. Params: none.
CREATE TEMP TABLE broken_runs (
    run_id VARCHAR,
    expectation VARCHAR,
    offending BIGINT,
    min_value DOUBLE,
    max_value DOUBLE,
    sample JSON
);
