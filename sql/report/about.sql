-- One row per campaign of that name: as planned, and as far as it came.
-- Grain: (campaign). Reads: campaigns. Params: $campaign.
SELECT campaign, started_ns, closed_ns, seed, spec, runs_planned, runs_complete, runs_failed
FROM campaigns
WHERE campaign = $campaign;
