-- One row per request of a load client.
-- Grain: (run_id, client_run_index, request_index).
CREATE TABLE requests (
    run_id VARCHAR,
    client_run_index BIGINT,
    request_index BIGINT,
    start_ns BIGINT,
    start_monotonic_ns BIGINT,
    status VARCHAR,
    error VARCHAR,
    input_tokens BIGINT,
    output_tokens BIGINT,
    queue_ms DOUBLE,
    ttft_ms DOUBLE,
    itl_count BIGINT,
    itl_avg_ms DOUBLE,
    itl_max_ms DOUBLE,
    itl_ms_values JSON,
    e2e_ms DOUBLE,
    source VARCHAR
);
COMMENT ON TABLE requests IS 'One request as the load client saw it.';
COMMENT ON COLUMN requests.run_id IS 'run it belongs to; key of runs';
COMMENT ON COLUMN requests.client_run_index IS 'number of the client''s run in its file, from 0: clients can append';
COMMENT ON COLUMN requests.request_index IS 'number in the client''s run, from 0, in order of sending';
COMMENT ON COLUMN requests.start_ns IS 'when it was sent, ns since 1970; NULL where the client does not tell';
COMMENT ON COLUMN requests.start_monotonic_ns IS 'when it was sent, ns on the client''s monotonic clock; NULL where the client does not tell';
COMMENT ON COLUMN requests.status IS 'completed, or failed: a failed request has no place in a statistic of latency; NULL where the client does not tell';
COMMENT ON COLUMN requests.error IS 'what went wrong, in the client''s words; NULL where nothing did';
COMMENT ON COLUMN requests.input_tokens IS 'length of the prompt, tokens';
COMMENT ON COLUMN requests.output_tokens IS 'length of the answer, tokens';
COMMENT ON COLUMN requests.queue_ms IS 'time that it waited in the client for its turn, before it was sent, ms';
COMMENT ON COLUMN requests.ttft_ms IS 'time from sending to the first token, ms; NULL where none came';
COMMENT ON COLUMN requests.itl_count IS 'number of times between one piece of the answer and the next';
COMMENT ON COLUMN requests.itl_avg_ms IS 'their mean, ms; NULL where there are none';
COMMENT ON COLUMN requests.itl_max_ms IS 'the longest of them, ms; NULL where there are none';
COMMENT ON COLUMN requests.itl_ms_values IS 'all of them in order, a JSON array, ms; NULL where the client does not tell';
COMMENT ON COLUMN requests.e2e_ms IS 'time from sending to the end of the answer, ms; NULL where it failed';
COMMENT ON COLUMN requests.source IS 'client, such as vllm_bench or sglang_bench';
