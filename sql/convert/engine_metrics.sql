-- One row per number of a page of the engine's metrics, and one per page: whether it could be had.
-- Grain: (run_id, start_ns, metric_name, labels). Reads: recorder_lines, runs (the one that is being loaded).
-- Params: none.
-- A label's text is JSON as it stands: what is escaped there is escaped here (recorder_lines has let no other pass).
-- Prometheus text: `name{label="value",...} number`, and `# TYPE name type` of name, name_sum and name_count.
INSERT INTO engine_metrics BY NAME
WITH
pages AS (
    SELECT
        file_name,
        line_number,
        kind,
        document,
        CAST(document -> '$.mono_ns' AS BIGINT) + offset_ns AS start_ns,
        CAST(document -> '$.took_ns' AS BIGINT) AS duration_ns
    FROM recorder_lines
    WHERE format = 'metrics' AND kind IN ('scrape', 'gap') AND reason IS NULL
),

told AS (
    SELECT
        file_name, line_number, start_ns, duration_ns, UNNEST(STRING_SPLIT(document ->> '$.text', CHR(10))) AS line
    FROM pages
    WHERE kind = 'scrape'
),

types AS (
    SELECT
        file_name,
        UNNEST([words[3], words[3] || '_sum', words[3] || '_count']) AS metric_name,
        UNNEST([0, 1, 1]) AS derived,
        words[4] AS metric_type
    FROM (SELECT file_name, STRING_SPLIT(line, ' ') AS words FROM told WHERE STARTS_WITH(line, '# TYPE '))
),

type_of AS (
    SELECT file_name, metric_name, MIN_BY(metric_type, derived) AS metric_type
    FROM types
    GROUP BY file_name, metric_name
),

numbers AS (
    SELECT
        file_name,
        line_number,
        start_ns,
        duration_ns,
        REGEXP_EXTRACT(
            line, '^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:[{](.*)[}])? +([^ ]+)(?: +-?[0-9]+)?$', ['name', 'labels', 'value']
        ) AS parts
    FROM told
    WHERE line <> '' AND NOT STARTS_WITH(line, '#')
),

typed AS (
    SELECT
        * EXCLUDE (parts),
        parts.name AS metric_name,
        LIST_SORT(LIST_ZIP(
            REGEXP_EXTRACT_ALL(parts.labels, '([a-zA-Z_][a-zA-Z0-9_]*)=("(?:[^"\\]|\\.)*")', 1),
            REGEXP_EXTRACT_ALL(parts.labels, '([a-zA-Z_][a-zA-Z0-9_]*)=("(?:[^"\\]|\\.)*")', 2)
        )) AS pairs,
        TRY_CAST(parts.value AS DOUBLE) AS value
    FROM numbers
)

SELECT
    r.run_id,
    t.start_ns,
    t.duration_ns,
    t.metric_name,
    CONCAT(
        '{', ARRAY_TO_STRING(LIST_TRANSFORM(t.pairs, LAMBDA p: CONCAT('"', p[1], '":', p[2])), ','), '}'
    ) AS labels,
    k.metric_type,
    t.value
FROM typed AS t
CROSS JOIN runs AS r
LEFT JOIN type_of AS k ON k.file_name = t.file_name AND k.metric_name = t.metric_name
UNION ALL BY NAME
SELECT
    r.run_id,
    p.start_ns,
    p.duration_ns,
    'up' AS metric_name,
    CASE WHEN p.kind = 'gap' THEN JSON_OBJECT('reason', p.document ->> '$.reason') ELSE '{}' END AS labels,
    'gauge' AS metric_type,
    CASE WHEN p.kind = 'gap' THEN 0 ELSE 1 END AS value
FROM pages AS p
CROSS JOIN runs AS r
ORDER BY metric_name, labels, start_ns;
