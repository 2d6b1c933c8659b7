-- One row per event that took less than no time, or that is complete and does not tell how long it took.
-- Grain: (run_id, file_name, event_index). Reads: events. Params: none.
SELECT run_id, file_name, event_index, phase, duration_ns
FROM events
WHERE duration_ns < 0 OR phase = 'X' AND duration_ns IS NULL;
