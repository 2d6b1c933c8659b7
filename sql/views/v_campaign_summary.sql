-- One row per campaign: how far it is, how much was recorded, and how often the injected cause was named.
-- Grain: (campaign). Reads: campaigns, runs, files, v_injected_vs_diagnosed. Params: none.
-- Recordings of others have no plan: what was planned is NULL, and they count as complete runs.
CREATE VIEW v_campaign_summary AS
WITH
sizes AS (
    SELECT run_id, SUM(size_bytes) AS size_bytes, SUM(rows_quarantined) AS rows_quarantined
    FROM files
    GROUP BY run_id
),

outcomes AS (
    SELECT
        campaign,
        COUNT(*) FILTER (WHERE verdict = 'right') AS runs_right,
        COUNT(*) FILTER (WHERE verdict = 'wrong') AS runs_wrong,
        COUNT(*) FILTER (WHERE verdict IS NULL) AS runs_undiagnosed,
        COUNT(*) FILTER (WHERE slo_violated) AS runs_slo_violated
    FROM v_injected_vs_diagnosed
    GROUP BY campaign
),

recorded AS (
    SELECT
        r.campaign,
        STRING_AGG(DISTINCT r.host, ', ' ORDER BY r.host) AS hosts,
        STRING_AGG(DISTINCT r.engine, ', ' ORDER BY r.engine) AS engines,
        STRING_AGG(DISTINCT r.scenario, ', ' ORDER BY r.scenario) AS scenarios,
        COUNT(*) FILTER (WHERE r.status = 'complete') AS runs_complete,
        COUNT(*) FILTER (WHERE r.status = 'failed') AS runs_failed,
        COUNT(*) FILTER (WHERE r.anomaly IS NOT NULL AND r.anomaly <> 'sham') AS runs_injected,
        COUNT(*) FILTER (WHERE r.effect_proved AND r.effect_undone IS DISTINCT FROM TRUE) AS runs_not_undone,
        MAKE_TIMESTAMP_NS(MIN(r.recording_start_ns)) AS first_recording_utc,
        MAKE_TIMESTAMP_NS(MAX(r.recording_stop_ns)) AS last_recording_utc,
        SUM(r.recording_stop_ns - r.recording_start_ns) / 1e9 AS recorded_s,
        CAST(SUM(s.size_bytes) AS BIGINT) AS size_bytes,
        CAST(SUM(s.rows_quarantined) AS BIGINT) AS rows_quarantined
    FROM runs AS r
    LEFT JOIN sizes AS s USING (run_id)
    GROUP BY r.campaign
)

SELECT
    campaign,
    r.hosts,
    r.engines,
    r.scenarios,
    c.runs_planned,
    COALESCE(r.runs_complete, 0) AS runs_complete,
    COALESCE(r.runs_failed, 0) AS runs_failed,
    GREATEST(c.runs_planned - COALESCE(r.runs_complete, 0) - COALESCE(r.runs_failed, 0), 0) AS runs_pending,
    COALESCE(r.runs_injected, 0) AS runs_injected,
    COALESCE(r.runs_not_undone, 0) AS runs_not_undone,
    o.runs_right,
    o.runs_wrong,
    o.runs_undiagnosed,
    o.runs_slo_violated,
    c.closed_ns IS NOT NULL AS closed,
    r.first_recording_utc,
    r.last_recording_utc,
    r.recorded_s,
    r.size_bytes,
    r.rows_quarantined
FROM campaigns AS c
FULL JOIN recorded AS r USING (campaign)
LEFT JOIN outcomes AS o USING (campaign)
ORDER BY campaign;
COMMENT ON VIEW v_campaign_summary IS 'One campaign: how far it is, what was recorded, how often the injected cause was named.';
COMMENT ON COLUMN v_campaign_summary.campaign IS 'campaign instance';
COMMENT ON COLUMN v_campaign_summary.hosts IS 'hosts with runs, by their names in the spec';
COMMENT ON COLUMN v_campaign_summary.engines IS 'engine kinds with runs';
COMMENT ON COLUMN v_campaign_summary.scenarios IS 'scenarios with runs: normal, sham, or the anomaly that was injected';
COMMENT ON COLUMN v_campaign_summary.runs_planned IS 'cells of the plan; NULL for recordings of others';
COMMENT ON COLUMN v_campaign_summary.runs_complete IS 'runs that are complete';
COMMENT ON COLUMN v_campaign_summary.runs_failed IS 'runs that failed';
COMMENT ON COLUMN v_campaign_summary.runs_pending IS 'cells of the plan without a run in the lake; NULL for recordings of others';
COMMENT ON COLUMN v_campaign_summary.runs_injected IS 'runs with an anomaly, sham left out';
COMMENT ON COLUMN v_campaign_summary.runs_not_undone IS 'runs whose fault was seen to act and whose undo was not';
COMMENT ON COLUMN v_campaign_summary.runs_right IS 'runs with verdict right in v_injected_vs_diagnosed';
COMMENT ON COLUMN v_campaign_summary.runs_wrong IS 'runs with verdict wrong in v_injected_vs_diagnosed';
COMMENT ON COLUMN v_campaign_summary.runs_undiagnosed IS 'complete runs that nobody has diagnosed yet';
COMMENT ON COLUMN v_campaign_summary.runs_slo_violated IS 'runs with an incident that broke the objective for the time per output token';
COMMENT ON COLUMN v_campaign_summary.closed IS 'whether the orchestrator recorded the campaign as over';
COMMENT ON COLUMN v_campaign_summary.first_recording_utc IS 'begin of the first recording, UTC';
COMMENT ON COLUMN v_campaign_summary.last_recording_utc IS 'end of the last recording, UTC';
COMMENT ON COLUMN v_campaign_summary.recorded_s IS 'time recorded in all runs, s';
COMMENT ON COLUMN v_campaign_summary.size_bytes IS 'bytes of the ingested files';
COMMENT ON COLUMN v_campaign_summary.rows_quarantined IS 'lines set aside with a reason';
