-- One row per call on the CPU that usage counts: waits for the GPU, system calls, and operators where there is no GPU.
-- Grain: (file_number, event_index). Reads: owned, operator_times. Params: $file_number.
-- Operators count without the operators that they called, so that a thread's shares add up to its time at most; other
-- calls of one name that overlap on one thread count once.
INSERT INTO pieces BY NAME
SELECT
    CAST($file_number AS INTEGER) AS file_number,
    o.process,
    o.number,
    o.function_id,
    o.function_class,
    'Host' AS device,
    o.start_ns,
    o.end_ns,
    CASE
        WHEN o.kind = 'operator' THEN COALESCE(t.spent_ns, 0)
        ELSE GREATEST(
            o.end_ns - GREATEST(
                o.start_ns,
                COALESCE(
                    MAX(o.end_ns) OVER (
                        PARTITION BY o.process, o.number, o.function_id, o.thread
                        ORDER BY o.start_ns, o.end_ns ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
                    ),
                    o.start_ns
                )
            ),
            0
        )
    END AS spent_ns,
    o.thread AS lane
FROM owned AS o
LEFT JOIN operator_times AS t ON t.event_index = o.event_index
WHERE o.part = 'cycle'
  AND (
    o.function_class IN ('cpu_sync', 'disk_read_and_write', 'syscall_memory')
    OR o.kind = 'operator'
  );
