-- One row per function, counter and device of a comparison that others published.
-- Grain: (run_id, function_name, metric_name, device).
CREATE TABLE published_comparison (
    run_id VARCHAR,
    comparison_rank BIGINT,
    pairing VARCHAR,
    normal_pid BIGINT,
    abnormal_pid BIGINT,
    function_name VARCHAR,
    metric_name VARCHAR,
    device VARCHAR,
    suspicion_score DOUBLE,
    beta_normal_pct DOUBLE,
    beta_abnormal_pct DOUBLE,
    beta_difference_pct DOUBLE,
    beta_z_score DOUBLE,
    beta_welch_p DOUBLE,
    beta_u_test_p DOUBLE,
    mu_normal_pct DOUBLE,
    mu_abnormal_pct DOUBLE,
    mu_difference_pct DOUBLE,
    mu_z_score DOUBLE,
    log_mu_z_score DOUBLE,
    mu_welch_p DOUBLE,
    mu_u_test_p DOUBLE
);
COMMENT ON TABLE published_comparison IS 'One line of a published comparison of a normal with an abnormal run, kept to check our own against.';
COMMENT ON COLUMN published_comparison.run_id IS 'run it belongs to, which is the comparison itself; key of runs';
COMMENT ON COLUMN published_comparison.comparison_rank IS 'place in the file, from 1: by score, ties in no stated order';
COMMENT ON COLUMN published_comparison.pairing IS 'strict: one process with itself; cross: two processes; NULL where neither header nor file name tells';
COMMENT ON COLUMN published_comparison.normal_pid IS 'process of the normal run; NULL where neither header nor file name tells';
COMMENT ON COLUMN published_comparison.abnormal_pid IS 'process of the abnormal run; NULL where neither header nor file name tells';
COMMENT ON COLUMN published_comparison.function_name IS 'function, kernel or kind of event, as in function_usage';
COMMENT ON COLUMN published_comparison.metric_name IS 'counter';
COMMENT ON COLUMN published_comparison.device IS 'Host, or GPU n';
COMMENT ON COLUMN published_comparison.suspicion_score IS 'size of beta_difference_pct times the sizes of beta_z_score and log_mu_z_score together';
COMMENT ON COLUMN published_comparison.beta_normal_pct IS 'mean beta_pct of the normal run; 0 where it is absent there';
COMMENT ON COLUMN published_comparison.beta_abnormal_pct IS 'mean beta_pct of the abnormal run; 0 where it is absent there';
COMMENT ON COLUMN published_comparison.beta_difference_pct IS 'abnormal less normal mean of beta_pct';
COMMENT ON COLUMN published_comparison.beta_z_score IS 'that difference in standard deviations of the normal run';
COMMENT ON COLUMN published_comparison.beta_welch_p IS 'p of Welch''s t-test on beta_pct; NULL where both sides are constant and equal';
COMMENT ON COLUMN published_comparison.beta_u_test_p IS 'p of the two-sided Mann-Whitney test on beta_pct';
COMMENT ON COLUMN published_comparison.mu_normal_pct IS 'mean mu_pct of the normal run; 0 where it is absent there';
COMMENT ON COLUMN published_comparison.mu_abnormal_pct IS 'mean mu_pct of the abnormal run; 0 where it is absent there';
COMMENT ON COLUMN published_comparison.mu_difference_pct IS 'abnormal less normal mean of mu_pct';
COMMENT ON COLUMN published_comparison.mu_z_score IS 'that difference in standard deviations of the normal run';
COMMENT ON COLUMN published_comparison.log_mu_z_score IS 'the same of the logarithm of 1 + mu_pct';
COMMENT ON COLUMN published_comparison.mu_welch_p IS 'p of Welch''s t-test on mu_pct; NULL where both sides are constant and equal';
COMMENT ON COLUMN published_comparison.mu_u_test_p IS 'p of the two-sided Mann-Whitney test on mu_pct';
