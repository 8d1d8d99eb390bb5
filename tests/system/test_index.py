"""Indexes on all shards: hv_index_create(), hv_index_drop(), hv_index_list()."""

import contextlib
import random
import resource
import threading
import time

import psycopg2
import pytest

from harness import eventually, make_shards, store_config
from harness.store_tool import make_tool  # noqa: F401
from indexing import fill, finish_tool, groups, index_tool, indexes, start_tool

TYPES = {
    "text": "any",
    "smallint": "-32768",
    "integer": "5",
    "bigint": "9223372036854775807",
    "numeric": "1e100",
    "real": "NaN",
    "double precision": "1e-300",
    "boolean": "yes",
    "uuid": "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
    "date": "2026-11-27",
    "timestamp": "2026-11-27T22:00:00.5",
    "timestamptz": "2026-11-27 22:00:00+05:45",
}
HOSTILE = ["it's", 'a "b"', "back\\slash", "\\'; --", "%s %d", "é\u00a0", "SELECT", "with space", "$1"]


def definition(database, name, shard=1):
    return database.value(
        "SELECT indexdef FROM pg_indexes WHERE schemaname = %s AND indexname = %s",
        f"shard{shard:04}",
        name,
    )


def states(database):
    """{(schema, name): is it valid}"""
    rows = database.query(
        "SELECT n.nspname, c.relname, x.indisvalid AND x.indisready FROM pg_index x"
        " JOIN pg_class c ON c.oid = x.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname ~ '^shard[0-9]{4}$'"
    )
    return {(schema, name): valid for schema, name, valid in rows}


# ---- definitions ----


@pytest.mark.plain
def test_every_type_is_built_and_known_again(store, servers):
    """What the server prints for an index is compared with what it would print for the wanted one."""
    for shard in (1, 2):
        for number, (kind, value) in enumerate(TYPES.items()):
            servers[0].sql(
                f"INSERT INTO shard{shard:04}.entities (type, body) VALUES (%s, hstore('v', %s)),"
                " (%s, 'v => NULL'), (%s, 'w => 1')",
                *(number, value, number, number),
            )
    for number, kind in enumerate(TYPES):
        for more in ({}, {"unique": 1, "name": f"u{number}"}, {"name": f"k{number}"}):
            wanted = [store, "create", f"attribute=v:{kind}"]
            options = {"kind": number, "shards": "1-3", **more}
            built = index_tool(*wanted, **options, expression=1).ok()
            assert built.works == {"done": 2}, built
            assert index_tool(*wanted, **options).ok().works == {"unchanged": 2}
            plan = servers[0].query(
                "SET enable_seqscan = off; EXPLAIN SELECT FROM shard0001.entities"
                f" WHERE type = {number} AND {built.last['expression']} = %s",
                TYPES[kind],
            )
            assert "Index" in plan[0][0] and "Seq Scan" not in str(plan), plan
    assert all(states(servers[0]).values())


def test_hostile_attributes_and_names(store, servers):
    for number, text in enumerate(HOSTILE):
        wanted = [store, "create", f"attribute={text}", f"attribute={text}:bigint", f"name={text}"]
        for work in ("done", "unchanged"):
            assert index_tool(*wanted, kind=-number, shards="1").ok().works == {work: 1}
        servers[0].sql(
            "INSERT INTO shard0001.entities (type, body) VALUES (%s, hstore(%s, '5'))", -number, text
        )
    assert set(HOSTILE) < set(indexes(store, shards="1"))
    for text in HOSTILE:
        assert index_tool(store, "drop", f"name={text}", shards="1").ok().works == {"done": 1}
    assert list(indexes(store, shards="1")) == ["entities_pkey"]


@pytest.mark.parametrize("schema", ["public", 'h "x\\'])
def test_wherever_hstore_is(tmp_path, server, schema):
    quoted = '"' + schema.replace('"', '""') + '"'
    server.sql(f"CREATE SCHEMA IF NOT EXISTS {quoted}")
    server.sql(f"CREATE EXTENSION hstore SCHEMA {quoted}")
    config = store_config(tmp_path / "hypervault.conf", {"one": (server, "1-3")})
    make_shards(config, server)
    for wanted in (["attribute=a"], ["attribute=a:date", "kind=1"], ["all=1"]):
        assert index_tool(config, "create", *wanted).ok().works == {"done": 2}
        assert index_tool(config, "create", *wanted).ok().works == {"unchanged": 2}


