-- One row per row of a published topology, kept or rejected with a reason; the kept ones go to devices.
-- Grain: (run_id, component_index). Reads: published_lines, runs (the one that is being loaded). Params: none.
-- What has no column of its own stays in details, config and inventory whole. Memory modules are told in MiB.
CREATE OR REPLACE TEMP TABLE published_rows AS
WITH
parsed AS (
    SELECT
        *,
        TRY_CAST(NULLIF(config, '') AS JSON) AS config_json,
        TRY_CAST(NULLIF(inventory, '') AS JSON) AS inventory_json,
        TRY_CAST(NULLIF(inventory, '') AS JSON) -> '$.macro' AS macro
    FROM published_lines
),

told AS (
    SELECT
        *,
        -- The macro's whole numbers by name; a number that is written otherwise stays in details alone.
        CASE WHEN JSON_TYPE(macro, '$.index') = 'UBIGINT' THEN TRY_CAST(macro -> '$.index' AS BIGINT) END AS index_told,
        CASE
            WHEN JSON_TYPE(macro, '$.memory_capacity') = 'UBIGINT'
                THEN TRY_CAST(macro -> '$.memory_capacity' AS BIGINT)
        END AS memory_told,
        CASE WHEN JSON_TYPE(macro, '$.size') = 'UBIGINT' THEN TRY_CAST(macro -> '$.size' AS INTEGER) END AS size_told,
        CASE WHEN JSON_TYPE(macro, '$.cores') = 'UBIGINT' THEN TRY_CAST(macro -> '$.cores' AS BIGINT) END AS cores_told,
        CASE
            WHEN JSON_TYPE(macro, '$.threads') = 'UBIGINT' THEN TRY_CAST(macro -> '$.threads' AS BIGINT)
        END AS threads_told,
        CASE WHEN JSON_TYPE(macro, '$.pid') = 'UBIGINT' THEN TRY_CAST(macro -> '$.pid' AS BIGINT) END AS pid_told,
        CASE
            WHEN JSON_TYPE(macro, '$.gpu_index') = 'UBIGINT' THEN TRY_CAST(macro -> '$.gpu_index' AS BIGINT)
        END AS gpu_told,
        REGEXP_EXTRACT(macro ->> '$.freq', '^([0-9]{1,9}([.][0-9]+)?) MHz$', 1) AS mhz_told
    FROM parsed
)

SELECT
    file_name,
    line_number,
    raw_text,
    CASE
        WHEN problem IS NOT NULL THEN problem
        WHEN category = '' THEN 'category is empty'
        WHEN config <> '' AND config_json IS NULL THEN 'config is no JSON'
        WHEN inventory <> '' AND inventory_json IS NULL THEN 'inventory is no JSON'
    END AS reason,
    line_number - 2 AS component_index,
    category,
    NULLIF(name, '') AS name,
    CASE WHEN category = 'CAT_XPU' AND index_told IS NOT NULL THEN CONCAT('GPU ', index_told) END AS device,
    CASE WHEN category = 'CAT_XPU' THEN index_told END AS device_index,
    NULLIF(uuid, '') AS uuid,
    NULLIF(COALESCE(NULLIF(type, ''), CASE WHEN category = 'CAT_XPU' THEN macro ->> '$.type' END), '') AS type,
    NULLIF(position, '') AS position,
    COALESCE(
        CASE 'CAT_HOST' WHEN loc3_type THEN NULLIF(loc3, '') WHEN loc2_type THEN NULLIF(loc2, '') END,
        CASE WHEN category = 'CAT_HOST' THEN NULLIF(name, '') END,
        NULLIF(config_json ->> '$.env.hostname', '')
    ) AS hostname,
    CASE
        WHEN category = 'CAT_XPU' THEN macro ->> '$.name'
        WHEN category IN ('CAT_CPU', 'CAT_DISK') THEN macro ->> '$.model'
    END AS model,
    CASE
        WHEN category = 'CAT_XPU' THEN memory_told
        WHEN category = 'CAT_MEMORY' THEN CAST(size_told AS BIGINT) * 1048576
    END AS memory_bytes,
    CASE WHEN category = 'CAT_CPU' THEN cores_told END AS cores,
    CASE WHEN category = 'CAT_CPU' THEN threads_told END AS threads,
    CASE WHEN category = 'CAT_CPU' THEN TRY_CAST(NULLIF(mhz_told, '') AS DOUBLE) END AS frequency_mhz,
    CASE WHEN category IN ('CAT_PROCESS', 'CAT_CONTAINER') THEN pid_told END AS pid,
    CASE WHEN category = 'CAT_PROCESS' THEN gpu_told END AS gpu_index,
    CASE WHEN category = 'CAT_PROCESS' THEN macro ->> '$.cmd' END AS command,
    JSON_OBJECT(
        'life_time', NULLIF(life_time, ''),
        'rank', NULLIF(rank, ''),
        'loc1', NULLIF(loc1, ''),
        'loc1_type', NULLIF(loc1_type, ''),
        'loc2', NULLIF(loc2, ''),
        'loc2_type', NULLIF(loc2_type, ''),
        'loc3', NULLIF(loc3, ''),
        'loc3_type', NULLIF(loc3_type, ''),
        'config', config_json,
        'inventory', inventory_json,
        'details', NULLIF(details, '')
    ) AS details
FROM told;

INSERT INTO devices BY NAME
SELECT r.run_id, p.* EXCLUDE (file_name, line_number, raw_text, reason)
FROM published_rows AS p
CROSS JOIN runs AS r
WHERE p.reason IS NULL
ORDER BY p.component_index;
