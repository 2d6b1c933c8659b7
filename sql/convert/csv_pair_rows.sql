-- One row per row of a CSV pair: kept, or rejected with a reason; empty until its files are read.
-- Grain: (file_name, line_number). Reads: nothing. Params: none.
-- table_rows is how many rows it becomes in table_name.
CREATE OR REPLACE TEMP TABLE foreign_lines (
    file_name VARCHAR,
    line_number BIGINT,
    table_name VARCHAR,
    table_rows BIGINT,
    reason VARCHAR,
    raw_text VARCHAR,
    place BIGINT,
    extra VARCHAR,
    phase VARCHAR,
    category VARCHAR,
    name VARCHAR,
    process VARCHAR,
    thread VARCHAR,
    start_ns BIGINT,
    duration_ns BIGINT,
    flow_id VARCHAR,
    args JSON,
    value DOUBLE,
    hostname VARCHAR,
    places VARCHAR[]
);
