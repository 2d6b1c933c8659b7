-- One row per host, engine and model: what was measured, and on what.
-- Grain: (host, engine, engine_version, model, cpu_model). Reads: runs. Params: $campaign.
SELECT host, engine, engine_version, model, cpu_model, COUNT(*) AS runs
FROM runs
WHERE campaign = $campaign
GROUP BY ALL
ORDER BY host, engine, engine_version, model;
