-- One row per run, the one that is being loaded: how far its recorders' clocks disagree.
-- Grain: (run_id). Reads: runs, recorder_lines. Params: none.
UPDATE runs SET clock_uncertainty_ns = (
    WITH
    clocks AS (
        SELECT
            CAST(document -> '$.realtime_ns' AS BIGINT) - CAST(document -> '$.monotonic_ns' AS BIGINT) AS offset_ns
        FROM recorder_lines
        WHERE kind = 'clock' AND reason IS NULL
    )

    SELECT MAX(offset_ns) - MIN(offset_ns) FROM clocks
);
