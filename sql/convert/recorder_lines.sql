-- One row per line of the run's batches, iterations, counters, metrics and slices files: kept, or rejected and why.
-- Grain: (file_name, line_number). Reads: lines. Params: none.
-- A kept line has its values in the right types and ranges, so that what reads it need not look again. Whole numbers
-- must be written as such (a cast alone would round 1.5) and times fit twice into a BIGINT, as they are added.
-- Lines of slices have a document of their own: whoever reads JSON keeps a whole vector of it in memory.
-- offset_ns puts the file's monotonic times on the epoch: the median over the file's clock lines, exact in BIGINT.
CREATE OR REPLACE TEMP TABLE recorder_lines AS
WITH
documents AS (
    SELECT
        *,
        REGEXP_EXTRACT(file_name, '^[a-z]+') AS format,
        format = 'slices' AND CONTAINS(raw_text, '"values"') AS has_slices,
        CASE WHEN problem IS NULL AND NOT has_slices THEN TRY_CAST(raw_text AS JSON) END AS document,
        CASE WHEN problem IS NULL AND has_slices THEN TRY_CAST(raw_text AS JSON) END AS slices_document
    FROM lines
),

typed AS (
    SELECT
        *,
        CASE WHEN has_slices THEN slices_document ->> '$.type' ELSE document ->> '$.type' END AS kind,
        LEN(LIST_FILTER(
            JSON_EXTRACT(document, ['$.realtime_ns', '$.monotonic_ns']),
            LAMBDA v: JSON_TYPE(v) IN ('BIGINT', 'UBIGINT')
                AND TRY_CAST(v AS BIGINT) BETWEEN 0 AND 4000000000000000000
        )) = 2 AS is_clock,
        LEN(LIST_FILTER(
            JSON_EXTRACT(document, ['$.start_mono_ns', '$.execute_end_mono_ns', '$.end_mono_ns']),
            LAMBDA v: JSON_TYPE(v) IN ('BIGINT', 'UBIGINT')
                AND TRY_CAST(v AS BIGINT) BETWEEN 0 AND 4000000000000000000
        )) = 3
        AND LEN(LIST_FILTER(
            JSON_EXTRACT(document, ['$.pid', '$.rank', '$.admitted', '$.finished', '$.prefix_hit_tokens']),
            LAMBDA v: JSON_TYPE(v) IN ('BIGINT', 'UBIGINT')
                AND TRY_CAST(v AS BIGINT) BETWEEN -1000000000 AND 1000000000
        )) = 5
        AND LEN(LIST_FILTER(
            JSON_EXTRACT(document, ['$.preempted', '$.waiting', '$.running']),
            LAMBDA v: JSON_TYPE(v) <> 'NULL' AND NOT (
                JSON_TYPE(v) IN ('BIGINT', 'UBIGINT')
                AND COALESCE(TRY_CAST(v AS BIGINT) BETWEEN -1000000000 AND 1000000000, FALSE)
            )
        )) = 0
        AND LEN(LIST_FILTER(
            JSON_EXTRACT(
                document,
                ['$.schedule_start_mono_ns', '$.schedule_ns', '$.update_ns', '$.process_start_mono_ns']
            ),
            LAMBDA v: JSON_TYPE(v) <> 'NULL' AND NOT (
                JSON_TYPE(v) IN ('BIGINT', 'UBIGINT')
                AND COALESCE(TRY_CAST(v AS BIGINT) BETWEEN 0 AND 4000000000000000000, FALSE)
            )
        )) = 0
        AND COALESCE(JSON_TYPE(document, '$.mode'), 'VARCHAR') = 'VARCHAR'
        AND JSON_TYPE(document, '$.source') = 'VARCHAR'
        AND JSON_TYPE(document, '$.requests') = 'ARRAY'
        AND LEN(LIST_FILTER(JSON_ARRAY_LENGTH(document, '$.requests[*]'), LAMBDA n: n = 4))
            = JSON_ARRAY_LENGTH(document, '$.requests')
        AND LEN(LIST_FILTER(
            JSON_EXTRACT(document, '$.requests[*][*]'),
            LAMBDA v: JSON_TYPE(v) IN ('BIGINT', 'UBIGINT')
                AND TRY_CAST(v AS BIGINT) BETWEEN -1000000000 AND 1000000000
        )) = 4 * JSON_ARRAY_LENGTH(document, '$.requests') AS is_batch,
        LEN(LIST_FILTER(
            JSON_EXTRACT(document, ['$.start_mono_ns', '$.duration_ns']),
            LAMBDA v: JSON_TYPE(v) IN ('BIGINT', 'UBIGINT')
                AND TRY_CAST(v AS BIGINT) BETWEEN 0 AND 4000000000000000000
        )) = 2
        AND LEN(LIST_FILTER(
            JSON_EXTRACT(document, ['$.pid', '$.tid']),
            LAMBDA v: JSON_TYPE(v) IN ('BIGINT', 'UBIGINT') AND TRY_CAST(v AS BIGINT) BETWEEN 0 AND 1000000000
        )) = 2
        AND JSON_TYPE(document, '$.point') = 'VARCHAR'
        AND COALESCE(JSON_TYPE(document, '$.raised'), 'NULL') IN ('NULL', 'VARCHAR')
        AND JSON_TYPE(document, '$.attributes') = 'OBJECT' AS is_call,
        JSON_TYPE(document, '$.point') = 'VARCHAR' AND JSON_TYPE(document, '$.reason') = 'VARCHAR' AS is_missing_point,
        LEN(LIST_FILTER(
            JSON_EXTRACT(document, [
                '$.mono_ns', '$.elapsed_ns', '$.rank', '$.iteration', '$.context_requests', '$.context_tokens',
                '$.generation_requests', '$.generation_tokens'
            ]),
            LAMBDA v: JSON_TYPE(v) IN ('BIGINT', 'UBIGINT')
                AND TRY_CAST(v AS BIGINT) BETWEEN 0 AND 4000000000000000000
        )) = 8 AS is_iteration,
        LEN(LIST_FILTER(
            JSON_EXTRACT(document, ['$.mono_ns', '$.interval_ns']),
            LAMBDA v: JSON_TYPE(v) IN ('BIGINT', 'UBIGINT')
                AND TRY_CAST(v AS BIGINT) BETWEEN 0 AND 4000000000000000000
        )) = 2
        AND JSON_TYPE(document, '$.values') = 'ARRAY'
        AND LEN(LIST_FILTER(
            JSON_EXTRACT(document, '$.values[*]'),
            LAMBDA v: JSON_ARRAY_LENGTH(v) = 5
                AND JSON_TYPE(v, '$[0]') = 'VARCHAR'
                AND JSON_TYPE(v, '$[1]') = 'VARCHAR'
                AND (
                    JSON_TYPE(v, '$[2]') = 'NULL'
                    OR JSON_TYPE(v, '$[2]') IN ('BIGINT', 'UBIGINT')
                    AND TRY_CAST(v -> '$[2]' AS BIGINT) BETWEEN 0 AND 1000000000
                )
                AND JSON_TYPE(v, '$[3]') IN ('NULL', 'VARCHAR')
                AND JSON_TYPE(v, '$[4]') IN ('BIGINT', 'UBIGINT', 'DOUBLE')
        )) = JSON_ARRAY_LENGTH(document, '$.values') AS is_sample,
        LEN(LIST_FILTER(
            JSON_EXTRACT(document, ['$.mono_ns', '$.took_ns']),
            LAMBDA v: JSON_TYPE(v) IN ('BIGINT', 'UBIGINT')
                AND TRY_CAST(v AS BIGINT) BETWEEN 0 AND 4000000000000000000
        )) = 2
        AND CASE kind
            WHEN 'gap' THEN JSON_TYPE(document, '$.reason') = 'VARCHAR'
            ELSE JSON_TYPE(document, '$.text') = 'VARCHAR'
                AND LEN(LIST_FILTER(
                    STRING_SPLIT(document ->> '$.text', CHR(10)),
                    LAMBDA v: v <> '' AND NOT STARTS_WITH(v, '#') AND NOT REGEXP_FULL_MATCH(
                        v,
                        '[a-zA-Z_:][a-zA-Z0-9_:]*([{]([a-zA-Z_][a-zA-Z0-9_]*="([^"\\\x00-\x1f]|\\[\\"n])*",?)*[}])? +'
                        || '([-+]?[0-9]{1,20}([.][0-9]{0,20})?([eE][-+]?[0-9]{1,2})?|[-+]?Inf|NaN)( +-?[0-9]{1,20})?'
                    )
                )) = 0
        END AS is_page,
        JSON_EXTRACT_STRING(slices_document, '$.kind') IN ('oncpu', 'runq')
        AND LEN(LIST_FILTER(
            JSON_EXTRACT(slices_document, ['$.pid', '$.tid']),
            LAMBDA v: JSON_TYPE(v) IN ('BIGINT', 'UBIGINT') AND TRY_CAST(v AS BIGINT) BETWEEN 0 AND 1000000000
        )) = 2
        AND JSON_TYPE(slices_document, '$.name') = 'VARCHAR'
        AND JSON_TYPE(slices_document, '$.values') = 'ARRAY'
        AND LEN(LIST_FILTER(
            JSON_EXTRACT(slices_document, '$.values[*]'),
            LAMBDA v: REGEXP_FULL_MATCH(
                CAST(v AS VARCHAR),
                '[[][0-9]{1,18},[0-9]{1,18},[0-9]{1,9},("[^"]{0,9}"|null)'
                || '(,[0-9]{1,9},[0-9]{1,9},"([^"\\]|\\.)*",[0-9]{1,18})?[]]'
            )
        )) = JSON_ARRAY_LENGTH(slices_document, '$.values') AS is_slices,
        LEN(LIST_FILTER(
            JSON_EXTRACT(document, ['$.mono_ns', '$.last_mono_ns', '$.cpu', '$.events']),
            LAMBDA v: JSON_TYPE(v) IN ('BIGINT', 'UBIGINT')
                AND TRY_CAST(v AS BIGINT) BETWEEN 0 AND 4000000000000000000
        )) = 4 AS is_loss
    FROM documents
),

