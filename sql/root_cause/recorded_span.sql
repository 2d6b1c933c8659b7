-- One row per run of ours: the time of one of its windows, or from its baseline to the end of its recording.
-- Grain: (run_id). Reads: runs. Params: $run_id, $run_window (NULL: the whole).
-- Recordings of others have no marks, and counters in units of their own: they are left out.
SELECT
    CASE $run_window
        WHEN 'baseline' THEN baseline_start_ns
        WHEN 'fault' THEN fault_start_ns
        WHEN 'recovery' THEN recovery_start_ns
        ELSE COALESCE(baseline_start_ns, recording_start_ns)
    END AS start_ns,
    CASE $run_window
        WHEN 'baseline' THEN baseline_end_ns
        WHEN 'fault' THEN fault_end_ns
        WHEN 'recovery' THEN recovery_end_ns
        ELSE recording_stop_ns
    END AS end_ns
FROM runs
WHERE run_id = $run_id AND recording_start_ns IS NOT NULL;
