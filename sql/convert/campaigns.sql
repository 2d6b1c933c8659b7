-- One row per campaign: its record as the orchestrator wrote it, and how many of its runs are in the lake.
-- Grain: (campaign). Reads: runs.
-- Params: $campaign, $campaign_name, $started_ns, $closed_ns, $seed, $spec, $runs_planned.
SELECT
    $campaign AS campaign,
    $campaign_name AS campaign_name,
    $started_ns AS started_ns,
    $closed_ns AS closed_ns,
    $seed AS seed,
    $spec AS spec,
    $runs_planned AS runs_planned,
    COUNT(*) FILTER (WHERE status = 'complete') AS runs_complete,
    COUNT(*) FILTER (WHERE status = 'failed') AS runs_failed
FROM runs
WHERE campaign = $campaign;