offsets AS (
    SELECT
        file_name,
        QUANTILE_DISC(
            CAST(document -> '$.realtime_ns' AS BIGINT) - CAST(document -> '$.monotonic_ns' AS BIGINT), 0.5
        ) AS offset_ns
    FROM typed
    WHERE kind = 'clock' AND is_clock
    GROUP BY file_name
)

SELECT
    t.file_name,
    t.format,
    t.line_number,
    t.raw_text,
    t.kind,
    COALESCE(t.document, t.slices_document) AS document,
    o.offset_ns,
    CASE
        WHEN t.problem IS NOT NULL THEN t.problem
        WHEN t.document IS NULL AND t.slices_document IS NULL THEN 'not JSON'
        WHEN t.kind = 'end' THEN NULL
        WHEN t.kind = 'clock' AND t.is_clock THEN NULL
        WHEN t.format = 'batches' AND t.kind = 'batch' AND t.is_batch AND o.offset_ns IS NOT NULL THEN NULL
        WHEN t.format = 'batches' AND t.kind = 'call' AND t.is_call AND o.offset_ns IS NOT NULL THEN NULL
        WHEN t.format = 'batches' AND t.kind = 'missing_point' AND t.is_missing_point THEN NULL
        WHEN t.kind = 'iteration' AND t.format = 'iterations' AND t.is_iteration AND o.offset_ns IS NOT NULL
            THEN NULL
        WHEN t.format = 'counters' AND t.kind = 'sample' AND t.is_sample AND o.offset_ns IS NOT NULL THEN NULL
        WHEN t.format = 'metrics' AND t.kind IN ('scrape', 'gap') AND t.is_page AND o.offset_ns IS NOT NULL THEN NULL
        WHEN t.format = 'slices' AND t.kind = 'slices' AND t.is_slices AND o.offset_ns IS NOT NULL THEN NULL
        WHEN t.format = 'slices' AND t.kind = 'lost' AND t.is_loss AND o.offset_ns IS NOT NULL THEN NULL
        WHEN t.format = 'slices' AND t.kind = 'recorded' THEN NULL
        WHEN t.kind = 'clock' THEN 'not a clock line: a time is missing or out of range'
        WHEN t.format = 'batches' AND t.kind = 'batch' AND t.is_batch THEN 'no clock line in its file'
        WHEN t.format = 'iterations' AND t.kind = 'iteration' AND t.is_iteration THEN 'no clock line in its file'
        WHEN t.format = 'iterations' AND t.kind IN ('iteration', 'damaged') THEN 'damaged iteration line'
        WHEN t.format = 'counters' AND t.kind = 'sample' AND t.is_sample THEN 'no clock line in its file'
        WHEN t.format = 'metrics' AND t.kind IN ('scrape', 'gap') AND t.is_page THEN 'no clock line in its file'
        WHEN t.format = 'metrics' AND t.kind IN ('scrape', 'gap')
            THEN 'not a page of metrics: a field is missing or of another type, or a number cannot be read'
        WHEN t.format = 'batches' AND t.kind = 'call' AND t.is_call THEN 'no clock line in its file'
        WHEN t.format = 'batches' AND t.kind = 'batch' THEN 'not a batch: a field is missing or of another type'
        WHEN t.format = 'batches' AND t.kind = 'call' THEN 'not a call: a field is missing or of another type'
        WHEN t.format = 'batches' AND t.kind = 'missing_point' THEN 'not a missing point: it has no name or no reason'
        WHEN t.format = 'counters' AND t.kind = 'sample' THEN 'not a sample: a field is missing or of another type'
        WHEN t.format = 'slices' AND (t.kind = 'slices' AND t.is_slices OR t.kind = 'lost' AND t.is_loss)
            THEN 'no clock line in its file'
        WHEN t.format = 'slices' AND t.kind IN ('slices', 'lost')
            THEN 'not slices: a field is missing or of another type'
        ELSE 'a line of no known type'
    END AS reason
FROM typed AS t
LEFT JOIN offsets AS o USING (file_name);