READ = {
    "iso_date": {
        "2026-11-27": "2026-11-27",
        "0001-01-01": "0001-01-01",
    },
    "iso_timestamp": {
        "2026-11-27T22:00": "2026-11-27 22:00:00",
        "2026-11-27 22:00:01.25": "2026-11-27 22:00:01.25",
    },
    "iso_timestamptz": {
        "2026-11-27T22:00:00Z": "2026-11-27 22:00:00+00",
        "2026-11-27T22:00:00.5+0545": "2026-11-27 16:15:00.5+00",
        "2026-11-27 22:00-03": "2026-11-28 01:00:00+00",
    },
}
REFUSED = {
    "iso_date": ["now", "today", "epoch", "27.11.2026", "2026-11-27\n", "20261127", "26-11-27", ""],
    "iso_timestamp": ["now", "infinity", "2026-11-27", "2026-11-27T22:00Z", "2026-11-27T22"],
    "iso_timestamptz": ["now", "2026-11-27T22:00", "2026-11-27T22:00 Europe/Berlin", "x"],
}


@pytest.mark.plain
def test_dates_and_times_mean_the_same_whatever_the_settings(store, servers):
    kinds = ("date", "timestamp", "timestamptz")
    index_tool(store, "create", *(f"attribute=a:{kind}" for kind in kinds), shards="1").ok()
    styles = [("ISO, DMY", "Asia/Kathmandu"), ("German", "UTC"), ("SQL, MDY", "America/St_Johns")]
    for style, zone in styles:
        with servers[0].connect() as connection, connection.cursor() as cursor:
            cursor.execute("SET DateStyle TO %s; SET TimeZone TO %s", (style, zone))
            for function, values in READ.items():
                for text, meaning in values.items():
                    cursor.execute(f"SELECT hypervault.{function}(%s) = %s", (text, meaning))
                    assert cursor.fetchone()[0], (function, text)
            for function, values in REFUSED.items():
                for text in values:
                    with pytest.raises(psycopg2.errors.InvalidDatetimeFormat) as caught:
                        cursor.execute(f"SELECT hypervault.{function}(%s)", (text,))
                    assert "in the form of ISO 8601" in str(caught.value)
    with servers[0].connect() as connection, connection.cursor() as cursor:
        with pytest.raises(psycopg2.errors.DatetimeFieldOverflow):
            cursor.execute("SELECT hypervault.iso_date('2026-13-27')")
        cursor.execute("SELECT hypervault.iso_date(NULL)")
        assert cursor.fetchone() == (None,)


def test_a_function_of_another_role_is_not_used(store, servers):
    """Writers would run its code."""
    servers[0].sql(
        "CREATE ROLE mallory; GRANT CREATE, USAGE ON SCHEMA hypervault TO mallory; SET ROLE mallory;"
        " CREATE FUNCTION hypervault.iso_date(value text) RETURNS date LANGUAGE sql IMMUTABLE"
        " AS 'SELECT ''2000-01-01''::date'"
    )
    try:
        error = index_tool(store, "create", "attribute=d:date", shards="1").fails("HV_MISMATCH")
        assert "hypervault.iso_date() is not the one that the index needs" in error["message"]
        assert definition(servers[0], "entities_d_date_idx") is None
    finally:
        servers[0].sql("DROP OWNED BY mallory; DROP ROLE mallory")


def test_other_names_of_types(store):
    for alias, name in {"int8": "bigint", "timestamp with time zone": "timestamptz"}.items():
        built = index_tool(store, "create", f"attribute=a:{alias}", shards="1").ok()
        assert built.last["name"] == f"entities_a_{name}_idx"


