-- One row per run that is replayed: which models may judge it, and what it promises.
-- Grain: (run_id). Reads: runs. Params: $run_id.
SELECT engine, engine_key, model, cpu_model, slo_tpot_ms
FROM runs
WHERE run_id = $run_id;
