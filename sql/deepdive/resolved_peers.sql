-- One row per rank of a communicator and peer: who the peer is, where it was recorded too.
-- Grain: (run_id, communicator, rank, relation, peer_rank). Reads: communicator_peers. Params: none.
UPDATE communicator_peers SET
    peer_hostname = found.hostname, peer_pid = found.pid, peer_device = found.device
FROM (
    SELECT communicator, rank, ANY_VALUE(hostname) AS hostname, ANY_VALUE(pid) AS pid, ANY_VALUE(device) AS device
    FROM communicator_peers
    GROUP BY communicator, rank
) AS found
WHERE found.communicator = communicator_peers.communicator AND found.rank = communicator_peers.peer_rank;
