-- One row per trace, the one asked for: whether it has GPU work, and calls of a communication library.
-- Grain: (file_number). Reads: functions. Params: $file_number.
SELECT
    file_number,
    COALESCE(BOOL_OR(kind = 'gpu'), FALSE) AS has_gpu,
    COALESCE(BOOL_OR(name ILIKE '%nccl%'), FALSE) AS has_collectives
FROM functions
WHERE file_number = $file_number
GROUP BY file_number;
