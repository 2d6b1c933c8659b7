-- One row per batch that breaks the check at hand in a suite that leaves such batches out.
-- Grain: (run_id, batch_index). Reads: offending (the rows of the check), runs, expectations. Params: $expectation.
SELECT DISTINCT o.run_id, o.batch_index, e.expectation
FROM offending AS o
INNER JOIN runs AS r ON r.run_id = o.run_id
INNER JOIN expectations AS e ON e.suite = IF(r.bundle IS NULL, 'recording', 'campaign')
WHERE e.expectation = $expectation AND e.policy = 'quarantine'
ORDER BY ALL;
