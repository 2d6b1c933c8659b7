-- One row per complete run of ours with a fault that was not seen to act, or not seen to end.
-- Grain: (run_id). Reads: runs. Params: none.
SELECT run_id, anomaly, effect_proved, effect_undone
FROM runs
WHERE status = 'complete'
  AND bundle IS NOT NULL
  AND anomaly IS NOT NULL
  AND NOT (COALESCE(effect_proved, FALSE) AND COALESCE(effect_undone, FALSE));
