-- One row per expectation on the campaign's rows, what failed first.
-- Grain: (suite, expectation, subject). Reads: validation_results. Params: $campaign.
SELECT success, suite, expectation, subject, policy, observed, expected, offending, total
FROM validation_results
WHERE campaign = $campaign
ORDER BY success, suite, expectation, subject;
