-- One row per engine and scenario: in how many runs the fault window had an alarm, with Wilson's 95 % interval.
-- Grain: (engine, scenario). Reads: v_injected_vs_diagnosed. Params: $campaign.
WITH
counted AS (
    SELECT
        engine,
        scenario,
        COUNT(*) AS runs,
        COUNT(lag_ms) AS found,
        SUM(incidents) AS incidents,
        MEDIAN(lag_batches) AS lag_batches,
        MEDIAN(lag_ms) AS lag_ms,
        MEDIAN(slowdown) AS slowdown,
        COUNT(*) FILTER (WHERE verdict = 'right') AS named_right
    FROM v_injected_vs_diagnosed
    WHERE campaign = $campaign AND status = 'complete' AND incidents IS NOT NULL
    GROUP BY engine, scenario
),

shares AS (
    SELECT
        *,
        found / runs AS share,
        1.959964 * SQRT((found / runs) * (1 - found / runs) / runs + 1.959964 ** 2 / (4 * runs ** 2)) AS half,
        1 + 1.959964 ** 2 / runs AS spread,
        found / runs + 1.959964 ** 2 / (2 * runs) AS middle
    FROM counted
)

SELECT
    engine,
    scenario,
    runs,
    found,
    share,
    (middle - half) / spread AS share_low,
    (middle + half) / spread AS share_high,
    CAST(incidents AS BIGINT) AS incidents,
    lag_batches,
    lag_ms,
    slowdown,
    named_right
FROM shares
ORDER BY engine, scenario;
