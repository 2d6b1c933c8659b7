-- One row per campaign that an orchestrator has recorded, and whether it has closed it.
-- Grain: (campaign). Reads: campaigns. Params: none.
SELECT campaign, BOOL_OR(closed_ns IS NOT NULL) AS closed
FROM campaigns
GROUP BY campaign;
