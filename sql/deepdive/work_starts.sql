-- One row per piece of work of one trace, in order.
-- Grain: (track_id, start_ns). Reads: work, tracks. Params: none.
SELECT t.track_id, w.start_ns
FROM work AS w
INNER JOIN tracks AS t ON t.process = w.process AND t.thread = w.thread
ORDER BY t.track_id, w.start_ns;
