-- One row per event on the GPU whose launch is not in its file, or is of another correlation.
-- Grain: (run_id, file_name, event_index). Reads: events. Params: none.
SELECT e.run_id, e.file_name, e.event_index, e.correlation, e.launch_index
FROM events AS e
ANTI JOIN events AS l
    ON l.run_id = e.run_id
    AND l.file_name = e.file_name
    AND l.event_index = e.launch_index
    AND l.correlation = e.correlation
    AND l.launch_index IS NULL
WHERE e.launch_index IS NOT NULL;
