-- One row per run of a campaign with cycles in both windows.
-- Grain: (run_id). Reads: cycles, runs. Params: $campaign.
SELECT run_id
FROM cycles
INNER JOIN runs USING (run_id)
WHERE campaign = $campaign AND run_window IN ('baseline', 'fault')
GROUP BY run_id
HAVING COUNT(DISTINCT run_window) = 2
ORDER BY run_id;
