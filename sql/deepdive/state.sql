-- One row per working table of a division, all of them empty: what is known of every trace of a run together.
-- Grain: (name). Reads: nothing. Params: none.
CREATE OR REPLACE TEMP TABLE functions (
    file_number INTEGER, function_id INTEGER, category VARCHAR, name VARCHAR, kind VARCHAR, plain_name VARCHAR,
    simple_name VARCHAR, function_class VARCHAR, is_waiting BOOLEAN, is_plumbing BOOLEAN, is_step BOOLEAN,
    sign VARCHAR, events BIGINT
);
CREATE OR REPLACE TEMP TABLE spans (
    file_number INTEGER, file_name VARCHAR, process VARCHAR, number BIGINT, start_ns BIGINT, end_ns BIGINT,
    anchor_ns BIGINT, interval_ns BIGINT, forward_mode VARCHAR, batch_size BIGINT, kv_tokens BIGINT,
    new_input_tokens BIGINT, anchor_name VARCHAR, anchor_source VARCHAR, label VARCHAR
);
CREATE OR REPLACE TEMP TABLE processes (
    file_number INTEGER, process VARCHAR, pid BIGINT, hostname VARCHAR, rank BIGINT, is_cut_off BOOLEAN
);
CREATE OR REPLACE TEMP TABLE pieces (
    file_number INTEGER, process VARCHAR, number BIGINT, function_id INTEGER, function_class VARCHAR, device VARCHAR,
    start_ns BIGINT, end_ns BIGINT, spent_ns BIGINT, lane VARCHAR
);
CREATE OR REPLACE TEMP TABLE gpu_spans (
    file_number INTEGER, process VARCHAR, number BIGINT, inside BOOLEAN, events BIGINT, time_ns BIGINT,
    start_ns BIGINT, end_ns BIGINT, late BIGINT
);
CREATE OR REPLACE TEMP TABLE unowned (
    file_number INTEGER, kind VARCHAR, reason VARCHAR, events BIGINT
);
