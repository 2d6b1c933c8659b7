-- One row per rejected row of a foreign recording.
-- Grain: (run_id, file_name, line_number). Reads: foreign_lines, runs (the one that is being loaded). Params: none.
INSERT INTO quarantine BY NAME
SELECT r.run_id, l.file_name, l.line_number, l.reason, LEFT(l.raw_text, 2000) AS raw_text
FROM foreign_lines AS l
CROSS JOIN runs AS r
WHERE l.reason IS NOT NULL
ORDER BY l.file_name, l.line_number;
