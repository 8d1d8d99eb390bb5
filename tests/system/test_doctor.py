"""hv_doctor() and hv doctor: what would keep shards from moving."""


import asyncio
import contextlib

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
    logged = {database: len(database.server.log_text()) for database in moving_servers}
    findings(moving_store)
    for database in moving_servers:
        assert "password" not in database.server.log_text(logged[database])
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
    assert 'role "hv_doctor_reader" does not exist here' in known["error", "two"]
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


@contextlib.contextmanager
def setting(database, name, value):
    """A setting of the server, which need not be restarted for it."""
    database.sql(f"ALTER SYSTEM SET {name} TO '{value}'")
    database.sql("SELECT pg_reload_conf()")
    try:
        eventually(lambda: database.value(f"SHOW {name}") == value)
        yield
    finally:
        database.sql(f"ALTER SYSTEM RESET {name}")
        database.sql("SELECT pg_reload_conf()")
        eventually(lambda: database.value(f"SHOW {name}") != value)


def texts(config, *args):
    """{(severity, server): {text}}"""
    known = {}
    for severity, server, _, _, text in findings(config, *args)[0]:
        known.setdefault((severity, server), set()).add(text)
    return known


def test_few_slots_are_a_warning_and_too_few_an_error(moving_store, moving_servers):
    one, _ = moving_servers
    most = one.value("SHOW max_replication_slots")
    names = []
    try:
        while len(names) < int(most) - 2:
            names.append(f"hv_doctor_{len(names)}")
            one.sql(f"SELECT pg_create_physical_replication_slot('{names[-1]}')")
        few = f"{len(names)} of {most} replication slots are taken"
        assert texts(moving_store, "--from", "one") == {("warning", "one"): {few}}
        names.append("hv_doctor_more")
        one.sql("SELECT pg_create_physical_replication_slot('hv_doctor_more')")
        few = f"{len(names)} of {most} replication slots are taken"
        assert texts(moving_store, "--from", "one") == {("error", "one"): {few}}
        # A move that has some gives them back: another one may wait for it.
        one.sql("SELECT pg_drop_replication_slot('hv_doctor_more')")
        one.sql("SELECT pg_create_physical_replication_slot('hypervault_0001_0123abcd')")
        names[-1] = "hypervault_0001_0123abcd"
        assert few in texts(moving_store, "--from", "one")[("warning", "one")]
    finally:
        for name in names:
            one.sql(f"SELECT pg_drop_replication_slot('{name}')")


def test_time_outs_of_the_stream(moving_store, moving_servers):
    one, two = moving_servers
    with setting(one, "wal_sender_timeout", "0"), setting(two, "wal_receiver_timeout", "2s"):
        assert texts(moving_store, "--from", "one") == {
            ("warning", "one"): {"wal_sender_timeout is 0"},
            ("warning", "two"): {"wal_receiver_timeout is 2s"},
        }


def test_event_triggers(moving_store, moving_servers):
    _, two = moving_servers
    two.sql(
        "CREATE FUNCTION public.watch() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';"
        "CREATE EVENT TRIGGER watch ON ddl_command_end EXECUTE FUNCTION public.watch()"
    )
    wanted = {"the event trigger watch runs at ddl_command_end"}
    assert texts(moving_store, "--to", "two") == {("warning", "two"): wanted}
    two.sql("ALTER EVENT TRIGGER watch DISABLE")
    assert texts(moving_store) == {}


def test_versions_of_extensions_and_collations(moving_store, moving_servers):
    one, two = moving_servers
    two.sql("UPDATE pg_extension SET extversion = '1.0' WHERE extname = 'hstore'")
    version = one.value("SELECT extversion FROM pg_extension WHERE extname = 'hstore'")
    for database, its in ((one, "2.31"), (two, "2.36")):
        database.sql(
            f"UPDATE pg_database SET datcollversion = '{its}' WHERE datname = current_database()"
        )
    assert texts(moving_store, "--to", "two") == {
        ("warning", "two"): {
            f"its extension hstore has version 1.0, not {version}",
            "its database's collation has version 2.36, not 2.31",
        }
    }


def test_collations_that_have_changed(moving_store, moving_servers):
    one, _ = moving_servers
    one.sql(
        "CREATE TABLE shard0002.names (id bigint PRIMARY KEY, n text COLLATE \"de-x-icu\","
        ' m text COLLATE "fr-x-icu")'
    )
    one.sql("UPDATE pg_collation SET collversion = '1' WHERE collname = 'de-x-icu'")
    wanted = "collations of its columns have another version now: de-x-icu"
    assert findings(moving_store)[0] == [("warning", "one", None, 2, wanted)]
    # That of the database itself:
    database = one.server.create_database(template="template0", more="LOCALE_PROVIDER icu ICU_LOCALE 'de'")
    try:
        database.sql("UPDATE pg_database SET datcollversion = '1' WHERE datname = current_database()")
        config = str(moving_store) + ".icu"
        store_config(config, {"three": (reached(database), "1-3")})
        hv("init", config=config).ok()
        (found,) = {text for text in texts(config)[("warning", "three")] if "collation" in text}
        assert found.startswith("its database was made with version 1 of its collation"), found
    finally:
        database.drop()


def test_large_objects(moving_store, moving_servers):
    one, _ = moving_servers
    one.sql("CREATE TABLE shard0002.files (id bigint PRIMARY KEY, data oid)")
    assert texts(moving_store) == {}
    one.sql("SELECT lo_create(0)")
    wanted = "these columns may refer to large objects: shard0002.files.data"
    assert findings(moving_store)[0] == [("warning", "one", None, 2, wanted)]


def test_the_space_that_a_large_shard_needs(moving_store, moving_servers):
    one, _ = moving_servers
    one.sql("CREATE TABLE shard0002.wide (id bigint PRIMARY KEY, filler text) WITH (fillfactor = 10)")
    one.sql(
        "INSERT INTO shard0002.wide SELECT n, repeat('x', 1000) FROM generate_series(1, 9000) AS n"
    )
    found, report = findings(moving_store)
    ((severity, server, other, shard, text),) = found
    assert (severity, server, other, shard) == ("note", "one", None, 2)
    assert text.startswith("the largest one, shard 2 has ") and text.endswith(" MB")
    assert "df" in report["findings"][0]["hint"] and report["ready"]
    assert "nothing is in the way" in hv("doctor", config=moving_store).ok().out
    (((_, _, _, _, text),), _) = findings(moving_store, "--shard", "2")
    assert text.startswith("shard 2 has ")
    assert findings(moving_store, "--shard", "1")[0] == []


def test_roles_of_another_shard(moving_store, moving_servers):
    one, _ = moving_servers
    one.sql("CREATE ROLE hv_doctor_other; GRANT SELECT (type) ON shard0001.entities TO hv_doctor_other")
    try:
        assert texts(moving_store, "--shard", "1") == {
            ("error", "two"): {'role "hv_doctor_other" does not exist here'}
        }
        assert texts(moving_store, "--shard", "2") == {}
    finally:
        one.sql("DROP OWNED BY hv_doctor_other; DROP ROLE hv_doctor_other")


def test_prepared_transactions_are_named(moving_store, moving_servers):
    one, _ = moving_servers
    one.sql("BEGIN; CREATE TABLE public.held (id integer); PREPARE TRANSACTION 'hv doctor'")
    try:
        assert findings(moving_store)[0] == []  # not long yet
    finally:
        one.sql("ROLLBACK PREPARED 'hv doctor'")
