-- One row per event of the piece that cannot be used.
-- Grain: (file_name, line_number). Reads: trace_rows. Params: none.
INSERT INTO quarantine BY NAME
SELECT
    run_id,
    file_name,
    event_index AS line_number,
    reason,
    LEFT(
        COALESCE(
            raw_text,
            CAST(
                TO_JSON({
                    ph: phase, cat: category, name: name, pid: process, tid: thread, ts_ns: start_ns,
                    dur_ns: duration_ns, args: args
                }) AS VARCHAR
            )
        ),
        2000
    ) AS raw_text
FROM trace_rows
WHERE reason IS NOT NULL;
