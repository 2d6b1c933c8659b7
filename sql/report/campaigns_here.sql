-- One row per campaign of the warehouse, the last first.
-- Grain: (campaign). Reads: campaigns. Params: none.
SELECT campaign
FROM campaigns
ORDER BY started_ns DESC NULLS LAST, campaign;
