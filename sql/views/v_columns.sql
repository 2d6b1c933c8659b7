-- One row per column of every table and view of the warehouse, with what it means.
-- Grain: (table_name, column_name). Reads: DuckDB's own catalogue. Params: none.
CREATE VIEW v_columns AS
WITH
relations AS (
    SELECT schema_name, table_name, 'table' AS kind, "comment" AS table_comment
    FROM DUCKDB_TABLES()
    WHERE database_name = CURRENT_DATABASE()
    UNION ALL
    SELECT schema_name, view_name AS table_name, 'view' AS kind, "comment" AS table_comment
    FROM DUCKDB_VIEWS()
    WHERE database_name = CURRENT_DATABASE() AND NOT internal
)

SELECT
    r.table_name,
    r.kind,
    r.table_comment,
    c.column_name,
    c.data_type,
    c."comment" AS column_comment
FROM relations AS r
INNER JOIN DUCKDB_COLUMNS() AS c USING (schema_name, table_name)
WHERE c.database_name = CURRENT_DATABASE()
ORDER BY r.table_name, c.column_index;
COMMENT ON VIEW v_columns IS 'One column of a table or view of this warehouse.';
COMMENT ON COLUMN v_columns.table_name IS 'table or view';
COMMENT ON COLUMN v_columns.kind IS 'table, or view';
COMMENT ON COLUMN v_columns.table_comment IS 'what one row of it is';
COMMENT ON COLUMN v_columns.column_name IS 'column';
COMMENT ON COLUMN v_columns.data_type IS 'type in DuckDB';
COMMENT ON COLUMN v_columns.column_comment IS 'what the column means, with its unit';
