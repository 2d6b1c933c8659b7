-- One row per function that might be named as an anchor, the most often called first.
-- Grain: (plain_name). Reads: functions. Params: none.
SELECT plain_name
FROM functions
WHERE kind IN ('python', 'annotation') AND NOT STARTS_WITH(plain_name, '<')
GROUP BY plain_name
HAVING SUM(events) > 1
ORDER BY SUM(events) DESC
LIMIT 30;
