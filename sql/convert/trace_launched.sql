-- One row per GPU event that was set aside, with the call that launched it, in a Parquet file like the others.
-- Grain: (event_index). Reads: events, the files already written. Params: $paths, $path.
-- A replayed graph is one launch of many kernels; their operator is the launch's where they name none.
COPY (
    WITH
    launches AS (
        SELECT correlation, MIN(event_index) AS launch_index, ARG_MIN(external_id, event_index) AS external_id
        FROM READ_PARQUET($paths)
        WHERE correlation IS NOT NULL AND phase = 'X' AND (category ILIKE '%runtime' OR category ILIKE '%driver')
        GROUP BY correlation
    )

    SELECT
        e.* REPLACE (COALESCE(e.external_id, l.external_id) AS external_id, l.launch_index AS launch_index)
    FROM events AS e
    LEFT JOIN launches AS l USING (correlation)
    ORDER BY e.event_index
) TO $path (FORMAT PARQUET, COMPRESSION ZSTD, COMPRESSION_LEVEL 1, ROW_GROUP_SIZE 131072);
