-- One row per run: one execution of a cell.
-- Grain: (run_id).
CREATE TABLE runs (
    run_id VARCHAR,
    run_name VARCHAR,
    campaign VARCHAR,
    host VARCHAR,
    engine VARCHAR,
    engine_version VARCHAR,
    engine_key VARCHAR,
    model VARCHAR,
    attached BOOLEAN,
    scenario VARCHAR,
    anomaly VARCHAR,
    strength JSON,
    workload VARCHAR,
    input_length BIGINT,
    output_length BIGINT,
    concurrency BIGINT,
    mode VARCHAR,
    repetition BIGINT,
    run_order BIGINT,
    status VARCHAR,
    reason VARCHAR,
    recording_start_ns BIGINT,
    baseline_start_ns BIGINT,
    baseline_end_ns BIGINT,
    fault_apply_ns BIGINT,
    fault_start_ns BIGINT,
    fault_end_ns BIGINT,
    fault_revert_ns BIGINT,
    recovery_start_ns BIGINT,
    recovery_end_ns BIGINT,
    recording_stop_ns BIGINT,
    effect_metric VARCHAR,
    effect_unit VARCHAR,
    effect_before DOUBLE,
    effect_during DOUBLE,
    effect_after DOUBLE,
    effect_proved BOOLEAN,
    effect_undone BOOLEAN,
    slo_ttft_ms DOUBLE,
    slo_tpot_ms DOUBLE,
    clock_uncertainty_ns BIGINT,
    clock_step_ns BIGINT,
    clock_offset_ns BIGINT,
    clock_offset_uncertainty_ns BIGINT,
    cpu_model VARCHAR,
    bundle VARCHAR
);
COMMENT ON TABLE runs IS 'One run: its cell, its window marks on the host''s epoch, the proof of its fault.';
COMMENT ON COLUMN runs.run_id IS 'r and 10 hex digits';
COMMENT ON COLUMN runs.run_name IS 'name for people, campaign/engine/scenario/workload; runs may share one';
COMMENT ON COLUMN runs.campaign IS 'campaign instance; key of campaigns';
COMMENT ON COLUMN runs.host IS 'host name in the spec';
COMMENT ON COLUMN runs.engine IS 'engine kind, such as vllm';
COMMENT ON COLUMN runs.engine_version IS 'version that the engine reports';
COMMENT ON COLUMN runs.engine_key IS 'hash of engine, version and launch arguments: runs that one latency model may describe';
COMMENT ON COLUMN runs.model IS 'model that was served';
COMMENT ON COLUMN runs.attached IS 'whether the server was somebody else''s, neither started nor stopped by the run; NULL for recordings of others';
COMMENT ON COLUMN runs.scenario IS 'normal, sham, or the anomaly that was injected';
COMMENT ON COLUMN runs.anomaly IS 'anomaly that was injected; NULL when nothing was';
COMMENT ON COLUMN runs.strength IS 'parameters of the anomaly';
COMMENT ON COLUMN runs.workload IS 'in{input_length}_out{output_length}_conc{concurrency}';
COMMENT ON COLUMN runs.input_length IS 'tokens of a prompt';
COMMENT ON COLUMN runs.output_length IS 'tokens asked for by a request';
COMMENT ON COLUMN runs.concurrency IS 'requests in flight';
COMMENT ON COLUMN runs.mode IS 'what was recorded: sentinel or deepdive';
COMMENT ON COLUMN runs.repetition IS 'repetition of the cell, from 1';
COMMENT ON COLUMN runs.run_order IS 'place in the campaign, from 1';
COMMENT ON COLUMN runs.status IS 'complete or failed';
COMMENT ON COLUMN runs.reason IS 'why it failed; NULL when complete';
COMMENT ON COLUMN runs.recording_start_ns IS 'all recorders run from here, ns since 1970 on the host''s clock';
COMMENT ON COLUMN runs.baseline_start_ns IS 'begin of the baseline window, ns since 1970 on the host''s clock';
COMMENT ON COLUMN runs.baseline_end_ns IS 'end of the baseline window, ns since 1970 on the host''s clock';
COMMENT ON COLUMN runs.fault_apply_ns IS 'onset of the fault (NULL where none is injected), ns since 1970 on the host''s clock';
COMMENT ON COLUMN runs.fault_start_ns IS 'begin of the fault window, ns since 1970 on the host''s clock';
COMMENT ON COLUMN runs.fault_end_ns IS 'end of the fault window, ns since 1970 on the host''s clock';
COMMENT ON COLUMN runs.fault_revert_ns IS 'the fault is being undone (NULL where none is injected), ns since 1970 on the host''s clock';
COMMENT ON COLUMN runs.recovery_start_ns IS 'begin of the recovery window, ns since 1970 on the host''s clock';
COMMENT ON COLUMN runs.recovery_end_ns IS 'end of the recovery window, ns since 1970 on the host''s clock';
COMMENT ON COLUMN runs.recording_stop_ns IS 'all recorders ran until here, ns since 1970 on the host''s clock';
COMMENT ON COLUMN runs.effect_metric IS 'what the injector''s victim measures';
COMMENT ON COLUMN runs.effect_unit IS 'unit of the three effect values';
COMMENT ON COLUMN runs.effect_before IS 'victim''s measure before the fault, in effect_unit';
COMMENT ON COLUMN runs.effect_during IS 'victim''s measure under the fault, in effect_unit';
COMMENT ON COLUMN runs.effect_after IS 'victim''s measure after the undo, in effect_unit';
COMMENT ON COLUMN runs.effect_proved IS 'whether the fault was seen to act; NULL where none is injected';
COMMENT ON COLUMN runs.effect_undone IS 'whether the undo was seen to act; NULL where none is injected';
COMMENT ON COLUMN runs.slo_ttft_ms IS 'objective for the time to the first token, ms; NULL where none is set';
COMMENT ON COLUMN runs.slo_tpot_ms IS 'objective for the time per output token, ms; NULL where none is set';
COMMENT ON COLUMN runs.clock_uncertainty_ns IS 'largest disagreement of all clock pairs of all recorders, a clock that was set left aside, ns: no smaller effect is claimed';
COMMENT ON COLUMN runs.clock_step_ns IS 'how far the host''s clock was set during the run, ns; its times are counted on from before; NULL when it was not';
COMMENT ON COLUMN runs.clock_offset_ns IS 'host''s clock less the orchestrator''s, ns, as measured over SSH; NULL where it was not';
COMMENT ON COLUMN runs.clock_offset_uncertainty_ns IS 'how far clock_offset_ns may be wrong: half of the quickest round trip, ns';
COMMENT ON COLUMN runs.cpu_model IS 'CPU of the host';
COMMENT ON COLUMN runs.bundle IS 'folder of the raw records, relative to the home where it lies in it';
