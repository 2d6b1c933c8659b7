-- One row per GPU that a trace's head lists.
-- Grain: (run_id, component_index). Reads: runs (the one that is being loaded). Params: $devices.
INSERT INTO devices BY NAME
SELECT
    r.run_id,
    ROW_NUMBER() OVER () - 1 AS component_index,
    'GPU' AS category,
    d.value ->> '$.name' AS name,
    'GPU ' || (d.value ->> '$.id') AS device,
    TRY_CAST(d.value ->> '$.id' AS BIGINT) AS device_index,
    d.value ->> '$.name' AS model,
    TRY_CAST(d.value ->> '$.totalGlobalMem' AS BIGINT) AS memory_bytes,
    TRY_CAST(d.value ->> '$.numSms' AS BIGINT) AS cores,
    d.value AS details
FROM JSON_EACH(CAST($devices AS JSON)) AS d
CROSS JOIN runs AS r
WHERE JSON_TYPE(d.value) = 'OBJECT';
