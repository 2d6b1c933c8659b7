-- One row per function that may delimit the cycles of a process.
-- Grain: (run_id, file_name, process, place).
CREATE TABLE anchor_candidates (
    run_id VARCHAR,
    file_name VARCHAR,
    process VARCHAR,
    place BIGINT,
    function_name VARCHAR,
    kind VARCHAR,
    calls BIGINT,
    busy_calls BIGINT,
    busy_pct DOUBLE,
    works BIGINT,
    work_pct DOUBLE,
    time_ns BIGINT,
    median_ns BIGINT,
    is_known BOOLEAN,
    covers BOOLEAN,
    chosen BOOLEAN
);
COMMENT ON TABLE anchor_candidates IS 'One function that may delimit the cycles of a process, with the figures that it is judged by.';
COMMENT ON COLUMN anchor_candidates.run_id IS 'run it belongs to; key of runs';
COMMENT ON COLUMN anchor_candidates.file_name IS 'trace that shows it; key of files, with run_id';
COMMENT ON COLUMN anchor_candidates.process IS 'process as its trace writes it';
COMMENT ON COLUMN anchor_candidates.place IS 'place among the candidates of the process, from 1: the best';
COMMENT ON COLUMN anchor_candidates.function_name IS 'function without line, address and instance, or step label';
COMMENT ON COLUMN anchor_candidates.kind IS 'python: a Python function; annotation: a label of the program; label: the engine''s own label of a step';
COMMENT ON COLUMN anchor_candidates.calls IS 'times that it was called, calls within a call left out';
COMMENT ON COLUMN anchor_candidates.busy_calls IS 'those of them that did work: launched GPU work or, where there is none, ran operators';
COMMENT ON COLUMN anchor_candidates.busy_pct IS 'these in % of all its calls: below 50, most are turns of an idle loop';
COMMENT ON COLUMN anchor_candidates.works IS 'launches, or operators, in its calls';
COMMENT ON COLUMN anchor_candidates.work_pct IS 'these in % of all of the process';
COMMENT ON COLUMN anchor_candidates.time_ns IS 'time of its calls added up, ns';
COMMENT ON COLUMN anchor_candidates.median_ns IS 'median time of a call that did work, ns';
COMMENT ON COLUMN anchor_candidates.is_known IS 'it is what an engine calls one step, or a module that calls itself a layer';
COMMENT ON COLUMN anchor_candidates.covers IS 'it does nearly as much of the work as any candidate';
COMMENT ON COLUMN anchor_candidates.chosen IS 'the cycles are its calls';
