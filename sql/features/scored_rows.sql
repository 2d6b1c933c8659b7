-- One row per row of a published table, in the order of the file: the batch that it became, or why it became none.
-- Grain: (row_index). Reads: published_rows. Params: none.
SELECT
    line_number - 2 AS row_index,
    CASE
        WHEN reason IS NULL
            THEN ROW_NUMBER() OVER (PARTITION BY reason IS NULL ORDER BY start_ns, line_number) - 1
    END AS batch_index,
    reason
FROM published_rows
ORDER BY row_index;
