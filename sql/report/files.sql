-- One row per ingested file of the campaign, with its digest.
-- Grain: (run_id, name). Reads: files. Params: $campaign.
SELECT run_id, name, format, size_bytes, rows_in, rows_kept, rows_quarantined, sha256
FROM files
WHERE campaign = $campaign
ORDER BY run_id, name;
