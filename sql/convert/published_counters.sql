-- One row per row of a published counters table, kept or rejected with a reason; the kept ones go to counters.
-- Grain: (run_id, counter_name, pid, start_ns, sample_index).
-- Reads: published_lines, runs (the one that is being loaded). Params: none.
-- A process's counters end in its pid, written 4013652 or 4.013652e+06. Microseconds have at most 16 digits, the first
-- of them below 9: what fits a BIGINT in ns. Units are those that formats name; the others are not told anywhere.
CREATE OR REPLACE TEMP TABLE published_rows AS
WITH
units (counter_name, unit) AS (
    VALUES
    ('container_cpu_usage', '% of one core'),
    ('process_cpu_usage', '% of one core'),
    ('host_cpu_usage', '% of all cores'),
    ('cpu_frequency', 'MHz'),
    ('gpu_frequency', 'MHz'),
    ('gpu_sm_frequency', 'MHz'),
    ('gpu_mem_frequency', 'MHz'),
    ('gpu_usage', '%'),
    ('process_gpu_usage', '%'),
    ('container_gpu_usage', '%'),
    ('host_mem_usage', '%'),
    ('process_mem_usage', '%'),
    ('container_mem_usage', '%')
),

named AS (
    SELECT
        *,
        REGEXP_EXTRACT(counter_name, '^(process_.+)_([0-9]+|[0-9]([.][0-9]+)?e[+][0-9]{2})$', 1) AS process_counter,
        REGEXP_EXTRACT(counter_name, '^(process_.+)_([0-9]+|[0-9]([.][0-9]+)?e[+][0-9]{2})$', 2) AS pid_text
    FROM published_lines
),

typed AS (
    SELECT
        *,
        TRY_CAST(NULLIF(pid_text, '') AS DECIMAL(18, 6)) AS pid_number,
        CASE
            WHEN REGEXP_FULL_MATCH(value, '-?[0-9]+([.][0-9]+)?([eE][+-]?[0-9]+)?') THEN TRY_CAST(value AS DOUBLE)
        END AS number
    FROM named
)

SELECT
    t.file_name,
    t.line_number,
    t.raw_text,
    CASE
        WHEN t.problem IS NOT NULL THEN t.problem
        WHEN t.counter_name = '' THEN 'counter_name is empty'
        WHEN t.pid_text <> '' AND (t.pid_number IS NULL OR t.pid_number <> TRUNC(t.pid_number))
            THEN 'counter_name ends in no pid'
        WHEN NOT REGEXP_FULL_MATCH(t.timestamp, '[0-8]?[0-9]{1,15}([.][0-9]+)?') THEN 'timestamp is no time in us'
        WHEN t.number IS NULL OR NOT ISFINITE(t.number) THEN 'value is no number'
    END AS reason,
    TRY_CAST(TRY_CAST(t.timestamp AS DECIMAL(28, 9)) * 1000 AS BIGINT) AS start_ns,
    COALESCE(NULLIF(t.process_counter, ''), t.counter_name) AS counter_name,
    CAST(t.pid_number AS BIGINT) AS pid,
    t.number AS value,
    u.unit,
    NULLIF(t.hostname, '') AS hostname,
    t.line_number - 2 AS sample_index
FROM typed AS t
LEFT JOIN units AS u ON u.counter_name = COALESCE(NULLIF(t.process_counter, ''), t.counter_name);

INSERT INTO counters BY NAME
SELECT r.run_id, p.* EXCLUDE (file_name, line_number, raw_text, reason)
FROM published_rows AS p
CROSS JOIN runs AS r
WHERE p.reason IS NULL
ORDER BY p.counter_name, p.pid, p.start_ns, p.sample_index;
