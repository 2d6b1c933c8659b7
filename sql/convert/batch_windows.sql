-- One row per batch of the run: the window that it counts for.
-- Grain: (run_id, batch_index). Reads: batches, runs (the one that is being loaded). Params: none.
UPDATE batches SET run_window = CASE
    -- The effect is measured here, on the server's own cores: what is slow is slow of the measure.
    WHEN r.fault_apply_ns IS NOT NULL
        AND start_ns >= r.fault_end_ns
        AND start_ns < COALESCE(r.recovery_start_ns, 9223372036854775807) THEN NULL
    WHEN start_ns >= r.baseline_start_ns AND start_ns + duration_ns <= r.baseline_end_ns THEN 'baseline'
    WHEN start_ns >= r.fault_start_ns AND start_ns + duration_ns <= r.fault_end_ns THEN 'fault'
    WHEN start_ns >= r.recovery_start_ns AND start_ns + duration_ns <= r.recovery_end_ns THEN 'recovery'
    -- A run that broke off has no stop mark: it was recorded until it broke.
    WHEN start_ns + duration_ns > r.recording_start_ns
        AND start_ns < COALESCE(r.recording_stop_ns, 9223372036854775807) THEN 'transition'
END
FROM runs AS r
WHERE r.run_id = batches.run_id;
