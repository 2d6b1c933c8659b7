-- One row per piece of GPU work that a cycle launched, without the time in which the same function ran before it.
-- Grain: (file_number, event_index). Reads: owned. Params: $file_number.
-- No function takes more time of a stream than there is: what overlaps on one stream counts once.
INSERT INTO pieces BY NAME
SELECT
    CAST($file_number AS INTEGER) AS file_number,
    process,
    number,
    function_id,
    function_class,
    device,
    start_ns,
    end_ns,
    GREATEST(
        end_ns - GREATEST(
            start_ns,
            COALESCE(
                MAX(end_ns) OVER (
                    PARTITION BY process, number, function_id, device, stream
                    ORDER BY start_ns, end_ns ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
                ),
                start_ns
            )
        ),
        0
    ) AS spent_ns,
    stream AS lane
FROM owned
WHERE kind = 'gpu' AND part = 'cycle';
