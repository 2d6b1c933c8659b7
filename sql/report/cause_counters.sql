-- One row per sample of a counter during a run, on the device or process where it moved most in the largest incident.
-- Grain: (start_s). Reads: counters, incidents, runs. Params: $run_id, $counter_name.
-- Moved: its median in the incident less its median outside, whichever way. Times in s since the recording began.
WITH
incident AS (
    SELECT start_ns, end_ns
    FROM incidents
    WHERE run_id = $run_id
    ORDER BY excess_ms DESC, incident_index
    LIMIT 1
),

sampled AS (
    SELECT
        c.*,
        i.start_ns AS incident_start_ns,
        i.end_ns AS incident_end_ns,
        c.start_ns < i.end_ns AND c.start_ns + COALESCE(c.duration_ns, 0) > i.start_ns AS is_during
    FROM counters AS c
    CROSS JOIN incident AS i
    WHERE c.run_id = $run_id AND c.counter_name = $counter_name AND c.value IS NOT NULL
),

moved AS (
    SELECT
        device,
        pid,
        ABS(MEDIAN(value) FILTER (WHERE is_during) - MEDIAN(value) FILTER (WHERE NOT is_during)) AS moved
    FROM sampled
    GROUP BY ALL
    ORDER BY moved DESC NULLS LAST, device, pid
    LIMIT 1
)

SELECT
    (s.start_ns - r.recording_start_ns) / 1e9 AS start_s,
    s.value,
    s.unit,
    s.device,
    s.pid,
    (s.incident_start_ns - r.recording_start_ns) / 1e9 AS incident_start_s,
    (s.incident_end_ns - r.recording_start_ns) / 1e9 AS incident_end_s,
    (r.fault_apply_ns - r.recording_start_ns) / 1e9 AS fault_apply_s,
    (r.fault_end_ns - r.recording_start_ns) / 1e9 AS fault_end_s
FROM sampled AS s
INNER JOIN moved AS m ON m.device IS NOT DISTINCT FROM s.device AND m.pid IS NOT DISTINCT FROM s.pid
INNER JOIN runs AS r USING (run_id)
ORDER BY s.start_ns, s.sample_index;