def test_what_is_no_definition(store):
    def fails(*words, **options):
        return index_tool(store, "create", *words, **options).fails("HV_INVALID")["message"]

    assert fails() == "the index is on nothing: name an attribute"
    assert fails("attribute=a:money") == 'no index is made of values of type "money"'
    assert "too long" in fails("attribute=a", name="x" * 64)
    assert "on both" in fails("attribute=a", all=1)
    assert "only for hv_each_shard()" in fails("attribute=a", write="on")
    assert "too short" in index_tool(store, "drop", "name=").fails("HV_INVALID")["message"]


# ---- names that are taken ----


def test_a_name_that_another_index_or_table_has(store, servers):
    servers[0].sql("CREATE INDEX mine ON shard0003.entities (type)")
    servers[0].sql("CREATE TABLE shard0004.mine (a int); CREATE VIEW shard0005.mine AS SELECT 1")
    servers[0].sql("CREATE TABLE shard0006.t (a int); CREATE INDEX mine ON shard0006.t (a)")
    outcome = index_tool(
        store, "create", "attribute=a", name="mine", shards="1-9", max_failures="all"
    )
    outcome.fails("HV_MISMATCH")
    assert outcome.works == {"done": 4, "failed": 4}, outcome
    messages = {shard: error["message"] for shard, error in outcome.failures().items()}
    assert messages == {
        3: 'shard0003 has another index "mine"',
        4: 'the name "mine" is that of a table in shard0004',
        5: 'the name "mine" is that of a view in shard0005',
        6: 'the name "mine" is that of an index of another table in shard0006',
    }
    other = outcome.failures()[3]
    assert "USING btree (type)" in other["detail"] and "-> 'a'::text" not in other["hint"]
    assert (other["server"], other["shard"]) == ("one", 3)
    drop = index_tool(store, "drop", "name=mine", shards="1-9", max_failures="all")
    drop.fails("HV_INVALID")
    assert drop.works == {"done": 5, "failed": 3}
    assert servers[0].value("SELECT count(*) FROM pg_class WHERE relname = 'mine'") == 3


def test_drop_refuses_what_a_constraint_needs(store, servers):
    servers[0].sql("ALTER TABLE shard0001.entities ADD CONSTRAINT once UNIQUE (type)")
    for name in ("entities_pkey", "once"):
        error = index_tool(store, "drop", f"name={name}").fails("HV_INVALID")
        assert error["message"] == f'a constraint of shard0001.entities needs the index "{name}"'
    assert "needs the index" in error["message"]
    assert ("shard0001", "once") in states(servers[0])


def test_drop_from_the_shards_that_have_it(store):
    index_tool(store, "create", "attribute=a", shards="2-4,9-11").ok()
    dropped = index_tool(store, "drop", "name=entities_a_idx").ok()
    assert dropped.shards("done") == [2, 3, 9, 10]
    assert dropped.works == {"done": 4, "unchanged": 12}
    assert index_tool(store, "drop", "name=entities_a_idx").ok().works == {"unchanged": 16}


def test_list(store, servers):
    fill(servers[0], [1], 1000)
    index_tool(store, "create", "attribute=user", shards="1-5,9").ok()
    index_tool(store, "create", "all=1").ok()
    servers[1].sql("DROP INDEX shard0009.entities_all_idx")
    servers[1].sql("CREATE INDEX entities_all_idx ON shard0009.entities (type)")
    servers[0].sql("UPDATE pg_index SET indisvalid = false WHERE indexrelid ="
                   " 'shard0002.entities_user_idx'::regclass")
    listed = indexes(store)
    assert list(listed) == ["entities_pkey", "entities_all_idx", "entities_user_idx"]
    everything, user = listed["entities_all_idx"], listed["entities_user_idx"]
    assert [everything[k] for k in ("shards", "missing", "different", "different_in")] == [
        15, 0, 1, "9",
    ]
    assert everything["definition"].endswith("entities_all_idx ON @shard.entities USING gin (body)")
    assert [user[k] for k in ("shards", "missing", "invalid", "building", "invalid_in")] == [
        4, 11, 1, 0, "2",
    ]
    assert user["missing_in"] == "5-9,10-17"
    sizes = servers[0].value(
        "SELECT sum(pg_relation_size(c.oid)) FROM pg_class c WHERE relname = 'entities_user_idx'"
    ) + servers[1].value("SELECT pg_relation_size('shard0009.entities_user_idx')")
    assert user["bytes"] == sizes
    servers[0].sql(
        "SET enable_seqscan = off; SELECT FROM shard0001.entities WHERE (body -> 'user') = '5'"
    )
    eventually(lambda: indexes(store)["entities_user_idx"]["scans"] == 1, what="the scan is seen")
    assert indexes(store, shards="9")["entities_user_idx"]["shards"] == 1


