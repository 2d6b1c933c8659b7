-- One row per function of a pair of processes, device and counter that may explain it: normal beside abnormal.
-- Grain: (pair_id, normal_hostname, normal_pid, hostname, pid, function_name, device, metric_name).
CREATE TABLE rca_comparison (
    run_id VARCHAR,
    normal_run_id VARCHAR,
    pair_id VARCHAR,
    hostname VARCHAR,
    pid BIGINT,
    normal_hostname VARCHAR,
    normal_pid BIGINT,
    pairing VARCHAR,
    function_name VARCHAR,
    simple_name VARCHAR,
    function_class VARCHAR,
    device VARCHAR,
    metric_name VARCHAR,
    matched_on VARCHAR,
    normal_cycles BIGINT,
    abnormal_cycles BIGINT,
    beta_normal_ms DOUBLE,
    beta_abnormal_ms DOUBLE,
    call_normal_us DOUBLE,
    call_abnormal_us DOUBLE,
    slowdown DOUBLE,
    effect_size DOUBLE,
    p_value DOUBLE,
    p_corrected DOUBLE,
    is_waiting BOOLEAN,
    normal_samples BIGINT,
    abnormal_samples BIGINT,
    mu_matched_normal_pct DOUBLE,
    mu_matched_abnormal_pct DOUBLE,
    mu_effect_size DOUBLE,
    mu_p_value DOUBLE,
    mu_p_corrected DOUBLE,
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
COMMENT ON TABLE rca_comparison IS 'One function beside one counter, normal against abnormal: like cycles with like, and the published statistics.';
COMMENT ON COLUMN rca_comparison.run_id IS 'abnormal run; key of runs';
COMMENT ON COLUMN rca_comparison.normal_run_id IS 'normal run, the same one where windows of it are compared; key of runs';
COMMENT ON COLUMN rca_comparison.pair_id IS 'name of the comparison: <normal run>|<abnormal run>, each with #baseline, #fault or #incident <n> where it is a part of a run';
COMMENT ON COLUMN rca_comparison.hostname IS 'host of the abnormal process; NULL where the source does not tell';
COMMENT ON COLUMN rca_comparison.pid IS 'abnormal process';
COMMENT ON COLUMN rca_comparison.normal_hostname IS 'host of the normal process; NULL where the source does not tell';
COMMENT ON COLUMN rca_comparison.normal_pid IS 'normal process';
COMMENT ON COLUMN rca_comparison.pairing IS 'strict: one process with itself; rank: processes of one rank; cross: any two';
COMMENT ON COLUMN rca_comparison.function_name IS 'function, kernel or kind of event, as in function_usage';
COMMENT ON COLUMN rca_comparison.simple_name IS 'the same without what differs from shape to shape';
COMMENT ON COLUMN rca_comparison.function_class IS 'class that decides which counters go with it, such as gpu_compute or oncpu';
COMMENT ON COLUMN rca_comparison.device IS 'Host, or GPU n';
COMMENT ON COLUMN rca_comparison.metric_name IS 'counter; NULL for a function that none goes with';
COMMENT ON COLUMN rca_comparison.matched_on IS 'what the cycles that are compared have in common, such as forward_mode and batch_size';
COMMENT ON COLUMN rca_comparison.normal_cycles IS 'matched normal cycles in which it ran';
COMMENT ON COLUMN rca_comparison.abnormal_cycles IS 'matched abnormal cycles in which it ran';
COMMENT ON COLUMN rca_comparison.beta_normal_ms IS 'time in it a matched normal cycle, mean, ms; cycles without it count 0';
COMMENT ON COLUMN rca_comparison.beta_abnormal_ms IS 'time in it a matched abnormal cycle, mean, ms; compares only where the cycles have one anchor';
COMMENT ON COLUMN rca_comparison.call_normal_us IS 'time of a call, or piece, median over matched normal cycles, us';
COMMENT ON COLUMN rca_comparison.call_abnormal_us IS 'time of a call, or piece, median over matched abnormal cycles, us';
COMMENT ON COLUMN rca_comparison.slowdown IS 'abnormal over normal time of a call: median of the ratios of all pairs of like cycles (Hodges-Lehmann, on the logarithm); NULL where it ran on one side only';
COMMENT ON COLUMN rca_comparison.effect_size IS 'Cliff''s delta of the time of a call, over pairs of like cycles: share where the abnormal is longer less share where it is shorter, -1 to 1';
COMMENT ON COLUMN rca_comparison.p_value IS 'two-sided p of that (Mann-Whitney), cycles as samples; NULL with fewer than two on a side';
COMMENT ON COLUMN rca_comparison.p_corrected IS 'the same, corrected over the functions of the comparison (Benjamini-Hochberg)';
COMMENT ON COLUMN rca_comparison.is_waiting IS 'whether it waits for others rather than works: its time tells of them, not of its device';
COMMENT ON COLUMN rca_comparison.normal_samples IS 'distinct samples of the counter in matched normal cycles; NULL without a counter, or where nothing tells';
COMMENT ON COLUMN rca_comparison.abnormal_samples IS 'distinct samples of the counter in matched abnormal cycles; NULL without a counter, or where nothing tells';
COMMENT ON COLUMN rca_comparison.mu_matched_normal_pct IS 'median of mu_pct over matched normal cycles';
COMMENT ON COLUMN rca_comparison.mu_matched_abnormal_pct IS 'median of mu_pct over matched abnormal cycles';
COMMENT ON COLUMN rca_comparison.mu_effect_size IS 'Cliff''s delta of mu_pct over pairs of like cycles, -1 to 1';
COMMENT ON COLUMN rca_comparison.mu_p_value IS 'two-sided p of that, with distinct samples, not cycles, as its n; NULL with fewer than two on a side';
COMMENT ON COLUMN rca_comparison.mu_p_corrected IS 'the same, corrected over the counters of the comparison (Benjamini-Hochberg)';
COMMENT ON COLUMN rca_comparison.suspicion_score IS 'published score: size of beta_difference_pct times the sizes of beta_z_score and log_mu_z_score together; NULL without a counter';
COMMENT ON COLUMN rca_comparison.beta_normal_pct IS 'mean beta_pct of all normal cycles that have it; 0 where it is absent there';
COMMENT ON COLUMN rca_comparison.beta_abnormal_pct IS 'mean beta_pct of all abnormal cycles that have it; 0 where it is absent there';
COMMENT ON COLUMN rca_comparison.beta_difference_pct IS 'abnormal less normal mean of beta_pct';
COMMENT ON COLUMN rca_comparison.beta_z_score IS 'that difference in standard deviations of the normal side';
COMMENT ON COLUMN rca_comparison.beta_welch_p IS 'p of Welch''s t-test on beta_pct; NULL where both sides are constant and equal';
COMMENT ON COLUMN rca_comparison.beta_u_test_p IS 'p of the two-sided Mann-Whitney test on beta_pct';
COMMENT ON COLUMN rca_comparison.mu_normal_pct IS 'mean mu_pct of all normal cycles that have it; 0 where it is absent there';
COMMENT ON COLUMN rca_comparison.mu_abnormal_pct IS 'mean mu_pct of all abnormal cycles that have it; 0 where it is absent there';
COMMENT ON COLUMN rca_comparison.mu_difference_pct IS 'abnormal less normal mean of mu_pct';
COMMENT ON COLUMN rca_comparison.mu_z_score IS 'that difference in standard deviations of the normal side';
COMMENT ON COLUMN rca_comparison.log_mu_z_score IS 'the same of the logarithm of 1 + mu_pct';
COMMENT ON COLUMN rca_comparison.mu_welch_p IS 'p of Welch''s t-test on mu_pct; NULL where both sides are constant and equal';
COMMENT ON COLUMN rca_comparison.mu_u_test_p IS 'p of the two-sided Mann-Whitney test on mu_pct';
