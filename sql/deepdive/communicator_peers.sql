-- One row per rank of a communicator and peer that one trace tells: by its calls, or by the group of a kernel.
-- Grain: (run_id, communicator, rank, relation, peer_rank). Reads: the trace's events, runs, files.
-- Params: $paths, $file_name.
-- The published profiler records each call's ring and tree neighbours; torch's the ranks of the process group.
INSERT INTO communicator_peers BY NAME
WITH
told AS (
    SELECT
        args ->> '$.commHash' AS communicator,
        TRY_CAST(args ->> '$.rank' AS BIGINT) AS rank,
        ANY_VALUE(COALESCE(args ->> '$.hostname', NULLIF(REGEXP_EXTRACT(process, '^(.*)\([0-9.e+]+\)$', 1), '')))
            AS hostname,
        ANY_VALUE(pid) AS pid,
        ANY_VALUE('GPU ' || TRY_CAST(args ->> '$.cudaDev' AS BIGINT)) AS device,
        [
            {relation: 'ring previous', peer: args ->> '$.rp'}, {relation: 'ring next', peer: args ->> '$.rn'},
            {relation: 'tree down', peer: args ->> '$.td0'}, {relation: 'tree down', peer: args ->> '$.td1'},
            {relation: 'tree down', peer: args ->> '$.td2'}, {relation: 'tree up', peer: args ->> '$.tu'}
        ] AS peers,
        COUNT(*) AS calls
    FROM READ_PARQUET($paths)
    WHERE phase = 'X' AND category = 'CAT_APP' AND STARTS_WITH(name, 'nccl')
    GROUP BY ALL
),

grouped AS (
    SELECT
        COALESCE(args ->> '$."Process Group Name"', args ->> '$."Process Group Ranks"') AS communicator,
        args ->> '$."Process Group Ranks"' AS ranks,
        ANY_VALUE('GPU ' || device) AS device,
        COUNT(*) AS calls
    FROM READ_PARQUET($paths)
    WHERE phase = 'X' AND category = 'kernel' AND name ILIKE '%nccl%' AND CONTAINS(args, '"Process Group Ranks"')
    GROUP BY ALL
),

own AS (
    SELECT
        TRY_CAST(f.head ->> '$.distributedInfo.rank' AS BIGINT) AS rank,
        f.head ->> '$.host_name' AS hostname,
        (SELECT MIN(p.pid) FROM processes AS p INNER JOIN spans AS s USING (file_number, process)
         WHERE s.file_name = f.name) AS pid
    FROM files AS f
    WHERE f.name = $file_name
),

found AS (
    SELECT communicator, rank, hostname, pid, device, calls, UNNEST(peers, recursive := TRUE) FROM told
    UNION ALL BY NAME
    SELECT
        g.communicator, o.rank, o.hostname, o.pid, g.device, g.calls,
        'group' AS relation, UNNEST(TRY_CAST(g.ranks AS VARCHAR[])) AS peer
    FROM grouped AS g
    CROSS JOIN own AS o
)

SELECT
    r.run_id, f.communicator, f.rank, f.relation, TRY_CAST(f.peer AS BIGINT) AS peer_rank, SUM(f.calls) AS calls,
    ANY_VALUE(f.hostname) AS hostname, ANY_VALUE(f.pid) AS pid, ANY_VALUE(f.device) AS device
FROM found AS f
CROSS JOIN runs AS r
WHERE f.communicator IS NOT NULL AND f.rank IS NOT NULL
  AND TRY_CAST(f.peer AS BIGINT) >= 0 AND TRY_CAST(f.peer AS BIGINT) <> f.rank
GROUP BY r.run_id, f.communicator, f.rank, f.relation, TRY_CAST(f.peer AS BIGINT);
