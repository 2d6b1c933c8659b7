-- One row per function of one trace: what kind of thing it is, and its name without what differs from run to run.
-- Grain: (file_number, function_id). Reads: the trace's events. Params: $paths, $file_number.
-- Kinds decide what an event is counted as, classes which counters go with it (design 12). Line numbers, addresses,
-- instance numbers and generated paths are taken out of plain_name, shapes and template arguments out of simple_name.
-- is_waiting: it does nothing but wait, and delimits no cycles. is_plumbing: it calls what others wrote. is_step: the
-- engines' own name for one step. sign: a call of it tells the forward mode of the step that it is in.
INSERT INTO functions BY NAME
WITH
written AS (
    SELECT category, name, LOWER(COALESCE(category, '')) AS lower_category, COUNT(*) AS events
    FROM READ_PARQUET($paths)
    WHERE phase = 'X' AND name IS NOT NULL
    GROUP BY ALL
),

sorted AS (
    SELECT
        *,
        CASE
            WHEN lower_category IN ('kernel', 'gpu_memcpy', 'gpu_memset', 'memcpy', 'memset') THEN 'gpu'
            WHEN lower_category IN ('python_function', 'python') THEN 'python'
            WHEN lower_category = 'user_annotation' THEN 'annotation'
            WHEN lower_category IN ('cpu_op', 'operator') THEN 'operator'
            WHEN lower_category LIKE '%runtime' OR lower_category LIKE '%driver' THEN 'runtime'
            WHEN lower_category = 'cat_cpu' AND name IN ('oncpu', 'runq') THEN 'slice'
            WHEN lower_category = 'cat_app' AND REGEXP_MATCHES(name, '^(cu|cuda|hip)[A-Z]') THEN 'runtime'
            WHEN lower_category = 'cat_app' AND STARTS_WITH(name, 'nccl') THEN 'collective'
            WHEN lower_category = 'cat_disk' THEN 'syscall'
            WHEN name IN ('mmap', 'munmap', 'mprotect', 'mremap', 'madvise', 'brk') THEN 'syscall'
        END AS kind
    FROM written
),

plain AS (
    SELECT
        *,
        CASE
            WHEN kind IN ('python', 'annotation') THEN REGEXP_REPLACE(
                REGEXP_REPLACE(
                    REGEXP_REPLACE(
                        REGEXP_REPLACE(name, '\([0-9]+\): ', ': '),
                        ' at 0x[0-9a-f]+|#[0-9]+$|(?:[^ ]*/)?torchinductor_[^:]*/', '', 'g'
                    ),
                    '^(nn\.Module: .*)_[0-9]+$', '\1'
                ),
                '<eval_with_key>[.0-9]*', '<eval_with_key>'
            )
            ELSE name
        END AS plain_name
    FROM sorted
    WHERE kind IS NOT NULL
),

cut AS (
    SELECT
        *,
        COALESCE(
            NULLIF(REGEXP_EXTRACT(plain_name, '^<built-in method ([^ ]+)', 1), ''),
            REGEXP_EXTRACT(plain_name, '([A-Za-z0-9_]+)>?$', 1)
        ) AS last_name,
        REGEXP_EXTRACT(
            REPLACE(REGEXP_REPLACE(name, '^void ', ''), '(anonymous namespace)', 'anonymous'), '^[^<(]+'
        ) AS bare_name
    FROM plain
)

SELECT
    CAST($file_number AS INTEGER) AS file_number,
    CAST(ROW_NUMBER() OVER () AS INTEGER) AS function_id,
    category,
    name,
    kind,
    plain_name,
    CASE
        WHEN kind = 'gpu' AND lower_category = 'kernel' THEN COALESCE(
            NULLIF(
                REGEXP_REPLACE(
                    REGEXP_REPLACE(bare_name, '_[a-z]?[0-9]*gemm(_.*)?$', '_gemm'),
                    '(_[A-Za-z]*[0-9]+x[0-9]+.*|_[0-9]+)$', ''
                ),
                ''
            ),
            name
        )
        WHEN kind IN ('python', 'annotation') THEN plain_name
        ELSE name
    END AS simple_name,
    CASE
        WHEN kind = 'gpu' AND lower_category LIKE '%memcpy' THEN CASE
            WHEN REGEXP_MATCHES(name, 'HtoD|HostToDevice') THEN 'gpu_memcpy_h2d'
            WHEN REGEXP_MATCHES(name, 'DtoH|DeviceToHost') THEN 'gpu_memcpy_d2h'
            ELSE 'gpu_memcpy_d2d'
        END
        WHEN kind = 'gpu' THEN IF(
            REGEXP_MATCHES(
                name,
                '(?i)(^|[^a-z])[nr]ccl|all_?reduce|all_?gather|reduce_?scatter|all_?to_?all'
                || '|cross_device_reduce|sendrecv'
            ),
            'gpu_comm',
            'gpu_compute'
        )
        WHEN kind = 'runtime' AND REGEXP_MATCHES(name, 'Synchronize') THEN 'cpu_sync'
        WHEN kind = 'operator' THEN 'cpu_compute'
        WHEN kind = 'slice' THEN name
        WHEN kind = 'syscall' THEN IF(lower_category = 'cat_disk', 'disk_read_and_write', 'syscall_memory')
    END AS function_class,
    kind IN ('python', 'annotation') AND last_name IN (
        'wait', 'wait_for', 'acquire', 'acquire_read', 'acquire_write', 'sleep', 'select', 'poll', 'epoll', 'recv',
        'recv_bytes', 'recv_into', 'recv_multipart', 'recv_pyobj', 'recv_requests', 'dequeue', 'get', 'join',
        'synchronize', 'barrier', 'result', 'idle', 'sched_yield', '_wait_for_tstate_lock'
    ) AS is_waiting,
    REGEXP_MATCHES(
        plain_name,
        '^(<built-in|torch/|asyncio|concurrent/|contextlib|functools|importlib|multiprocessing/|runpy|threading|socket)'
    ) AS is_plumbing,
    kind IN ('python', 'annotation') AND REGEXP_MATCHES(
        plain_name,
        '(^|/)vllm/(v1/)?worker/(gpu/|cpu_|gpu_|xpu_|tpu_)?model_runner\.py: execute_model$'
        || '|(^|/)sglang/srt/managers/scheduler\.py: run_batch$|^[Ss]cheduler\.run_batch$|^ProfilerStep$'
    ) AS is_step,
    CASE
        WHEN kind <> 'python' THEN NULL
        WHEN REGEXP_MATCHES(plain_name, '(^|/)vllm/v1/worker/.*\.py: add_requests?$') THEN 'prefill'
        WHEN REGEXP_MATCHES(plain_name, '(^|/)sglang/srt/model_executor/.*\.py: forward_extend$') THEN 'prefill'
        WHEN REGEXP_MATCHES(plain_name, '(^|/)sglang/srt/model_executor/.*\.py: forward_decode$') THEN 'decode'
        WHEN REGEXP_MATCHES(plain_name, '(^|\.)ModelRunner\.forward_extend$') THEN 'prefill'
        WHEN REGEXP_MATCHES(plain_name, '(^|\.)ModelRunner\.forward_decode$') THEN 'decode'
    END AS sign,
    events
FROM cut;
