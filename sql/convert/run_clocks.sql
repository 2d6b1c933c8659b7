-- One row per run, the one that is being loaded: how far its recorders' clocks disagree, and whether one was set.
-- Grain: (run_id). Reads: runs, recorder_lines. Params: $reference_ns.
-- What recorder_clocks says of reference_ns holds here: a clock that was set is told apart from one that is read badly.
UPDATE runs SET
    clock_uncertainty_ns = c.uncertainty_ns,
    clock_step_ns = COALESCE(IF(ABS(c.ahead_ns) >= 100000000, c.ahead_ns, NULL), clock_step_ns)
FROM (
    WITH
    pairs AS (
        SELECT
            CAST(document -> '$.realtime_ns' AS BIGINT) - CAST(document -> '$.monotonic_ns' AS BIGINT) AS pair_ns
        FROM recorder_lines
        WHERE kind = 'clock' AND reason IS NULL
    ),

    held AS (
        SELECT pair_ns, pair_ns - COALESCE(CAST($reference_ns AS BIGINT), pair_ns) AS ahead_ns
        FROM pairs
    )

    SELECT
        MAX(pair_ns) FILTER (WHERE ABS(ahead_ns) < 100000000) - MIN(pair_ns) FILTER (WHERE ABS(ahead_ns) < 100000000)
            AS uncertainty_ns,
        ARG_MAX(ahead_ns, ABS(ahead_ns)) AS ahead_ns
    FROM held
) AS c;
