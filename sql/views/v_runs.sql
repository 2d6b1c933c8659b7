-- One row per run, with its length, what was recorded, and what was set aside.
-- Grain: (run_id). Reads: runs, files. Params: none.
CREATE VIEW v_runs AS
WITH
recorded AS (
    SELECT
        run_id,
        COUNT(*) AS files,
        SUM(size_bytes) AS size_bytes,
        SUM(rows_quarantined) AS rows_quarantined
    FROM files
    GROUP BY run_id
)

SELECT
    r.campaign,
    r.run_order,
    r.run_id,
    r.host,
    r.engine,
    r.engine_version,
    r.scenario,
    r.workload,
    r.mode,
    r.repetition,
    r.status,
    r.reason,
    MAKE_TIMESTAMP_NS(r.recording_start_ns) AS started_utc,
    (r.recording_stop_ns - r.recording_start_ns) / 1e9 AS recorded_s,
    r.effect_proved,
    r.effect_undone,
    CAST(f.files AS BIGINT) AS files,
    CAST(f.size_bytes AS BIGINT) AS size_bytes,
    CAST(f.rows_quarantined AS BIGINT) AS rows_quarantined,
    r.clock_uncertainty_ns / 1e6 AS clock_uncertainty_ms,
    r.bundle
FROM runs AS r
LEFT JOIN recorded AS f USING (run_id)
ORDER BY r.campaign, r.run_order;
COMMENT ON VIEW v_runs IS 'One run, to be read by people.';
COMMENT ON COLUMN v_runs.campaign IS 'campaign instance';
COMMENT ON COLUMN v_runs.run_order IS 'place in the campaign, from 1';
COMMENT ON COLUMN v_runs.run_id IS 'key of runs';
COMMENT ON COLUMN v_runs.host IS 'host name in the spec';
COMMENT ON COLUMN v_runs.engine IS 'engine kind';
COMMENT ON COLUMN v_runs.engine_version IS 'version that the engine reports';
COMMENT ON COLUMN v_runs.scenario IS 'normal, sham, or the anomaly that was injected';
COMMENT ON COLUMN v_runs.workload IS 'in{input_length}_out{output_length}_conc{concurrency}';
COMMENT ON COLUMN v_runs.mode IS 'sentinel or deepdive';
COMMENT ON COLUMN v_runs.repetition IS 'repetition of the cell, from 1';
COMMENT ON COLUMN v_runs.status IS 'complete or failed';
COMMENT ON COLUMN v_runs.reason IS 'why it failed; NULL when complete';
COMMENT ON COLUMN v_runs.started_utc IS 'when the recording began, UTC';
COMMENT ON COLUMN v_runs.recorded_s IS 'length of the recording, s';
COMMENT ON COLUMN v_runs.effect_proved IS 'whether the fault was seen to act; NULL where none is injected';
COMMENT ON COLUMN v_runs.effect_undone IS 'whether the undo was seen to act; NULL where none is injected';
COMMENT ON COLUMN v_runs.files IS 'ingested files';
COMMENT ON COLUMN v_runs.size_bytes IS 'their size';
COMMENT ON COLUMN v_runs.rows_quarantined IS 'their lines that were rejected';
COMMENT ON COLUMN v_runs.clock_uncertainty_ms IS 'largest disagreement of the recorders'' clocks, ms';
COMMENT ON COLUMN v_runs.bundle IS 'folder of the raw records';
