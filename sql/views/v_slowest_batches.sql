-- One row per scored batch, those with the most unexplained time first.
-- Grain: (run_id, batch_index). Reads: batch_scores, batches, runs. Params: none.
CREATE VIEW v_slowest_batches AS
SELECT
    r.campaign,
    r.run_id,
    r.scenario,
    r.workload,
    s.batch_index,
    s.start_ns,
    b.run_window,
    b.forward_mode,
    b.batch_size,
    b.kv_tokens,
    s.actual_ns / 1e6 AS actual_ms,
    s.expected_ns / 1e6 AS expected_ms,
    (s.actual_ns - s.expected_ns) / 1e6 AS excess_ms,
    s.actual_ns / s.expected_ns AS slowdown,
    s.alarm
FROM batch_scores AS s
INNER JOIN runs AS r USING (run_id)
LEFT JOIN batches AS b USING (run_id, batch_index)
ORDER BY excess_ms DESC, r.run_id, s.batch_index;
COMMENT ON VIEW v_slowest_batches IS 'One scored batch; the one that took longest beyond what its workload explains comes first.';
COMMENT ON COLUMN v_slowest_batches.campaign IS 'campaign instance';
COMMENT ON COLUMN v_slowest_batches.run_id IS 'key of runs';
COMMENT ON COLUMN v_slowest_batches.scenario IS 'normal, sham, or the anomaly that was injected';
COMMENT ON COLUMN v_slowest_batches.workload IS 'in{input_length}_out{output_length}_conc{concurrency}';
COMMENT ON COLUMN v_slowest_batches.batch_index IS 'key of batches, with run_id';
COMMENT ON COLUMN v_slowest_batches.start_ns IS 'start of the batch, ns since 1970 on the host''s clock';
COMMENT ON COLUMN v_slowest_batches.run_window IS 'baseline, fault, recovery or transition';
COMMENT ON COLUMN v_slowest_batches.forward_mode IS 'prefill, decode or mixed';
COMMENT ON COLUMN v_slowest_batches.batch_size IS 'requests in the step';
COMMENT ON COLUMN v_slowest_batches.kv_tokens IS 'tokens in the key-value cache of these requests after the step';
COMMENT ON COLUMN v_slowest_batches.actual_ms IS 'time it took, ms';
COMMENT ON COLUMN v_slowest_batches.expected_ms IS 'time its workload explains, ms';
COMMENT ON COLUMN v_slowest_batches.excess_ms IS 'actual less expected time, ms';
COMMENT ON COLUMN v_slowest_batches.slowdown IS 'actual over expected time';
COMMENT ON COLUMN v_slowest_batches.alarm IS 'whether the batch raised an alarm';
