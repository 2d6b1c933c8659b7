-- Writes the relation `outgoing` as one Parquet file of the lake; its metadata say what it is part of.
-- Params: $path, $table_name, $campaign, $part, $source.
COPY (SELECT * FROM outgoing) TO $path (
    FORMAT PARQUET,
    COMPRESSION ZSTD,
    KV_METADATA {table_name: $table_name, campaign: $campaign, part: $part, source: $source}
);