# ---- interruptions ----


def build_large(config, **options):
    """Takes a while: eight shards, with enough in them."""
    return start_tool(config, "create", "attribute=user", "attribute=n:bigint", **options)


@pytest.fixture
def two_stores(tmp_path, servers):
    """The same shards on two servers, each a store of its own."""
    configs = []
    for server in servers:
        config = store_config(tmp_path / f"{server.dbname}.conf", {"one": (server, "1-9")})
        make_shards(config, server)
        fill(server, range(1, 9), 8000)
        configs.append(config)
    return configs


@pytest.mark.plain
def test_a_killed_build_is_finished_by_the_next_run(two_stores, servers):
    disturbed, undisturbed = two_stores
    random.seed(4711)
    begin = time.monotonic()
    finish_tool(build_large(undisturbed)).ok()
    whole = time.monotonic() - begin
    kills = 0
    for _ in range(12):
        process = build_large(disturbed)
        time.sleep(random.uniform(0.02, whole))
        process.kill()
        process.communicate()
        kills += process.returncode == -9
        if all(states(servers[0]).values()) and len(states(servers[0])) == 16:
            for shard in range(1, 9):
                servers[0].sql(f"DROP INDEX IF EXISTS shard{shard:04}.entities_user_n_bigint_idx")
    assert kills > 0
    finish_tool(build_large(disturbed)).ok()
    assert len(states(servers[0])) == 16 and all(states(servers[0]).values())
    (left,), (right,) = groups(disturbed), groups(undisturbed)
    assert left["digest"] == right["digest"]
    assert finish_tool(build_large(disturbed)).ok().works == {"unchanged": 8}


def test_backends_that_are_killed_meanwhile(two_stores, servers):
    process = build_large(two_stores[0], events=1)
    for _ in range(5):
        time.sleep(0.15)
        servers[0].terminate_clients()
    outcome = finish_tool(process)
    assert outcome.ok().works in ({"done": 8}, {"done": 7, "unchanged": 1})
    assert all(states(servers[0]).values())


def test_a_server_that_is_killed_meanwhile(tmp_path, make_server):
    database = make_server("one", tcp=True).create_database("test")
    config = store_config(tmp_path / "hypervault.conf", {"one": (database, "1-9")})
    make_shards(config, database)
    fill(database, range(1, 9), 8000)
    process = build_large(config, max_failures="all")
    time.sleep(0.4)
    database.server.kill9()
    database.server.start()
    finish_tool(process)
    index_tool(config, "create", "attribute=user", "attribute=n:bigint").ok()
    assert len(states(database)) == 16 and all(states(database).values())


def test_an_interrupted_build_ends_and_leaves_the_rest(two_stores, servers):
    with servers[0].connect() as other:
        other.cursor().execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1")  # builds wait
        outcome = finish_tool(build_large(two_stores[0], events=1, interrupt=1))
    assert outcome.status == "HV_TIMEOUT" and "interrupted" in outcome.error["message"]
    assert outcome.works["not begun"] > 0 and outcome.works["failed"] == 1, outcome
    finish_tool(build_large(two_stores[0])).ok()
    assert len(states(servers[0])) == 16 and all(states(servers[0]).values())


def test_two_runs_at_once(two_stores, servers):
    processes = [build_large(two_stores[0], canary="off") for _ in range(3)]
    outcomes = [finish_tool(process).ok() for process in processes]
    assert sum(outcome.works.get("done", 0) for outcome in outcomes) == 8, outcomes
    assert len(states(servers[0])) == 16 and all(states(servers[0]).values())


