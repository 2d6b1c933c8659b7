-- One row per process of one trace that has cycles.
-- Grain: (process). Reads: spans. Params: $file_number.
SELECT DISTINCT process FROM spans WHERE file_number = $file_number;
