-- One row per request with a time below 0, a first token after its last, or a mean gap above the longest.
-- Grain: (run_id, client_run_index, request_index). Reads: requests. Params: none.
-- Clients write milliseconds with as few as two digits after the point.
SELECT run_id, client_run_index, request_index, queue_ms, ttft_ms, itl_avg_ms, itl_max_ms, e2e_ms
FROM requests
WHERE LEAST(queue_ms, ttft_ms, itl_avg_ms, itl_max_ms, e2e_ms) < 0
   OR ttft_ms > e2e_ms + 0.01
   OR itl_avg_ms > itl_max_ms + 0.01
   OR NOT ISFINITE(GREATEST(queue_ms, ttft_ms, itl_avg_ms, itl_max_ms, e2e_ms));
