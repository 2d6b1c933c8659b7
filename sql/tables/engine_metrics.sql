-- One row per number of one page of metrics that the engine tells about itself.
-- Grain: (run_id, start_ns, metric_name, labels).
CREATE TABLE engine_metrics (
    run_id VARCHAR,
    start_ns BIGINT,
    duration_ns BIGINT,
    metric_name VARCHAR,
    labels JSON,
    metric_type VARCHAR,
    value DOUBLE
);
COMMENT ON TABLE engine_metrics IS 'One number that the engine tells about itself on its /metrics page, and whether the page could be had.';
COMMENT ON COLUMN engine_metrics.run_id IS 'run it belongs to; key of runs';
COMMENT ON COLUMN engine_metrics.start_ns IS 'when the page was asked for, ns since 1970 on the host''s clock';
COMMENT ON COLUMN engine_metrics.duration_ns IS 'how long the answer took, ns';
COMMENT ON COLUMN engine_metrics.metric_name IS 'name as the engine gives it, such as vllm:num_requests_running; up is ours: whether the page could be had';
COMMENT ON COLUMN engine_metrics.labels IS 'labels as an object of texts; of up, when it is 0, the reason';
COMMENT ON COLUMN engine_metrics.metric_type IS 'gauge, counter, histogram or summary, as the engine says; NULL where it does not';
COMMENT ON COLUMN engine_metrics.value IS 'value as it stood then; a counter counts from the start of the server';
