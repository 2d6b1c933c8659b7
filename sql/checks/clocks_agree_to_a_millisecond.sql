-- One row per run whose recorders disagree about the time by more than a millisecond.
-- Grain: (run_id). Reads: runs. Params: none.
SELECT run_id, clock_uncertainty_ns FROM runs WHERE clock_uncertainty_ns > 1000000;
