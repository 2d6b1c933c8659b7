-- One row per run of ours: where its time went, how long its host waited on us, and what recording cost.
-- Grain: (run_id). Reads: runs, phases, counters, captures. Params: none.
-- A host waits on us whenever it neither serves, nor starts a server or a client, nor proves a fault: while we
-- connect, look around, stop what recorded, fetch and compare, and between two runs of one visit.
CREATE VIEW v_overhead AS
WITH
spent AS (
    SELECT
        run_id,
        ANY_VALUE(host_session) AS host_session,
        MIN(start_ns) AS start_ns,
        MAX(start_ns + duration_ns) AS end_ns,
        COUNT(*) AS phases,
        SUM(duration_ns) FILTER (WHERE phase IN ('connect', 'check the host')) AS connect_ns,
        SUM(duration_ns) FILTER (WHERE phase = 'start the server') AS server_start_ns,
        SUM(duration_ns) FILTER (WHERE phase = 'load') AS load_ns,
        SUM(duration_ns) FILTER (WHERE phase = 'warm up') AS warmup_ns,
        SUM(duration_ns) FILTER (WHERE phase IN ('baseline window', 'fault window', 'recovery window')) AS windows_ns,
        SUM(duration_ns) FILTER (WHERE phase IN ('inject', 'undo') OR phase LIKE 'measure the effect%') AS fault_ns,
        SUM(duration_ns) FILTER (WHERE phase = 'stop load and recorders') AS stop_ns,
        SUM(duration_ns) FILTER (WHERE phase IN ('fetch', 'compare recovery with baseline')) AS fetch_ns
    FROM phases
    GROUP BY run_id
),

placed AS (
    SELECT
        r.campaign,
        r.run_order,
        r.host,
        r.engine,
        r.scenario,
        r.mode,
        r.status,
        s.*,
        CASE WHEN LAG(s.end_ns) OVER visit <= s.start_ns THEN s.start_ns - LAG(s.end_ns) OVER visit END AS between_ns
    FROM spent AS s
    INNER JOIN runs AS r USING (run_id)
    WINDOW visit AS (PARTITION BY r.campaign, r.host, s.host_session ORDER BY s.start_ns)
),

sampled AS (
    SELECT run_id, AVG(value) AS sampler_cpu_pct
    FROM counters
    WHERE counter_name = 'sampler_cpu_usage'
    GROUP BY run_id
),

captured AS (
    SELECT run_id, SUM(stalled_ns) / 1e9 AS capture_stalled_s
    FROM captures
    GROUP BY run_id
)

SELECT
    p.campaign,
    p.run_order,
    p.run_id,
    p.host,
    p.engine,
    p.scenario,
    p.mode,
    p.status,
    p.phases,
    (p.end_ns - p.start_ns + COALESCE(p.between_ns, 0)) / 1e9 AS total_s,
    p.connect_ns / 1e9 AS connect_s,
    p.server_start_ns / 1e9 AS server_start_s,
    p.load_ns / 1e9 AS load_s,
    p.warmup_ns / 1e9 AS warmup_s,
    p.windows_ns / 1e9 AS windows_s,
    p.fault_ns / 1e9 AS fault_s,
    p.stop_ns / 1e9 AS stop_s,
    p.fetch_ns / 1e9 AS fetch_s,
    p.between_ns / 1e9 AS between_s,
    (
        COALESCE(p.connect_ns, 0) + COALESCE(p.stop_ns, 0) + COALESCE(p.fetch_ns, 0) + COALESCE(p.between_ns, 0)
    ) / 1e9 AS waited_s,
    c.sampler_cpu_pct,
    d.capture_stalled_s
FROM placed AS p
LEFT JOIN sampled AS c USING (run_id)
LEFT JOIN captured AS d USING (run_id)
ORDER BY p.campaign, p.run_order;
COMMENT ON VIEW v_overhead IS 'Where a run''s time went, how long its host waited on us, and what recording cost.';
COMMENT ON COLUMN v_overhead.campaign IS 'campaign instance';
COMMENT ON COLUMN v_overhead.run_order IS 'place in the campaign, from 1';
COMMENT ON COLUMN v_overhead.run_id IS 'key of runs';
COMMENT ON COLUMN v_overhead.host IS 'host name in the spec';
COMMENT ON COLUMN v_overhead.engine IS 'engine kind';
COMMENT ON COLUMN v_overhead.scenario IS 'normal, sham, or the anomaly that was injected';
COMMENT ON COLUMN v_overhead.mode IS 'sentinel or deepdive';
COMMENT ON COLUMN v_overhead.status IS 'complete or failed';
COMMENT ON COLUMN v_overhead.phases IS 'rows of phases';
COMMENT ON COLUMN v_overhead.total_s IS 'from the end of the run before it, or from its first phase, to the end of its last, s';
COMMENT ON COLUMN v_overhead.connect_s IS 'connecting to the host, waiting until it is free, checking it, s; NULL when an earlier run''s connection stood';
COMMENT ON COLUMN v_overhead.server_start_s IS 'starting the server, s; NULL when an earlier run''s was used';
COMMENT ON COLUMN v_overhead.load_s IS 'from the start of the load client to the first batches, s';
COMMENT ON COLUMN v_overhead.warmup_s IS 'load without a record, s';
COMMENT ON COLUMN v_overhead.windows_s IS 'baseline, fault and recovery windows, deep captures included, s';
COMMENT ON COLUMN v_overhead.fault_s IS 'measuring the effect, applying and undoing the fault, s; NULL where none is injected';
COMMENT ON COLUMN v_overhead.stop_s IS 'ending load and recorders, s';
COMMENT ON COLUMN v_overhead.fetch_s IS 'fetching and checking the records, comparing recovery with baseline, s';
COMMENT ON COLUMN v_overhead.between_s IS 'from the end of the run before it on the same connection, s; NULL for the first one there';
COMMENT ON COLUMN v_overhead.waited_s IS 'host''s wait on us: connect_s, stop_s, fetch_s and between_s together';
COMMENT ON COLUMN v_overhead.sampler_cpu_pct IS 'CPU time of the sampler, % of one core; NULL where none was recorded';
COMMENT ON COLUMN v_overhead.capture_stalled_s IS 'time in which the server stood still to write deep captures, s; NULL without any';
