-- One row per thing that makes cycles or usage of a run doubtful, in words.
-- Grain: (doubt). Reads: cycles, spans, processes, functions, unowned, gpu_spans, function_usage. Params: none.
WITH
seen AS (
    SELECT
        s.file_name,
        BOOL_OR(f.kind = 'python') AS has_python,
        BOOL_OR(f.kind = 'gpu') AS has_gpu,
        BOOL_OR(f.kind = 'operator') AS has_operators
    FROM (SELECT DISTINCT file_number, file_name FROM spans) AS s
    INNER JOIN functions AS f ON f.file_number = s.file_number
    GROUP BY s.file_name
),

jumps AS (
    SELECT file_name, process, MAX(interval_ns) AS longest_ns, MEDIAN(interval_ns) AS usual_ns
    FROM cycles
    GROUP BY file_name, process
),

named AS (
    SELECT DISTINCT file_number, file_name FROM spans
)

SELECT file_name || ': no Python function was recorded: no stack can be shown' AS doubt FROM seen WHERE NOT has_python
UNION ALL
SELECT file_name || ': no GPU work was recorded: operators on the CPU are counted'
FROM seen
WHERE NOT has_gpu AND has_operators
UNION ALL
SELECT file_name || ': neither GPU work nor operators were recorded: there is no usage'
FROM seen
WHERE NOT has_gpu AND NOT has_operators
UNION ALL
SELECT 'no counter was sampled while the cycles lasted: usage has shares of time alone'
WHERE EXISTS (FROM function_usage) AND NOT EXISTS (FROM function_usage AS u WHERE u.metric_name IS NOT NULL)
UNION ALL
SELECT CONCAT(file_name, ': process ', process, ' has one cycle only: nothing can be compared')
FROM cycles
GROUP BY file_name, process
HAVING COUNT(*) = 1
UNION ALL
SELECT CONCAT(n.file_name, ': ', SUM(u.events), ' pieces of GPU work belong to no cycle: ', u.reason)
FROM unowned AS u
INNER JOIN named AS n ON n.file_number = u.file_number
WHERE u.kind = 'gpu'
GROUP BY n.file_name, u.reason
UNION ALL
SELECT CONCAT(
    n.file_name, ': ', SUM(g.late), ' pieces of GPU work began before they were launched: its clocks disagree'
)
FROM gpu_spans AS g
INNER JOIN named AS n ON n.file_number = g.file_number
GROUP BY n.file_name
HAVING SUM(g.late) > 0
UNION ALL
SELECT CONCAT(
    file_name, ': process ', process, ' has cycles ', longest_ns // 1000000000,
    ' s apart: it stood still, or its clock was set'
)
FROM jumps
WHERE longest_ns > 10000000000 AND longest_ns > 1000 * usual_ns
UNION ALL
SELECT DISTINCT n.file_name || ': the trace is cut off: its last cycle may not be whole'
FROM processes AS p
INNER JOIN named AS n ON n.file_number = p.file_number
WHERE p.is_cut_off
UNION ALL
SELECT 'its cycles have several anchors, and are not to be compared: ' || STRING_AGG(DISTINCT anchor_name, ', ')
FROM cycles
HAVING COUNT(DISTINCT anchor_name) > 1
UNION ALL
SELECT CONCAT('process ', process, ' has no number: its rows have no pid')
FROM cycles
WHERE pid IS NULL
GROUP BY process
UNION ALL
SELECT CONCAT('process ', pid, ' runs on several hosts: ', STRING_AGG(DISTINCT hostname, ', '))
FROM cycles
GROUP BY pid
HAVING COUNT(DISTINCT hostname) > 1
ORDER BY doubt;
