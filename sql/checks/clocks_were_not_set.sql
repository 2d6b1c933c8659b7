-- One row per run during which the host's clock was set; the run's times go on as if it had not been.
-- Grain: (run_id). Reads: runs. Params: none.
SELECT run_id, clock_step_ns FROM runs WHERE clock_step_ns IS NOT NULL;
