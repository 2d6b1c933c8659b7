-- One row per evaluation of a model's limit on runs of one scenario and strength.
-- Grain: (model_id, evaluation, strategy, scenario, strength).
CREATE TABLE detection_metrics (
    model_id VARCHAR,
    campaign VARCHAR,
    evaluation VARCHAR,
    strategy VARCHAR,
    scenario VARCHAR,
    strength JSON,
    runs BIGINT,
    hours DOUBLE,
    false_incidents BIGINT,
    false_incidents_an_hour DOUBLE,
    false_incidents_an_hour_low DOUBLE,
    false_incidents_an_hour_high DOUBLE,
    slowdown DOUBLE,
    mean_slowdown DOUBLE,
    detection_ratio DOUBLE,
    detection_low_ratio DOUBLE,
    detection_high_ratio DOUBLE,
    lag_batches DOUBLE,
    lag_ms DOUBLE,
    f1_ratio DOUBLE,
    f1_low_ratio DOUBLE,
    f1_high_ratio DOUBLE,
    f1_of_ten_ratio DOUBLE,
    f1_of_ten_low_ratio DOUBLE,
    f1_of_ten_high_ratio DOUBLE,
    false_alarm_ratio DOUBLE,
    slo_violations BIGINT,
    slo_foreseen_ratio DOUBLE,
    slo_lead_ms DOUBLE
);
COMMENT ON TABLE detection_metrics IS 'How well one limit of a model tells faults from normal work.';
COMMENT ON COLUMN detection_metrics.model_id IS 'champion that was tested; its leave-out models judge what it was trained on';
COMMENT ON COLUMN detection_metrics.campaign IS 'campaign of the model';
COMMENT ON COLUMN detection_metrics.evaluation IS 'runs: every run, in order; published_protocol: 20 draws of 1000 normal and 200 abnormal batches; live: the campaigns of an evaluation';
COMMENT ON COLUMN detection_metrics.strategy IS 'key of control_limits, with model_id';
COMMENT ON COLUMN detection_metrics.scenario IS 'normal, sham, workload_shift (more load, nothing injected), or the anomaly that was injected';
COMMENT ON COLUMN detection_metrics.strength IS 'parameters of the anomaly; NULL when nothing was injected';
COMMENT ON COLUMN detection_metrics.runs IS 'runs that were judged, each by a model that never saw it';
COMMENT ON COLUMN detection_metrics.hours IS 'time that these runs were watched, hours';
COMMENT ON COLUMN detection_metrics.false_incidents IS 'incidents in runs in which nothing was injected; NULL for an anomaly';
COMMENT ON COLUMN detection_metrics.false_incidents_an_hour IS 'false_incidents over hours; NULL for an anomaly';
COMMENT ON COLUMN detection_metrics.false_incidents_an_hour_low IS 'begin of its exact 95 percent interval; NULL for an anomaly';
COMMENT ON COLUMN detection_metrics.false_incidents_an_hour_high IS 'end of its exact 95 percent interval; NULL for an anomaly';
COMMENT ON COLUMN detection_metrics.slowdown IS 'median actual over expected time in the fault window; NULL where nothing was injected';
COMMENT ON COLUMN detection_metrics.mean_slowdown IS 'the same of the sums of both times: a quota halts one batch of many for long, and leaves the median';
COMMENT ON COLUMN detection_metrics.detection_ratio IS 'share of runs with an alarm that counts between onset and end of the fault; NULL where nothing was injected';
COMMENT ON COLUMN detection_metrics.detection_low_ratio IS 'begin of its 95 percent interval, runs resampled';
COMMENT ON COLUMN detection_metrics.detection_high_ratio IS 'end of its 95 percent interval, runs resampled';
COMMENT ON COLUMN detection_metrics.lag_batches IS 'median batches from the onset up to and including the first alarm, over runs that were found';
COMMENT ON COLUMN detection_metrics.lag_ms IS 'median time from the onset to the end of the first alarming batch, ms, over runs that were found';
COMMENT ON COLUMN detection_metrics.f1_ratio IS 'F1 of alarms by batch: fault window against baseline and recovery';
COMMENT ON COLUMN detection_metrics.f1_low_ratio IS 'begin of its 95 percent interval, runs resampled';
COMMENT ON COLUMN detection_metrics.f1_high_ratio IS 'end of its 95 percent interval, runs resampled';
COMMENT ON COLUMN detection_metrics.f1_of_ten_ratio IS 'the same F1 by windows of ten batches in a row, which alarm where any batch does';
COMMENT ON COLUMN detection_metrics.f1_of_ten_low_ratio IS 'begin of its 95 percent interval, runs resampled';
COMMENT ON COLUMN detection_metrics.f1_of_ten_high_ratio IS 'end of its 95 percent interval, runs resampled';
COMMENT ON COLUMN detection_metrics.false_alarm_ratio IS 'share of batches outside of the fault window that alarm';
COMMENT ON COLUMN detection_metrics.slo_violations IS 'times that the mean time per output token of ten batches came to lie above the objective; NULL without one';
COMMENT ON COLUMN detection_metrics.slo_foreseen_ratio IS 'share of them with an alarm before the tenth of these batches, or in the ten before; NULL without any';
COMMENT ON COLUMN detection_metrics.slo_lead_ms IS 'median time from that alarm to the end of the tenth batch, ms';
