-- One row per function that delimits cycles of the run.
-- Grain: (anchor_name). Reads: cycles. Params: none.
SELECT anchor_name FROM cycles GROUP BY anchor_name ORDER BY COUNT(*) DESC, anchor_name;
