-- One row per line of a comparison whose score is not the product that it is said to be, or with a p beyond 0 to 1.
-- Grain: (run_id, function_name, metric_name, device). Reads: published_comparison. Params: none.
-- The parts are published with four digits after the point.
SELECT
    run_id, comparison_rank, function_name, metric_name, device, suspicion_score,
    beta_difference_pct, beta_z_score, log_mu_z_score
FROM published_comparison
WHERE ABS(suspicion_score - ABS(beta_difference_pct) * (ABS(beta_z_score) + ABS(log_mu_z_score)))
    > 0.001 * GREATEST(1, suspicion_score)
   OR LEAST(beta_welch_p, beta_u_test_p, mu_welch_p, mu_u_test_p) < 0
   OR GREATEST(beta_welch_p, beta_u_test_p, mu_welch_p, mu_u_test_p) > 1;
