-- Sets how much memory a connection may take, such as 500MB; what does not fit goes to disk. Params: $memory.
SET memory_limit = $memory;
