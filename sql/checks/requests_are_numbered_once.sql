-- One row per number that two requests of a client's run have.
-- Grain: (run_id, client_run_index, request_index). Reads: requests. Params: none.
SELECT run_id, client_run_index, request_index, COUNT(*) AS requests
FROM requests
GROUP BY run_id, client_run_index, request_index
HAVING COUNT(*) > 1;
