-- One row per run and metric: what its server took where nothing was injected.
-- Grain: (run_id, metric). Reads: batches, requests, runs. Params: $campaign.
-- That is the baseline window, of runs with a fault too; recordings without windows count as a whole.
WITH
steps AS (
    SELECT
        b.run_id,
        COUNT(*) AS samples,
        QUANTILE_CONT(b.interval_ns, [0.5, 0.95, 0.99]) AS quantiles_ns
    FROM batches AS b
    INNER JOIN runs AS r USING (run_id)
    WHERE r.campaign = $campaign
        AND b.forward_mode = 'decode'
        AND b.interval_ns > 0
        AND (b.run_window = 'baseline' OR r.baseline_start_ns IS NULL)
    GROUP BY b.run_id
),

answers AS (
    SELECT
        q.run_id,
        COUNT(q.ttft_ms) AS samples,
        MEDIAN(q.ttft_ms) AS ttft_ms,
        MEDIAN(q.itl_avg_ms) AS tpot_ms
    FROM requests AS q
    INNER JOIN runs AS r USING (run_id)
    WHERE r.campaign = $campaign
        AND q.ttft_ms > 0
        AND (q.start_ns BETWEEN r.baseline_start_ns AND r.baseline_end_ns OR r.baseline_start_ns IS NULL)
    GROUP BY q.run_id
),

measured AS (
    SELECT run_id, 'decode step p50' AS metric, samples, quantiles_ns[1] / 1e6 AS value_ms FROM steps
    UNION ALL
    SELECT run_id, 'decode step p95', samples, quantiles_ns[2] / 1e6 FROM steps
    UNION ALL
    SELECT run_id, 'decode step p99', samples, quantiles_ns[3] / 1e6 FROM steps
    UNION ALL
    SELECT run_id, 'time to first token p50', samples, ttft_ms FROM answers
    UNION ALL
    SELECT run_id, 'time per output token p50', samples, tpot_ms FROM answers
)

SELECT
    COALESCE(r.host, '') AS host,
    COALESCE(r.engine, '') AS engine,
    COALESCE(r.model, '') AS model,
    COALESCE(r.workload, '') AS workload,
    COALESCE(r.mode, '') AS mode,
    COALESCE(r.engine_version, '') AS engine_version,
    r.run_id,
    m.metric,
    m.samples,
    m.value_ms
FROM measured AS m
INNER JOIN runs AS r USING (run_id)
WHERE r.status = 'complete' AND m.value_ms > 0
ORDER BY host, engine, model, workload, mode, m.metric, r.run_id;
