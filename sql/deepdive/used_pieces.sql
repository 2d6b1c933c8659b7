-- One row per piece of one class of functions of a process on a device, in the order of time within its function.
-- Grain: (group_id, start_ns). Reads: pieces, functions, shares.
-- Params: $file_number, $process, $function_class, $device.
SELECT s.group_id, p.start_ns, p.end_ns, p.spent_ns
FROM pieces AS p
LEFT JOIN functions AS f ON f.file_number = p.file_number AND f.function_id = p.function_id
INNER JOIN shares AS s
    ON s.file_number = p.file_number
    AND s.process = p.process
    AND s.number = p.number
    AND s.own_device = p.device
    AND s.function_name = COALESCE(f.name, p.function_class)
WHERE p.file_number = $file_number
  AND p.process = $process
  AND s.function_class = $function_class
  AND p.device = $device
  AND p.end_ns > p.start_ns
ORDER BY s.group_id, p.start_ns;
