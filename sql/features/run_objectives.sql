-- One row per run with the time per output token that it promises, NULL where it promises none.
-- Grain: (run_id). Reads: runs. Params: $campaign.
SELECT run_id, slo_tpot_ms
FROM runs
WHERE campaign = $campaign
ORDER BY run_id;
