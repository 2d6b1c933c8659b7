-- One row per run of ours whose marks are not in the order in which a run goes, or that is complete and lacks one.
-- Grain: (run_id). Reads: runs. Params: none.
-- fault_apply and fault_revert are there when the life of a fault is part of the run (sham: of none), and only then.
WITH
ordered AS (
    SELECT
        *,
        LIST_FILTER(
            [
                recording_start_ns, baseline_start_ns, baseline_end_ns, fault_apply_ns, fault_start_ns, fault_end_ns,
                fault_revert_ns, recovery_start_ns, recovery_end_ns, recording_stop_ns
            ],
            LAMBDA mark: mark IS NOT NULL
        ) AS marks
    FROM runs
    WHERE bundle IS NOT NULL
)

SELECT run_id, marks
FROM ordered
WHERE marks <> LIST_SORT(marks)
   OR status = 'complete' AND LEN(marks) <> CASE WHEN scenario = 'normal' THEN 8 ELSE 10 END;
