-- One row per run: what its client says of model and load, where all of the client's runs in the file agree.
-- Grain: (run_id). Reads: foreign_lines. Params: none.
-- Lengths are told only of random prompts, and by SGLang's client alone. The server may be of another engine.
UPDATE runs
SET
    model = COALESCE(runs.model, said.model),
    input_length = COALESCE(runs.input_length, said.input_length),
    output_length = COALESCE(runs.output_length, said.output_length),
    concurrency = COALESCE(runs.concurrency, said.concurrency)
FROM (
    SELECT
        CASE WHEN COUNT(DISTINCT summary ->> '$.model_id') = 1 THEN MIN(summary ->> '$.model_id') END AS model,
        CASE
            WHEN COUNT(DISTINCT summary ->> '$.random_input_len') = 1
                THEN MIN(TRY_CAST(summary ->> '$.random_input_len' AS BIGINT))
        END AS input_length,
        CASE
            WHEN COUNT(DISTINCT summary ->> '$.random_output_len') = 1
                THEN MIN(TRY_CAST(summary ->> '$.random_output_len' AS BIGINT))
        END AS output_length,
        CASE
            WHEN COUNT(DISTINCT summary ->> '$.max_concurrency') = 1
                THEN MIN(TRY_CAST(summary ->> '$.max_concurrency' AS BIGINT))
        END AS concurrency
    FROM foreign_lines
    WHERE summary IS NOT NULL
) AS said;
