-- One row per run that breaks the check at hand, with the range of the value that it is about and a few of the rows.
-- Grain: (run_id, expectation). Reads: offending (the rows of the check, and checked_value).
-- Params: $expectation, $few.
INSERT INTO broken_runs BY NAME
WITH
packed AS (
    SELECT run_id, checked_value, STRUCT_PACK(*COLUMNS(* EXCLUDE (run_id, checked_value))) AS offender
    FROM offending
)

SELECT
    run_id,
    $expectation AS expectation,
    COUNT(*) AS offending,
    MIN(checked_value) AS min_value,
    MAX(checked_value) AS max_value,
    TO_JSON(MIN(offender, CAST($few AS BIGINT))) AS sample
FROM packed
GROUP BY run_id;
