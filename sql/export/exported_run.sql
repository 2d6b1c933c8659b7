-- One row per run, the one that is exported, with the time that is written as 0 and the part that is wanted.
-- Grain: (run_id). Reads: runs, batches, events, counters, scheduler_slices, engine_metrics.
-- Params: $run_id, $run_window.
-- 0 is the start of the recording, or what was recorded earliest: no time of a trace is negative. A window is wanted
-- from its first mark to its last, else everything.
CREATE OR REPLACE TABLE exported_run AS
WITH
firsts AS (
    SELECT MIN(start_ns) AS start_ns FROM batches WHERE run_id = $run_id
    UNION ALL
    SELECT MIN(start_ns) FROM events WHERE run_id = $run_id AND phase <> 'M'
    UNION ALL
    SELECT MIN(start_ns) FROM counters WHERE run_id = $run_id
    UNION ALL
    SELECT MIN(start_ns) FROM scheduler_slices WHERE run_id = $run_id
    UNION ALL
    SELECT MIN(start_ns) FROM engine_metrics WHERE run_id = $run_id
    UNION ALL
    SELECT recording_start_ns FROM runs WHERE run_id = $run_id
)

SELECT
    r.*,
    COALESCE((SELECT MIN(start_ns) FROM firsts), 0) AS origin_ns,
    CASE $run_window
        WHEN 'baseline' THEN r.baseline_start_ns
        WHEN 'fault' THEN r.fault_start_ns
        WHEN 'recovery' THEN r.recovery_start_ns
        ELSE 0
    END AS from_ns,
    CASE $run_window
        WHEN 'baseline' THEN r.baseline_end_ns
        WHEN 'fault' THEN r.fault_end_ns
        WHEN 'recovery' THEN r.recovery_end_ns
        ELSE 9223372036854775807
    END AS until_ns
FROM runs AS r
WHERE r.run_id = $run_id;