def test_an_index_that_is_not_valid_is_built_again(store, servers):
    servers[0].sql(
        "INSERT INTO shard0002.entities (type, body) VALUES (1, 'user => 1'), (1, 'user => 1')"
    )
    with pytest.raises(psycopg2.errors.UniqueViolation):
        servers[0].sql(
            "CREATE UNIQUE INDEX CONCURRENTLY entities_user_idx ON shard0002.entities ((body->'user'))"
        )
    assert states(servers[0])["shard0002", "entities_user_idx"] is False
    outcome = index_tool(store, "create", "attribute=user").ok()
    assert outcome.works == {"done": 16}
    assert states(servers[0])["shard0002", "entities_user_idx"]
    assert indexes(store)["entities_user_idx"]["shards"] == 16


# ---- values ----


def test_values_that_do_not_fit_are_found(store, servers):
    fill(servers[0], [3], 12000)
    key = 7001 << 23 | 3 << 10
    servers[0].sql(
        "UPDATE shard0003.entities SET body = body || 'user => \"n/a\"' WHERE id = %s", key
    )
    outcome = index_tool(store, "create", "attribute=user:bigint", shards="1-5", max_failures="all")
    error = outcome.fails("HV_REFUSED")
    assert error["message"] == 'invalid input syntax for type bigint: "n/a"'
    assert error["detail"] == f"The entity with key {key} has it."
    assert (error["server"], error["shard"], error["sqlstate"]) == ("one", 3, "22P02")
    assert outcome.works == {"done": 3, "failed": 1}
    assert ("shard0003", "entities_user_bigint_idx") not in states(servers[0])
    servers[0].sql("DELETE FROM shard0003.entities WHERE id = %s", key)
    again = index_tool(store, "create", "attribute=user:bigint", shards="1-5").ok()
    assert again.shards("done") == [3]


def test_dates_that_do_not_fit_are_found(store, servers):
    servers[0].sql("INSERT INTO shard0001.entities (id, type, body) VALUES (77, 1, 'd => today')")
    servers[0].sql("INSERT INTO shard0001.entities (id, type, body) VALUES (76, 2, 'd => today')")
    index_tool(store, "create", "attribute=d:date", kind=3, shards="1").ok()
    error = index_tool(store, "create", "attribute=d:date", kind=1).fails("HV_REFUSED")
    assert error["message"] == 'not a date in the form of ISO 8601: "today"'
    assert error["detail"] == "The entity with key 77 has it."


def test_values_that_are_not_unique_are_found(store, servers):
    fill(servers[0], [1], 100)
    error = index_tool(store, "create", "attribute=user", unique=1).fails("HV_REFUSED")
    assert error["message"] == 'could not create unique index "entities_user_key"'
    twins = error["detail"].split("The entities with the keys ")[1].split()
    first, second = int(twins[0]), int(twins[2])
    users = servers[0].query(
        "SELECT body -> 'user' FROM shard0001.entities WHERE id IN (%s, %s)", first, second
    )
    assert first != second and users[0] == users[1]
    assert ("shard0001", "entities_user_key") not in states(servers[0])


def test_values_that_are_too_long_are_found(store, servers):
    long = "".join(random.Random(1).choices("0123456789abcdefghijklmnopqrstuvwxyz", k=6000))
    servers[0].sql(
        "INSERT INTO shard0001.entities (id, type, body) VALUES (5, 1, hstore('t', %s)),"
        " (6, 1, 't => short')",
        long,
    )
    error = index_tool(store, "create", "attribute=t").fails("HV_REFUSED")
    assert "exceeds btree version 4 maximum" in error["message"]
    assert "those of the entity with key 5." in error["detail"]


# ---- other transactions ----


@contextlib.contextmanager
def long_transaction(database, sql):
    with database.connect(application_name="long report") as connection:
        connection.autocommit = False
        with connection.cursor() as cursor:
            cursor.execute(sql)
            yield connection


