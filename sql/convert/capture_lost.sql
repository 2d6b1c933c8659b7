-- One row per capture, the one that is being loaded: why there is none.
-- Grain: (capture_name). Reads: captures. Params: $capture_name, $lost.
UPDATE captures SET lost = COALESCE(lost, $lost) WHERE capture_name = $capture_name;
