-- One row per place in the list that two components of a run have.
-- Grain: (run_id, component_index). Reads: devices. Params: none.
SELECT run_id, component_index, COUNT(*) AS devices
FROM devices
GROUP BY run_id, component_index
HAVING COUNT(*) > 1;
