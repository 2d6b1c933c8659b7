-- One row per function that might be named as an anchor, in full and by its last words, the most often called first.
-- Grain: (name). Reads: functions. Params: none.
SELECT name
FROM (
    SELECT UNNEST([plain_name, SPLIT_PART(plain_name, ': ', -1)]) AS name, events
    FROM functions
    WHERE kind IN ('python', 'annotation') AND NOT STARTS_WITH(plain_name, '<')
)
GROUP BY name
ORDER BY SUM(events) DESC, name;
