-- One row per run: what its manifest says, and how far its clocks disagree.
-- Grain: (run_id). Reads: recorder_lines.
-- Params: $run_id, $campaign, $host, $engine, $engine_version, $engine_key, $model, $scenario, $anomaly, $strength,
-- $input_length, $output_length, $concurrency, $mode, $repetition, $run_order, $status, $reason, $recording_start,
-- $baseline_start, $baseline_end, $fault_apply, $fault_start, $fault_end, $fault_revert, $recovery_start,
-- $recovery_end, $recording_stop, $effect_metric, $effect_unit, $effect_before, $effect_during, $effect_after,
-- $effect_proved, $effect_undone, $slo_ttft_ms, $slo_tpot_ms, $cpu_model, $bundle.
INSERT INTO runs BY NAME
WITH
clocks AS (
    SELECT CAST(document -> '$.realtime_ns' AS BIGINT) - CAST(document -> '$.monotonic_ns' AS BIGINT) AS offset_ns
    FROM recorder_lines
    WHERE kind = 'clock' AND reason IS NULL
)

SELECT
    $run_id AS run_id,
    $campaign AS campaign,
    $host AS host,
    $engine AS engine,
    $engine_version AS engine_version,
    $engine_key AS engine_key,
    $model AS model,
    $scenario AS scenario,
    $anomaly AS anomaly,
    $strength AS strength,
    CONCAT('in', $input_length, '_out', $output_length, '_conc', $concurrency) AS workload,
    $input_length AS input_length,
    $output_length AS output_length,
    $concurrency AS concurrency,
    $mode AS mode,
    $repetition AS repetition,
    $run_order AS run_order,
    $status AS status,
    $reason AS reason,
    $recording_start AS recording_start_ns,
    $baseline_start AS baseline_start_ns,
    $baseline_end AS baseline_end_ns,
    $fault_apply AS fault_apply_ns,
    $fault_start AS fault_start_ns,
    $fault_end AS fault_end_ns,
    $fault_revert AS fault_revert_ns,
    $recovery_start AS recovery_start_ns,
    $recovery_end AS recovery_end_ns,
    $recording_stop AS recording_stop_ns,
    $effect_metric AS effect_metric,
    $effect_unit AS effect_unit,
    $effect_before AS effect_before,
    $effect_during AS effect_during,
    $effect_after AS effect_after,
    $effect_proved AS effect_proved,
    $effect_undone AS effect_undone,
    $slo_ttft_ms AS slo_ttft_ms,
    $slo_tpot_ms AS slo_tpot_ms,
    (SELECT MAX(offset_ns) - MIN(offset_ns) FROM clocks) AS clock_uncertainty_ns,
    $cpu_model AS cpu_model,
    $bundle AS bundle;
