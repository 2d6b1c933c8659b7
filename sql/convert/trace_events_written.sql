-- One row per table that makes room for a view: GPU work has left `events`, which is to show the files written.
-- Grain: (events). Reads: events. Params: none.
DROP TABLE events;
