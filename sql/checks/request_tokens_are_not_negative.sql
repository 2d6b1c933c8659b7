-- One row per request with fewer than no tokens, or fewer than no gaps between the pieces of its answer.
-- Grain: (run_id, client_run_index, request_index). Reads: requests. Params: none.
SELECT run_id, client_run_index, request_index, input_tokens, output_tokens, itl_count
FROM requests
WHERE LEAST(input_tokens, output_tokens, itl_count) < 0;
