-- One row per row of a published learning curve, kept or rejected with a reason; the kept ones go to published_curves.
-- Grain: (run_id, training_rows). Reads: published_lines, runs (the one that is being loaded). Params: none.
CREATE OR REPLACE TEMP TABLE published_rows AS
WITH
doubtful AS (
    SELECT
        *,
        LIST_FILTER(
            [
                {name: 'MAPE', text: mape},
                {name: 'in 10', text: in_10},
                {name: 'Coverage', text: coverage},
                {name: 'MAPE_train', text: mape_train},
                {name: 'in 10_train', text: in_10_train}
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
        WHEN NOT REGEXP_FULL_MATCH(size, '[0-9]{1,18}') THEN 'Size is no whole number'
        WHEN no_number IS NOT NULL THEN CONCAT(no_number, ' is no number')
    END AS reason,
    TRY_CAST(size AS BIGINT) AS training_rows,
    TRY_CAST(mape AS DOUBLE) AS mape_ratio,
    TRY_CAST(in_10 AS DOUBLE) AS within_10_pct_ratio,
    TRY_CAST(coverage AS DOUBLE) AS coverage_ratio,
    TRY_CAST(mape_train AS DOUBLE) AS training_mape_ratio,
    TRY_CAST(in_10_train AS DOUBLE) AS training_within_10_pct_ratio
FROM doubtful;

INSERT INTO published_curves BY NAME
SELECT r.run_id, p.* EXCLUDE (file_name, line_number, raw_text, reason)
FROM published_rows AS p
CROSS JOIN runs AS r
WHERE p.reason IS NULL
ORDER BY p.line_number;
