-- One row per kind of event of one trace that no cycle owns, and why.
-- Grain: (file_number, kind, reason). Reads: owned. Params: $file_number.
INSERT INTO unowned BY NAME
SELECT
    CAST($file_number AS INTEGER) AS file_number,
    kind,
    CASE
        WHEN process IS NULL THEN 'its launch was not recorded'
        WHEN number IS NULL THEN 'it began before the first cycle'
        ELSE 'it began between two cycles'
    END AS reason,
    COUNT(*) AS events
FROM owned
WHERE part IS NULL OR part = 'transition'
GROUP BY ALL;
