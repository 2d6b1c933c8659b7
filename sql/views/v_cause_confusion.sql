-- One row per evaluation, way of asking, engine, what was injected and what was named first.
-- Grain: (evaluation, judge, counters, asked, engine, injected, named_cause). Reads: rca_evaluation. Params: none.
CREATE VIEW v_cause_confusion AS
SELECT
    evaluation,
    judge,
    counters,
    asked,
    engine,
    injected,
    named_cause,
    COUNT(*) AS runs
FROM rca_evaluation
GROUP BY ALL
ORDER BY evaluation, engine, judge, counters, asked, injected, runs DESC, named_cause;
COMMENT ON VIEW v_cause_confusion IS 'How often what was injected was called what.';
COMMENT ON COLUMN v_cause_confusion.evaluation IS 'name of the evaluation';
COMMENT ON COLUMN v_cause_confusion.judge IS 'signatures, or rules: the trivial baseline';
COMMENT ON COLUMN v_cause_confusion.counters IS 'all, or masked: without those that read what the injector sets';
COMMENT ON COLUMN v_cause_confusion.asked IS 'incident: what detection found; window: the time of the fault, as if it had been found';
COMMENT ON COLUMN v_cause_confusion.engine IS 'engine kind';
COMMENT ON COLUMN v_cause_confusion.injected IS 'anomaly, normal, sham or workload_shift';
COMMENT ON COLUMN v_cause_confusion.named_cause IS 'what was named first';
COMMENT ON COLUMN v_cause_confusion.runs IS 'runs';
