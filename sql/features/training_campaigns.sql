-- One row per campaign that has batches to train on, with when its last one began; the earliest first.
-- Grain: (campaign). Reads: batches, runs. Params: $since_ns.
SELECT
    r.campaign,
    max(b.start_ns) AS last_start_ns
FROM batches AS b
INNER JOIN runs AS r USING (run_id)
GROUP BY r.campaign
HAVING max(b.start_ns) >= $since_ns
ORDER BY last_start_ns, r.campaign;
