-- One row per GPU that a trace's head lists.
-- Grain: (run_id, component_index). Reads: runs (the one that is being loaded). Params: $devices, $hostname.
INSERT INTO devices BY NAME
SELECT
    r.run_id,
    d.rowid AS component_index,
    'CAT_XPU' AS category,
    NULLIF(d.value ->> '$.name', '') AS name,
    'GPU ' || TRY_CAST(d.value ->> '$.id' AS BIGINT) AS device,
    TRY_CAST(d.value ->> '$.id' AS BIGINT) AS device_index,
    CAST($hostname AS VARCHAR) AS hostname,
    NULLIF(d.value ->> '$.name', '') AS model,
    TRY_CAST(d.value ->> '$.totalGlobalMem' AS BIGINT) AS memory_bytes,
    TRY_CAST(d.value ->> '$.numSms' AS BIGINT) AS cores,
    d.value AS details
FROM JSON_EACH(CAST($devices AS JSON)) AS d
CROSS JOIN runs AS r
WHERE JSON_TYPE(d.value) = 'OBJECT';
