-- One row per line of a recorder during whose time the host's clock was set, with the offset that the run goes by.
-- Grain: (file_name, line_number). Reads: recorder_lines. Params: $reference_ns.
-- reference_ns is the realtime less the monotonic clock when the recording began. A pair of clocks that is 100 ms off
-- it was taken after the clock was set: the file then goes by its other pairs, by the reference where it has none.
UPDATE recorder_lines SET offset_ns = c.offset_ns
FROM (
    WITH
    pairs AS (
        SELECT
            file_name,
            CAST(document -> '$.realtime_ns' AS BIGINT) - CAST(document -> '$.monotonic_ns' AS BIGINT) AS pair_ns
        FROM recorder_lines
        WHERE kind = 'clock' AND reason IS NULL
    )

    SELECT
        file_name,
        COALESCE(
            QUANTILE_DISC(pair_ns, 0.5) FILTER (WHERE ABS(pair_ns - CAST($reference_ns AS BIGINT)) < 100000000),
            CAST($reference_ns AS BIGINT)
        ) AS offset_ns
    FROM pairs
    GROUP BY file_name
    HAVING MAX(ABS(pair_ns - CAST($reference_ns AS BIGINT))) >= 100000000
) AS c
WHERE recorder_lines.file_name = c.file_name;
