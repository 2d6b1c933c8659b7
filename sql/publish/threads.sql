-- Sets how many threads a statement may use: one while several pieces of a trace are converted side by side.
-- Params: $threads.
SET threads = $threads;
