-- One row per run, the one that is being loaded: the engine that its trace names.
-- Grain: (run_id). Reads: runs. Params: $engine, $version.
UPDATE runs SET engine = CAST($engine AS VARCHAR), engine_version = CAST($version AS VARCHAR);
