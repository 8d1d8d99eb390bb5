"""hv status on servers with many shards, and for roles that may see little."""

import psycopg2

from harness import hv, store_config


def _status(config):
    (server,) = hv("status", "--json", config=config).ok().json()["servers"]
    return server


def test_status_counts_many_shards_without_using_up_the_locks_of_the_server(make_server, tmp_path):
    settings = {
        "max_locks_per_transaction": "10",
        "max_connections": "10",
        "max_prepared_transactions": "0",
        "max_worker_processes": "0",
        "max_wal_senders": "0",
    }
    database = make_server(settings=settings).create_database()
    config = store_config(tmp_path / "hypervault.conf", {"one": (database, "0-700")})
    hv("init", config=config).ok()
    for shard in (0, 350, 699):
        hv("put", shard, 1, "a=b", config=config).ok()
    server = _status(config)
    assert server["shards_ready"] == 700
    assert all(shard["exact"] for shard in server["shards"])
    filled = [shard["shard_id"] for shard in server["shards"] if shard["entities"] == 1]
    assert filled == [0, 350, 699]


def test_a_role_that_sees_only_its_own_sessions_counts_all_connections(make_server, tmp_path):
    database = make_server().create_database()
    database.sql("CREATE ROLE plain LOGIN")
    config = store_config(tmp_path / "hypervault.conf", {"one": (database, "1-3")})
    hv("init", config=config).ok()
    database.sql("GRANT USAGE ON SCHEMA hypervault TO plain")
    database.sql("GRANT SELECT ON hypervault.layout TO plain")
    held = [psycopg2.connect(**database.params()) for _ in range(4)]
    plain = store_config(
        tmp_path / "plain.conf", {"one": (database.params(user="plain"), "1-3")}
    )
    assert _status(config)["connections"] == _status(plain)["connections"] == 5
    for connection in held:
        connection.close()
