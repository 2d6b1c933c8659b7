-- One row per rank of a communicator and other rank that it exchanges data with.
-- Grain: (run_id, communicator, rank, relation, peer_rank).
CREATE TABLE communicator_peers (
    run_id VARCHAR,
    communicator VARCHAR,
    rank BIGINT,
    relation VARCHAR,
    peer_rank BIGINT,
    calls BIGINT,
    hostname VARCHAR,
    pid BIGINT,
    device VARCHAR,
    peer_hostname VARCHAR,
    peer_pid BIGINT,
    peer_device VARCHAR
);
COMMENT ON TABLE communicator_peers IS 'One rank of a communicator (NCCL) and another that it exchanges data with.';
COMMENT ON COLUMN communicator_peers.run_id IS 'run it belongs to; key of runs';
COMMENT ON COLUMN communicator_peers.communicator IS 'communicator as recorded: its hash, or the name of the process group';
COMMENT ON COLUMN communicator_peers.rank IS 'rank in the communicator';
COMMENT ON COLUMN communicator_peers.relation IS 'how they are connected: ring previous, ring next, tree up, tree down, or group where only its members are recorded';
COMMENT ON COLUMN communicator_peers.peer_rank IS 'the other''s rank';
COMMENT ON COLUMN communicator_peers.calls IS 'recorded calls that say so';
COMMENT ON COLUMN communicator_peers.hostname IS 'host of the rank; NULL where the source does not tell';
COMMENT ON COLUMN communicator_peers.pid IS 'process of the rank; NULL where the source does not tell';
COMMENT ON COLUMN communicator_peers.device IS 'GPU n of the rank; NULL where the source does not tell';
COMMENT ON COLUMN communicator_peers.peer_hostname IS 'host of the other; NULL where it was not recorded';
COMMENT ON COLUMN communicator_peers.peer_pid IS 'process of the other; NULL where it was not recorded';
COMMENT ON COLUMN communicator_peers.peer_device IS 'GPU n of the other; NULL where it was not recorded';
