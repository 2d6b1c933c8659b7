-- One row per trace, the one that is being read: what is to be added to its times.
-- Grain: (run_id, file_name). Reads: runs (the one that is being loaded). Params: $file_name, $base_ns.
CREATE OR REPLACE TEMP TABLE trace_file AS
SELECT run_id, $file_name AS file_name, CAST($base_ns AS BIGINT) AS base_ns
FROM runs;
