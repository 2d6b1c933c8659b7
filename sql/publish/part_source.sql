-- One row per part of the lake that says what it was made from.
-- Grain: (path). Reads: the file. Params: $path.
SELECT DECODE(value) AS source
FROM PARQUET_KV_METADATA($path)
WHERE DECODE(key) = 'source';
