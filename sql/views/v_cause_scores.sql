-- One row per evaluation, way of asking, engine, and what was injected how strongly: how often that was named.
-- Grain: (evaluation, judge, counters, asked, engine, injected, strength). Reads: rca_evaluation. Params: none.
-- The rows without `injected` are of all runs with an anomaly, and those with 'nothing' of all without.
CREATE VIEW v_cause_scores AS
WITH
cases AS (
    SELECT *, right_rank AS place, injected IN ('normal', 'sham', 'workload_shift') AS is_harmless
    FROM rca_evaluation
),

grouped AS (
    SELECT
        evaluation,
        judge,
        counters,
        asked,
        engine,
        injected,
        CAST(strength AS VARCHAR) AS strength,
        is_harmless,
        GROUPING(injected) = 1 AS is_total,
        COUNT(*) AS runs,
        COUNT(*) FILTER (WHERE effect_proved IS NOT DISTINCT FROM FALSE) AS runs_not_proved,
        COUNT(*) FILTER (WHERE is_missed) AS runs_missed,
        AVG(CAST(COALESCE(place <= 1, FALSE) AS DOUBLE)) AS ac_1_ratio,
        AVG(CAST(COALESCE(place <= 2, FALSE) AS DOUBLE)) AS ac_2_ratio,
        AVG(CAST(COALESCE(place <= 3, FALSE) AS DOUBLE)) AS ac_3_ratio,
        AVG(CAST(COALESCE(place <= 4, FALSE) AS DOUBLE)) AS ac_4_ratio,
        AVG(CAST(COALESCE(place <= 5, FALSE) AS DOUBLE)) AS ac_5_ratio
    FROM cases
    GROUP BY GROUPING SETS (
        (evaluation, judge, counters, asked, engine, is_harmless, injected, strength),
        (evaluation, judge, counters, asked, engine, is_harmless)
    )
)

SELECT
    evaluation,
    judge,
    counters,
    asked,
    engine,
    CASE WHEN is_total AND is_harmless THEN 'nothing' WHEN is_total THEN 'any anomaly' ELSE injected END AS injected,
    strength,
    runs,
    runs_not_proved,
    runs_missed,
    ac_1_ratio,
    ac_2_ratio,
    ac_3_ratio,
    ac_4_ratio,
    ac_5_ratio,
    (ac_1_ratio + ac_2_ratio + ac_3_ratio + ac_4_ratio + ac_5_ratio) / 5 AS avg_5_ratio
FROM grouped
ORDER BY evaluation, engine, judge, counters, asked, is_harmless, is_total DESC, injected, strength;
COMMENT ON VIEW v_cause_scores IS 'How often the injected cause was among the first named, of one anomaly at one strength and over all.';
COMMENT ON COLUMN v_cause_scores.evaluation IS 'name of the evaluation';
COMMENT ON COLUMN v_cause_scores.judge IS 'signatures, or rules: the trivial baseline';
COMMENT ON COLUMN v_cause_scores.counters IS 'all, or masked: without those that read what the injector sets';
COMMENT ON COLUMN v_cause_scores.asked IS 'incident: what detection found; window: the time of the fault, as if it had been found';
COMMENT ON COLUMN v_cause_scores.engine IS 'engine kind';
COMMENT ON COLUMN v_cause_scores.injected IS 'anomaly, normal, sham or workload_shift; any anomaly; nothing: all of the last three';
COMMENT ON COLUMN v_cause_scores.strength IS 'parameters of the anomaly; NULL over all, and where nothing is injected';
COMMENT ON COLUMN v_cause_scores.runs IS 'runs, those whose fault was not proved among them';
COMMENT ON COLUMN v_cause_scores.runs_not_proved IS 'runs whose fault was not seen to act';
COMMENT ON COLUMN v_cause_scores.runs_missed IS 'runs whose fault has no incident: nothing can be right';
COMMENT ON COLUMN v_cause_scores.ac_1_ratio IS 'share of runs whose cause was named first (AC@1)';
COMMENT ON COLUMN v_cause_scores.ac_2_ratio IS 'share of runs whose cause was among the first 2';
COMMENT ON COLUMN v_cause_scores.ac_3_ratio IS 'share of runs whose cause was among the first 3';
COMMENT ON COLUMN v_cause_scores.ac_4_ratio IS 'share of runs whose cause was among the first 4';
COMMENT ON COLUMN v_cause_scores.ac_5_ratio IS 'share of runs whose cause was among the first 5';
COMMENT ON COLUMN v_cause_scores.avg_5_ratio IS 'mean of these five (Avg@5)';
