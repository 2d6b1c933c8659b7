-- One row per rejected row of a published table; its lines are done with.
-- Grain: (run_id, file_name, line_number). Reads: published_rows, runs (the one that is being loaded). Params: none.
INSERT INTO quarantine BY NAME
SELECT r.run_id, p.file_name, p.line_number, p.reason, LEFT(p.raw_text, 2000) AS raw_text
FROM published_rows AS p
CROSS JOIN runs AS r
WHERE p.reason IS NOT NULL
ORDER BY p.line_number;

DROP TABLE published_lines;
