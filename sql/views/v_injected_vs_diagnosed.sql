-- One row per run: what was injected, when it was noticed, and what it was called.
-- Grain: (run_id). Reads: runs, batches, batch_scores, incidents, rca_diagnosis. Params: none.
-- The lag counts from fault_apply to the first alarm at or after it; an alarm that comes after fault_end is none.
-- Right is a proved fault's name on an incident that overlaps [fault_apply, fault_end], or none where none is injected.
-- The named cause is that of the incident with the largest excess, none for a run that was watched and had no
-- incident, and NULL, with a NULL verdict, for a complete run that nobody has diagnosed yet.
CREATE VIEW v_injected_vs_diagnosed AS
WITH
first_alarms AS (
    SELECT
        s.run_id,
        MIN_BY(s.batch_index, s.start_ns) AS batch_index,
        MIN_BY(s.start_ns + s.actual_ns, s.start_ns) - ANY_VALUE(r.fault_apply_ns) AS lag_ns
    FROM batch_scores AS s
    INNER JOIN runs AS r USING (run_id)
    WHERE s.alarm AND s.start_ns >= r.fault_apply_ns AND s.start_ns < r.fault_end_ns
    GROUP BY s.run_id
),

lags AS (
    SELECT a.run_id, COUNT(*) AS lag_batches, ANY_VALUE(a.lag_ns) / 1e6 AS lag_ms
    FROM first_alarms AS a
    INNER JOIN runs AS r USING (run_id)
    INNER JOIN batches AS b ON b.run_id = a.run_id
        AND b.start_ns >= r.fault_apply_ns
        AND b.batch_index <= a.batch_index
    GROUP BY a.run_id
),

slowdowns AS (
    SELECT
        run_id,
        MEDIAN(interval_ns) FILTER (WHERE run_window = 'fault')
        / MEDIAN(interval_ns) FILTER (WHERE run_window = 'baseline') AS slowdown
    FROM batches
    WHERE forward_mode = 'decode'
    GROUP BY run_id
),

largest AS (
    SELECT
        run_id,
        COUNT(*) AS incidents,
        ARG_MAX(incident_index, excess_ms) AS incident_index,
        ARG_MAX(start_ns, excess_ms) AS start_ns,
        ARG_MAX(end_ns, excess_ms) AS end_ns,
        BOOL_OR(slo_violated) AS slo_violated
    FROM incidents
    GROUP BY run_id
),

named AS (
    SELECT
        d.run_id,
        d.cause,
        d.score,
        d.evidence,
        COALESCE(i.incidents, 0) AS incidents,
        i.start_ns,
        i.end_ns,
        i.slo_violated
    FROM rca_diagnosis AS d
    LEFT JOIN largest AS i USING (run_id)
    WHERE d.rank = 1 AND d.incident_index IS NOT DISTINCT FROM i.incident_index
)

SELECT
    r.run_id,
    r.campaign,
    r.run_order,
    r.host,
    r.engine,
    r.scenario,
    r.repetition,
    r.workload,
    r.status,
    n.incidents,
    l.lag_batches,
    l.lag_ms,
    s.slowdown,
    n.cause AS named_cause,
    n.score,
    n.evidence,
    CASE
        WHEN r.status = 'failed' THEN 'failed'
        WHEN n.cause IS NULL THEN NULL
        WHEN r.anomaly IS NULL AND n.cause = 'none' THEN 'right'
        WHEN n.cause = r.anomaly
            AND r.effect_proved
            AND n.start_ns < r.fault_end_ns
            AND n.end_ns > r.fault_apply_ns THEN 'right'
        ELSE 'wrong'
    END AS verdict,
    r.effect_proved,
    r.effect_undone,
    n.slo_violated
FROM runs AS r
LEFT JOIN lags AS l USING (run_id)
LEFT JOIN slowdowns AS s USING (run_id)
LEFT JOIN named AS n USING (run_id)
ORDER BY r.campaign, r.run_order;
COMMENT ON VIEW v_injected_vs_diagnosed IS 'One run: what was injected beside what was diagnosed.';
COMMENT ON COLUMN v_injected_vs_diagnosed.run_id IS 'key of runs';
COMMENT ON COLUMN v_injected_vs_diagnosed.campaign IS 'campaign instance';
COMMENT ON COLUMN v_injected_vs_diagnosed.run_order IS 'place in the campaign, from 1';
COMMENT ON COLUMN v_injected_vs_diagnosed.host IS 'host name in the spec';
COMMENT ON COLUMN v_injected_vs_diagnosed.engine IS 'engine kind';
COMMENT ON COLUMN v_injected_vs_diagnosed.scenario IS 'what was injected: normal, sham, or the anomaly';
COMMENT ON COLUMN v_injected_vs_diagnosed.repetition IS 'repetition of the cell, from 1';
COMMENT ON COLUMN v_injected_vs_diagnosed.workload IS 'in{input_length}_out{output_length}_conc{concurrency}';
COMMENT ON COLUMN v_injected_vs_diagnosed.status IS 'complete or failed';
COMMENT ON COLUMN v_injected_vs_diagnosed.incidents IS 'incidents of the run; NULL when it was not diagnosed';
COMMENT ON COLUMN v_injected_vs_diagnosed.lag_batches IS 'batches from the onset up to and including the first alarm; NULL without one before the fault window ends';
COMMENT ON COLUMN v_injected_vs_diagnosed.lag_ms IS 'onset to the end of the first alarming batch, ms; NULL without one before the fault window ends';
COMMENT ON COLUMN v_injected_vs_diagnosed.slowdown IS 'median start-to-start time of decode batches, fault window over baseline window';
COMMENT ON COLUMN v_injected_vs_diagnosed.named_cause IS 'first cause of the incident with the largest excess; none for a watched run without incident';
COMMENT ON COLUMN v_injected_vs_diagnosed.score IS 'score of the named cause, 0 to 1';
COMMENT ON COLUMN v_injected_vs_diagnosed.evidence IS 'why, in words with numbers';
COMMENT ON COLUMN v_injected_vs_diagnosed.verdict IS 'right when the named cause is the injected one, its incident overlaps the fault and its effect was proved, wrong otherwise, failed for a failed run; NULL when it was not diagnosed';
COMMENT ON COLUMN v_injected_vs_diagnosed.effect_proved IS 'whether the fault was seen to act; NULL where none is injected';
COMMENT ON COLUMN v_injected_vs_diagnosed.effect_undone IS 'whether the undo was seen to act; NULL where none is injected';
COMMENT ON COLUMN v_injected_vs_diagnosed.slo_violated IS 'whether an incident broke the objective for the time per output token; NULL where none is set';
