-- One row per cycle of a process: one step, or one layer, as its anchor delimits it.
-- Grain: (run_id, hostname, pid, cycle_index).
CREATE TABLE cycles (
    run_id VARCHAR,
    hostname VARCHAR,
    pid BIGINT,
    cycle_index BIGINT,
    rank BIGINT,
    aligned_index BIGINT,
    skew_ns BIGINT,
    start_ns BIGINT,
    duration_ns BIGINT,
    interval_ns BIGINT,
    anchor_name VARCHAR,
    anchor_source VARCHAR,
    anchor_ns BIGINT,
    label VARCHAR,
    forward_mode VARCHAR,
    batch_size BIGINT,
    kv_tokens BIGINT,
    new_input_tokens BIGINT,
    batch_index BIGINT,
    run_window VARCHAR,
    gpu_events BIGINT,
    gpu_ns BIGINT,
    gpu_start_ns BIGINT,
    gpu_end_ns BIGINT,
    transition_gpu_events BIGINT,
    process VARCHAR,
    file_name VARCHAR
);
COMMENT ON TABLE cycles IS 'One cycle of a process: one step, or one layer, as its anchor delimits it.';
COMMENT ON COLUMN cycles.run_id IS 'run it belongs to; key of runs';
COMMENT ON COLUMN cycles.hostname IS 'host that it ran on; NULL where the source does not tell';
COMMENT ON COLUMN cycles.pid IS 'process that it ran in; NULL where the source names it by a text';
COMMENT ON COLUMN cycles.cycle_index IS 'number of the cycle in its process, from 1, in order of start';
COMMENT ON COLUMN cycles.rank IS 'rank of the process; NULL where the source does not tell';
COMMENT ON COLUMN cycles.aligned_index IS 'cycle_index of the cycle of the run''s first rank that it overlaps most: the same step on several ranks; NULL where it overlaps none';
COMMENT ON COLUMN cycles.skew_ns IS 'its start less the start of that cycle, ns';
COMMENT ON COLUMN cycles.start_ns IS 'start of the anchor''s call or of the step''s label, ns since 1970 on the host''s clock';
COMMENT ON COLUMN cycles.duration_ns IS 'to the next start, or to its last work where the engine then idled; of a layer, its call; ns';
COMMENT ON COLUMN cycles.interval_ns IS 'start to the next start in the same trace, ns; NULL for its last cycle';
COMMENT ON COLUMN cycles.anchor_name IS 'function whose calls delimit the cycles, or step label';
COMMENT ON COLUMN cycles.anchor_source IS 'how it was found: step_label, call_statistics, named, or layer';
COMMENT ON COLUMN cycles.anchor_ns IS 'time of the anchor''s call or of the label itself, ns: GPU work goes on after it';
COMMENT ON COLUMN cycles.label IS 'label of the step as written, or the anchor';
COMMENT ON COLUMN cycles.forward_mode IS 'prefill, decode, mixed or idle; NULL where nothing tells';
COMMENT ON COLUMN cycles.batch_size IS 'requests in the step; NULL where nothing tells';
COMMENT ON COLUMN cycles.kv_tokens IS 'tokens in the key-value cache of these requests; NULL where nothing tells';
COMMENT ON COLUMN cycles.new_input_tokens IS 'tokens computed by the step; NULL where nothing tells';
COMMENT ON COLUMN cycles.batch_index IS 'batch that it is, of those recorded beside the trace: the one of its rank that it overlaps most; key of batches with run_id; NULL where there is none';
COMMENT ON COLUMN cycles.run_window IS 'window in which it was captured: baseline or fault; NULL for traces of others';
COMMENT ON COLUMN cycles.gpu_events IS 'pieces of GPU work that it launched, whenever they ran';
COMMENT ON COLUMN cycles.gpu_ns IS 'time of these added up, ns';
COMMENT ON COLUMN cycles.gpu_start_ns IS 'start of the first of these, ns since 1970 on the host''s clock; NULL without GPU work';
COMMENT ON COLUMN cycles.gpu_end_ns IS 'end of the last of these, ns since 1970 on the host''s clock; NULL without GPU work';
COMMENT ON COLUMN cycles.transition_gpu_events IS 'pieces of GPU work that were launched between its end and the next start, and belong to no cycle';
COMMENT ON COLUMN cycles.process IS 'process as its trace writes it; key of events, with file_name';
COMMENT ON COLUMN cycles.file_name IS 'trace that shows it; key of files, with run_id';
