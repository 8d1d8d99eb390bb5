"""hv_doctor() and hv doctor: what would keep shards from moving."""


import asyncio

from harness import eventually, hv, make_shards, python, store_config
from harness.moving import (  # noqa: F401
    moving_config,
    moving_servers,
    moving_store,
    own_moving_servers,
    reached,
    shared_moving_servers,
)


def findings(config, *args):
    """[(severity, server, other server, shard, text)] and the whole answer."""
    result = hv("doctor", "--json", *args, config=config)
    report = result.json()
    assert result.code == (0 if report["ready"] else 1)
    return [
        (each["severity"], each["server"], each.get("source"), each.get("shard"), each["text"])
        for each in report["findings"]
    ], report


def test_servers_that_are_ready_have_no_findings(moving_store):
    assert findings(moving_store)[0] == []
    assert "nothing is in the way" in hv("doctor", config=moving_store).ok().out
    assert findings(moving_store, "--from", "one", "--to", "two", "--shard", "2")[0] == []
    assert hv("doctor", "--from", "three", config=moving_store).code == 2
    elsewhere = hv("doctor", "--from", "two", "--shard", "2", config=moving_store)
    assert elsewhere.code == 2 and 'shard 2 is not on server "two"' in elsewhere.err


def test_tables_that_would_never_be_copied(moving_store, moving_servers):
    two = moving_servers[1]
    two.sql("ALTER SYSTEM SET max_sync_workers_per_subscription TO 0")
    try:
        two.sql("SELECT pg_reload_conf()")
        wanted = "max_sync_workers_per_subscription is 0"
        eventually(lambda: wanted in str(findings(moving_store, "--to", "two")[0]))
    finally:
        two.sql("ALTER SYSTEM RESET max_sync_workers_per_subscription")
        two.sql("SELECT pg_reload_conf()")


def test_a_server_that_is_down_is_not_the_end(own_moving_servers, tmp_path):
    one, two = own_moving_servers
    make_shards(moving_config(tmp_path / "plain.conf", one, two), one, two)
    config = moving_config(tmp_path / "checking.conf", one, two, check_servers="on")
    two.server.stop()
    found, _ = findings(config)
    assert [server for _, server, *_ in found] == ["two"] and "could not connect" in str(found)


def test_nothing_stays(moving_store, moving_servers):
    findings(moving_store)
    for database in moving_servers:
        assert database.value("SELECT count(*) FROM pg_subscription WHERE subname ~ 'doctor'") == 0
        assert database.value("SELECT count(*) FROM pg_replication_slots") == 0


def test_settings_of_servers_that_were_not_made_for_it(store):
    found, report = findings(store)
    assert "wal_level is replica" in str(found)
    assert not report["ready"]
    assert {server for _, server, *_ in found} == {"one", "two"}
    for each in report["findings"]:
        assert each["hint"]


def test_a_target_that_cannot_connect(moving_servers, tmp_path):
    one, two = moving_servers
    servers = {"one": (reached(one), "1-4"), "two": (reached(two), "5-8")}
    config = store_config(tmp_path / "a.conf", servers)
    make_shards(config, one, two)
    servers["one"][0]["move_password"] = "wrong-password"
    config = store_config(tmp_path / "b.conf", servers)
    found, report = findings(config)
    (text,) = {text for *_, text in found}
    assert text == 'it cannot connect to server "one" as a subscriber'
    assert [(severity, server, other) for severity, server, other, *_ in found] == [
        ("error", "two", "one")
    ]
    assert "password" in report["findings"][0]["detail"]
    assert "wrong-password" not in hv("doctor", "--json", config=config).out
    for database in moving_servers:
        assert "wrong-password" not in database.server.log_text(0)


def test_what_is_in_shards_and_databases(moving_store, moving_servers):
    one, two = moving_servers
    one.sql("CREATE UNLOGGED TABLE shard0002.temporary (id bigint PRIMARY KEY)")
    one.sql("CREATE PUBLICATION everything FOR ALL TABLES")
    one.sql("CREATE ROLE hv_doctor_reader; GRANT SELECT ON shard0001.entities TO hv_doctor_reader")
    two.sql("CREATE SCHEMA hypervault_0002_0123abcd")
    two.sql("ALTER DATABASE %s SET statement_timeout = '5s'" % two.dbname)
    try:
        found, report = findings(moving_store)
    finally:
        one.sql("DROP OWNED BY hv_doctor_reader; DROP ROLE hv_doctor_reader")
    known = {(severity, server): [] for severity, server, *_ in found}
    for severity, server, _, _, text in found:
        known[severity, server].append(text)
    assert ["shard 2 has tables that are neither plain nor permanent"] == known["error", "one"]
    assert "the publication everything is for all tables" in known["warning", "one"]
    assert "1 role of its shards is missing here: hv_doctor_reader" in known["error", "two"]
    assert "the schema hypervault_0002_0123abcd is left over from a move" in known["warning", "two"]
    assert any("statement_timeout=5s is set for the database" in t for t in known["warning", "two"])
    left = [each for each in report["findings"] if "left over" in each["text"]]
    assert "CASCADE" in left[0]["hint"]
    assert "1 error keeps shards from moving" in hv("doctor", config=moving_store).out


def test_long_transactions_are_named(moving_store, moving_servers):
    one, _ = moving_servers
    one.sql("CREATE TABLE held (id integer)")
    with one.connect() as connection, connection.cursor() as cursor:
        cursor.execute("BEGIN; INSERT INTO held VALUES (1)")
        assert findings(moving_store)[0] == []  # not long yet


def test_python_has_it_too(moving_store, moving_servers):
    python.provide()
    from hv import aio
    from hv.datastore import Datastore

    db = Datastore.from_config(moving_store)
    try:
        assert db.doctor() == db.doctor("one", "two", 2) == []
        moving_servers[0].sql("CREATE UNLOGGED TABLE shard0002.temporary (id bigint PRIMARY KEY)")
        (found,) = db.doctor(source="one")
        assert (found["severity"], found["server"], found["shard"]) == ("error", "one", 2)
        assert "source" not in found and found["hint"]
        assert db.doctor(shard_id=1) == []

        async def ask():
            async with aio.Session(db) as session:
                return await session.doctor(target="two")

        assert asyncio.run(ask()) == [found]
    finally:
        db.close()


def test_a_server_that_is_down_is_a_finding(own_moving_servers, tmp_path):
    one, two = own_moving_servers
    config = moving_config(tmp_path / "own.conf", one, two)
    make_shards(config, one, two)
    two.server.stop()
    found, _ = findings(config)
    assert [(severity, server) for severity, server, *_ in found] == [("error", "two")]


def test_one_database_under_two_names(moving_servers, tmp_path):
    one, _ = moving_servers
    servers = {"server 1": (reached(one), "1-4"), "server 2": (reached(one), "")}
    config = store_config(tmp_path / "one.conf", servers)
    hv("init", config=config).ok()
    found, _ = findings(config)
    assert ("error", "server 2", "server 1", None) in [each[:4] for each in found]
    assert 'it is the same database as server "server 1"' in str(found)