def test_a_build_that_a_long_transaction_keeps_waiting(store, servers):
    old_snapshot = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT FROM pg_class"
    with long_transaction(servers[0], old_snapshot) as connection:
        pid = connection.info.backend_pid
        outcome = index_tool(
            store, "create", "attribute=a", shards="1-3", events=1, max_wait=1500
        )
        error = outcome.fails("HV_TIMEOUT")
        assert error["message"].endswith('kept the index "entities_a_idx" from being built for 1.5 s')
        assert f"process {pid} (long report, idle in transaction for" in error["detail"]
        waits = [event for event in outcome.events if event["work"] == "waiting"]
        assert waits and all(event["shard"] == 1 for event in waits)
        assert f"process {pid} (long report" in waits[-1]["waits_for"]
        assert waits[-1]["step"] == "waiting for old snapshots"
        assert outcome.works == {"failed": 1, "not begun": 1}
        assert ("shard0001", "entities_a_idx") not in states(servers[0])
    index_tool(store, "create", "attribute=a", shards="1-3").ok()


def test_waiting_takes_no_time_of_the_processor(store, servers):
    """The canary waits for a transaction, and the shards of the other server for the canary."""
    old_snapshot = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT FROM pg_class"
    with long_transaction(servers[0], old_snapshot):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        index_tool(store, "create", "attribute=a", max_wait=2000).fails("HV_TIMEOUT")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.5


@pytest.mark.plain
def test_a_build_waits_no_longer_for_several_than_for_one(store, servers):
    """First for a writer of the table, then for an older snapshot."""
    old_snapshot = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT FROM pg_class"
    with long_transaction(servers[0], old_snapshot) as reader:
        pid = reader.info.backend_pid
        with long_transaction(servers[0], "LOCK shard0001.entities IN ROW EXCLUSIVE MODE") as writer:
            process = start_tool(
                store, "create", "attribute=a", shards="1", events=1, max_wait=4000
            )
            begin = time.monotonic()
            line = b""
            while b"waiting for writers before build" not in line:
                line = process.stdout.readline()
                assert line
            time.sleep(max(0, begin + 2.5 - time.monotonic()))
            writer.rollback()
        outcome = finish_tool(process)
        took = time.monotonic() - begin
    error = outcome.fails("HV_TIMEOUT")
    assert f"process {pid} (long report" in error["detail"]
    assert 3.5 < took < 6, took


@pytest.mark.plain
def test_what_cannot_be_removed_is_said_and_removed_later(store, servers):
    """The transaction has written to the table, so that not even a drop can pass it."""
    with long_transaction(servers[0], "LOCK shard0001.entities IN ROW EXCLUSIVE MODE"):
        outcome = index_tool(store, "create", "attribute=a", shards="1-3", max_wait=300)
        error = outcome.fails("HV_TIMEOUT")
    assert states(servers[0])["shard0001", "entities_a_idx"] is False
    assert "An index that is not valid is left in shard0001" in error["hint"]
    index_tool(store, "create", "attribute=a", shards="1-3").ok()
    assert states(servers[0])["shard0001", "entities_a_idx"]


def test_a_run_waits_for_another_ones_lock(store, servers):
    lock_class = 26744  # of schema/shard_sql.h
    with long_transaction(servers[0], f"SELECT pg_advisory_lock({lock_class}, 1)") as connection:
        process = start_tool(store, "create", "attribute=a", shards="1", events=1)
        line = process.stdout.readline()
        while b"is working on shard0001" not in line:
            assert line, "no event says what it waits for"
            line = process.stdout.readline()
        connection.rollback()
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT pg_advisory_unlock({lock_class}, 1)")
    assert finish_tool(process).ok().works == {"done": 1}


def test_a_run_waits_for_a_build_by_hand(store, servers):
    """However often it has to look, it finds in the end that all is done."""
    by_hand = threading.Thread(
        target=servers[0].sql,
        args=[
            "CREATE INDEX CONCURRENTLY entities_a_idx ON shard0001.entities"
            " ((body OPERATOR(public.->) 'a'::text), id)"
        ],
    )
    with long_transaction(servers[0], "LOCK shard0001.entities IN ROW EXCLUSIVE MODE") as holder:
        by_hand.start()
        eventually(lambda: states(servers[0]).get(("shard0001", "entities_a_idx")) is False)
        process = start_tool(store, "create", "attribute=a", shards="1", events=1)
        waits = 0
        while waits < 8:
            line = process.stdout.readline()
            assert line, "it does not wait for the other build"
            waits += b'"step":"building"' in line.replace(b": ", b":")
        holder.rollback()
    by_hand.join()
    assert finish_tool(process).ok().works == {"unchanged": 1}


