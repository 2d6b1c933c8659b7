-- One row per row of a published comparison, kept or rejected with a reason; the kept ones go to published_comparison.
-- Grain: (run_id, function_name, metric_name, device).
-- Reads: published_lines, runs (the one that is being loaded). Params: none.
-- A blank p-value is what the published program could not compute.
CREATE OR REPLACE TEMP TABLE published_rows AS
WITH
doubtful AS (
    SELECT
        *,
        LIST_FILTER(
            [
                {name: 'suspicion_score', text: suspicion_score},
                {name: 'beta_normal', text: beta_normal},
                {name: 'beta_abnormal', text: beta_abnormal},
                {name: 'd_beta', text: d_beta},
                {name: 'z_score_beta', text: z_score_beta},
                {name: 'p_value_beta', text: COALESCE(NULLIF(p_value_beta, ''), '0')},
                {name: 'u_test_p_beta', text: COALESCE(NULLIF(u_test_p_beta, ''), '0')},
                {name: 'mu_normal', text: mu_normal},
                {name: 'mu_abnormal', text: mu_abnormal},
                {name: 'd_mu', text: d_mu},
                {name: 'z_score_mu', text: z_score_mu},
                {name: 'z_score_log_mu', text: z_score_log_mu},
                {name: 'p_value_mu', text: COALESCE(NULLIF(p_value_mu, ''), '0')},
                {name: 'u_test_p_mu', text: COALESCE(NULLIF(u_test_p_mu, ''), '0')}
            ],
            LAMBDA field: NOT COALESCE(
                REGEXP_FULL_MATCH(field.text, '-?[0-9]+([.][0-9]+)?([eE][+-]?[0-9]+)?')
                AND ISFINITE(TRY_CAST(field.text AS DOUBLE)),
                FALSE
            )
        )[1].name AS no_number
    FROM published_lines
)

SELECT
    file_name,
    line_number,
    raw_text,
    CASE
        WHEN problem IS NOT NULL THEN problem
        WHEN no_number IS NOT NULL THEN CONCAT(no_number, ' is no number')
        WHEN function_name = '' THEN 'function_name is empty'
    END AS reason,
    line_number - 1 AS comparison_rank,
    CASE WHEN normal_pid = abnormal_pid THEN 'strict' WHEN normal_pid <> abnormal_pid THEN 'cross' END AS pairing,
    TRY_CAST(normal_pid AS BIGINT) AS normal_pid,
    TRY_CAST(abnormal_pid AS BIGINT) AS abnormal_pid,
    function_name,
    metric_name,
    device,
    TRY_CAST(suspicion_score AS DOUBLE) AS suspicion_score,
    TRY_CAST(beta_normal AS DOUBLE) AS beta_normal_pct,
    TRY_CAST(beta_abnormal AS DOUBLE) AS beta_abnormal_pct,
    TRY_CAST(d_beta AS DOUBLE) AS beta_difference_pct,
    TRY_CAST(z_score_beta AS DOUBLE) AS beta_z_score,
    TRY_CAST(NULLIF(p_value_beta, '') AS DOUBLE) AS beta_welch_p,
    TRY_CAST(NULLIF(u_test_p_beta, '') AS DOUBLE) AS beta_u_test_p,
    TRY_CAST(mu_normal AS DOUBLE) AS mu_normal_pct,
    TRY_CAST(mu_abnormal AS DOUBLE) AS mu_abnormal_pct,
    TRY_CAST(d_mu AS DOUBLE) AS mu_difference_pct,
    TRY_CAST(z_score_mu AS DOUBLE) AS mu_z_score,
    TRY_CAST(z_score_log_mu AS DOUBLE) AS log_mu_z_score,
    TRY_CAST(NULLIF(p_value_mu, '') AS DOUBLE) AS mu_welch_p,
    TRY_CAST(NULLIF(u_test_p_mu, '') AS DOUBLE) AS mu_u_test_p
FROM doubtful;

INSERT INTO published_comparison BY NAME
SELECT r.run_id, p.* EXCLUDE (file_name, line_number, raw_text, reason)
FROM published_rows AS p
CROSS JOIN runs AS r
WHERE p.reason IS NULL
ORDER BY p.comparison_rank;
