-- One row per campaign instance.
-- Grain: (campaign).
CREATE TABLE campaigns (
    campaign VARCHAR,
    campaign_name VARCHAR,
    started_ns BIGINT,
    closed_ns BIGINT,
    seed BIGINT,
    spec JSON,
    runs_planned BIGINT,
    runs_complete BIGINT,
    runs_failed BIGINT
);
COMMENT ON TABLE campaigns IS 'One campaign instance: what was planned and what came of it.';
COMMENT ON COLUMN campaigns.campaign IS 'instance of the campaign, such as demo-20261123T014500';
COMMENT ON COLUMN campaigns.campaign_name IS 'name in the spec, the same for every instance';
COMMENT ON COLUMN campaigns.started_ns IS 'when it was opened, ns since 1970 on the orchestrator''s clock';
COMMENT ON COLUMN campaigns.closed_ns IS 'when it was closed, ns since 1970; NULL while it is open or when it was broken off';
COMMENT ON COLUMN campaigns.seed IS 'seed of the cells'' order and of the models';
COMMENT ON COLUMN campaigns.spec IS 'the whole campaign spec as it was run';
COMMENT ON COLUMN campaigns.runs_planned IS 'number of cells';
COMMENT ON COLUMN campaigns.runs_complete IS 'runs in the lake that were carried out';
COMMENT ON COLUMN campaigns.runs_failed IS 'runs in the lake that failed';
