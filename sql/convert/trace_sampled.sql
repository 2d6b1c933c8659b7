-- One row per trace, the one that is being loaded: how many of its events are counter samples.
-- Grain: (sampled). Reads: counters. Params: none.
SELECT COUNT(DISTINCT sample_index) AS sampled FROM counters;
