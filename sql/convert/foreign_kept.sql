-- One row per file of a foreign recording that has rows: those that were converted, or read as what needs no table.
-- Grain: (file_name). Reads: foreign_lines. Params: none.
SELECT file_name, COUNT(*) FILTER (WHERE reason IS NULL) AS rows_kept
FROM foreign_lines
GROUP BY file_name;
