-- One row per event of one trace, with the cycle that it belongs to: GPU work, waits for it, and what is asked for.
-- Grain: (event_index). Reads: trace, spans. Params: $file_number, $kinds.
-- GPU work belongs to the cycle that launched it, whenever it runs; all else to the cycle of its process in which it
-- began. part is cycle, transition (after the cycle's end, before the next start), around (a Python function that goes
-- on into the next cycle: it calls the anchor) or NULL: before the first cycle, or of a process without cycles.
CREATE OR REPLACE TEMP TABLE owned AS
WITH
following AS (
    SELECT
        process,
        number,
        start_ns,
        end_ns,
        LEAD(start_ns) OVER (PARTITION BY process ORDER BY start_ns) AS next_ns
    FROM spans
    WHERE file_number = $file_number
),

begun AS (
    SELECT t.*, t.process AS owner, t.start_ns AS begun_ns
    FROM trace AS t
    WHERE t.kind <> 'gpu' AND (t.function_class = 'cpu_sync' OR LIST_CONTAINS(CAST($kinds AS VARCHAR[]), t.kind))
    UNION ALL
    SELECT t.*, l.process, l.start_ns
    FROM trace AS t
    INNER JOIN trace AS l ON l.event_index = t.launch_index
    WHERE t.kind = 'gpu'
    UNION ALL
    SELECT t.*, NULL, NULL
    FROM trace AS t
    WHERE t.kind = 'gpu' AND NOT EXISTS (FROM trace AS l WHERE l.event_index = t.launch_index)
)

SELECT
    b.event_index,
    b.function_id,
    b.kind,
    b.function_class,
    b.owner AS process,
    b.thread,
    b.begun_ns,
    b.start_ns,
    b.end_ns,
    b.device,
    b.stream,
    s.number,
    CASE
        WHEN s.number IS NULL THEN NULL
        WHEN b.kind IN ('python', 'annotation') AND b.end_ns > s.next_ns THEN 'around'
        WHEN b.begun_ns < s.end_ns THEN 'cycle'
        ELSE 'transition'
    END AS part
FROM begun AS b
ASOF LEFT JOIN following AS s ON s.process = b.owner AND s.start_ns <= b.begun_ns;
