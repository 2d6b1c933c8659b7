-- One row per candidate of one trace, the first twenty of each process, with what became of it.
-- Grain: (run_id, file_name, process, place). Reads: candidates, spans, runs. Params: $file_number, $file_name.
INSERT INTO anchor_candidates BY NAME
SELECT
    r.run_id,
    $file_name AS file_name,
    c.* EXCLUDE (rank),
    c.rank AS place,
    c.rank = 1 AND EXISTS (
        FROM spans AS s WHERE s.file_number = $file_number AND s.process = c.process
    ) AS chosen
FROM candidates AS c
CROSS JOIN runs AS r
WHERE c.rank <= 20
ORDER BY c.process, c.rank;