@pytest.mark.plain
def test_writers_go_on(two_stores, servers):
    written, slowest, stop = [], [0.0], threading.Event()

    def write(shard):
        with servers[0].connect() as connection, connection.cursor() as cursor:
            while not stop.is_set():
                begin = time.monotonic()
                cursor.execute(
                    f"INSERT INTO shard{shard:04}.entities (type, body) VALUES (1, 'user => w')"
                )
                slowest[0] = max(slowest[0], time.monotonic() - begin)
                written.append(shard)

    threads = [threading.Thread(target=write, args=(shard,)) for shard in (1, 2, 3, 4)]
    for thread in threads:
        thread.start()
    try:
        outcome = finish_tool(build_large(two_stores[0]))
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert outcome.ok().works == {"done": 8}
    assert slowest[0] < 1, slowest
    total = 0
    with servers[0].connect() as connection, connection.cursor() as cursor:
        cursor.execute("SET enable_seqscan = off; SET enable_bitmapscan = off")
        for shard in (1, 2, 3, 4):
            cursor.execute(
                f"SELECT count(*) FROM shard{shard:04}.entities WHERE (body -> 'user') = 'w'"
            )
            total += cursor.fetchone()[0]
    assert total == len(written)


def test_the_observer_sees_how_far_a_build_is(store, servers):
    fill(servers[0], [1], 150_000)
    outcome = index_tool(
        store, "create", "attribute=user", "attribute=n:numeric", shards="1", events=1
    ).ok()
    steps = [event for event in outcome.events if event["step"]]
    assert steps and all(event["shard"] == 1 for event in steps)
    assert any(event["step"].startswith(("building index", "index validation")) for event in steps)
    assert all(-1 <= event["share"] <= 1 for event in steps)
    assert [event["work"] for event in outcome.events if not event["step"]] == ["running", "done"]


# ---- servers and roles ----


def test_a_server_that_is_down(own_store, own_servers):
    own_servers[1].server.stop()
    outcome = index_tool(own_store, "create", "attribute=a", max_failures="all")
    assert outcome.works == {"done": 8, "failed": 8}
    assert {error["server"] for error in outcome.failures().values()} == {"two"}
    assert index_tool(own_store, "create", "attribute=a", skip="two").ok().works == {"unchanged": 8}
    assert index_tool(own_store, "list").status == "HV_UNAVAILABLE"
    own_servers[1].server.start()
    assert index_tool(own_store, "create", "attribute=a").ok().works == {"done": 8, "unchanged": 8}


def test_a_role_without_rights(tmp_path, store, server):
    server.sql(
        "CREATE ROLE guest LOGIN; GRANT USAGE ON SCHEMA hypervault, shard0001 TO guest;"
        " GRANT SELECT ON hypervault.layout, shard0001.entities TO guest"
    )
    try:
        config = store_config(
            tmp_path / "guest.conf", {"one": (server.params(user="guest"), "1-9")}
        )
        outcome = index_tool(config, "create", "attribute=a", shards="1-3")
        error = outcome.fails("HV_REFUSED")
        assert error["message"] == "must be owner of table entities"
        assert (error["sqlstate"], error["shard"]) == ("42501", 1)
        assert outcome.works == {"failed": 1, "not begun": 1}
        assert "entities_pkey" in indexes(config, shards="1-3")
    finally:
        server.sql("DROP OWNED BY guest; DROP ROLE guest")


def test_a_shard_that_is_not_there(tmp_path, store, server):
    config = store_config(tmp_path / "more.conf", {"one": (server, "1-10")})
    outcome = index_tool(config, "create", "attribute=a", max_failures="all")
    assert outcome.works == {"done": 8, "failed": 1}
    assert outcome.failures()[9]["status"] == "HV_NOT_INITIALIZED"
    assert index_tool(config, "list", shards="9").status == "HV_NOT_INITIALIZED"
    listed = indexes(config)["entities_a_idx"]
    assert (listed["shards"], listed["missing"], listed["missing_in"]) == (8, 1, "9")
