-- One row per line that could not be read.
-- Grain: (run_id, file_name, line_number). Reads: quarantine. Params: none.
SELECT run_id, file_name, line_number, reason FROM quarantine;
