-- One row per run whose cause was asked for again, and way of asking.
-- Grain: (run_id, evaluation, judge, counters, asked).
CREATE TABLE rca_evaluation (
    run_id VARCHAR,
    evaluation VARCHAR,
    judge VARCHAR,
    counters VARCHAR,
    asked VARCHAR,
    engine VARCHAR,
    injected VARCHAR,
    strength JSON,
    effect_proved BOOLEAN,
    is_missed BOOLEAN,
    named_cause VARCHAR,
    score DOUBLE,
    right_rank BIGINT
);
COMMENT ON TABLE rca_evaluation IS 'One run of which it is known what was injected, and at which place that was named.';
COMMENT ON COLUMN rca_evaluation.run_id IS 'run it is about; key of runs';
COMMENT ON COLUMN rca_evaluation.evaluation IS 'name of the evaluation: the campaigns that it is made of';
COMMENT ON COLUMN rca_evaluation.judge IS 'signatures, or rules: the trivial baseline';
COMMENT ON COLUMN rca_evaluation.counters IS 'all, or masked: without those that read what the injector sets';
COMMENT ON COLUMN rca_evaluation.asked IS 'incident: what detection found, whatever it is; window: the time of the fault, as if it had been found';
COMMENT ON COLUMN rca_evaluation.engine IS 'engine kind';
COMMENT ON COLUMN rca_evaluation.injected IS 'anomaly; normal or sham where nothing is injected, workload_shift where more work came';
COMMENT ON COLUMN rca_evaluation.strength IS 'parameters of the anomaly; NULL where nothing is injected';
COMMENT ON COLUMN rca_evaluation.effect_proved IS 'whether the fault was seen to act; NULL where none is injected';
COMMENT ON COLUMN rca_evaluation.is_missed IS 'whether a fault has no incident, or its largest one lies elsewhere: then nothing is right';
COMMENT ON COLUMN rca_evaluation.named_cause IS 'what was named first';
COMMENT ON COLUMN rca_evaluation.score IS 'score of what was named first';
COMMENT ON COLUMN rca_evaluation.right_rank IS 'place of a right answer, from 1: the anomaly; none; or for a workload_shift none or workload_change. NULL when it is not there, when the fault was missed, and when its effect was not proved';
