-- One row per trace, the one that has been read: the steps that it tells, and where its last event ends.
-- Grain: (steps). Reads: batches, the files written. Params: $paths.
SELECT
    (SELECT COUNT(*) FROM batches WHERE forward_mode IS DISTINCT FROM 'idle') AS steps,
    MAX(start_ns + duration_ns) AS last_ns
FROM READ_PARQUET($paths)
WHERE phase = 'X';
