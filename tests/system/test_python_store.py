"""The methods that users of the old package know, and the other methods of a Datastore."""

import concurrent.futures
import copy
import pickle
import threading
import time

import psycopg2
import psycopg2.extensions
import psycopg2.extras
import pytest

from harness import eventually, python, store_config
from harness.python import connections, databases, db  # noqa: F401

python.provide()

from hv.datastore import ConnectionError, Datastore, DatastoreError, PoolError
from hv.entity import Key, Row

IDLE = psycopg2.extensions.TRANSACTION_STATUS_IDLE


def value(connection, statement):
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchone()[0]


# ---- entities ----


def test_what_was_put_can_be_got(db):
    key = db.put(3, 7, beep="boop", none=None)
    assert type(key) is Key
    assert key.shard_id == 3
    row = db.get(key)
    assert isinstance(row, psycopg2.extras.DictRow)
    assert list(row) == [key.id, 7, {"beep": "boop", "none": None}]


def test_a_row_is_read_by_position_and_by_name(db):
    key = db.put(3, 7, beep="boop")
    row = db.get(key)
    assert (row[0], row[1], row[2]) == (row["id"], row["type"], row["body"])
    assert (row["id"], row["type"], row["body"]) == (key.id, 7, {"beep": "boop"})
    assert type(row["body"]) is dict
    assert row[-1] == row["body"] and row[:2] == [key.id, 7] and len(row) == 3
    assert dict(row) == {"id": key.id, "type": 7, "body": {"beep": "boop"}}
    assert list(row.keys()) == ["id", "type", "body"]
    assert row.get("other", 5) == 5 and "body" in row and "other" not in row
    with pytest.raises(KeyError):
        row["other"]
    with pytest.raises(IndexError):
        row[3]


def test_a_row_is_as_a_cursors_own(db):
    key = db.put(3, 7, beep="boop")
    with db.cursor(3) as cursor:
        cursor.execute("SELECT id, type, body FROM shard0003.entities WHERE id = %s", (key.id,))
        theirs = cursor.fetchone()
    ours = db.get(key)
    assert isinstance(ours, type(theirs)) and (ours, dict(ours)) == (theirs, dict(theirs))
    assert (list(ours.items()), repr(ours)) == (list(theirs.items()), repr(theirs))
    again = ours.copy()
    assert (again["id"], again["body"]) == (key.id, {"beep": "boop"})
    ours["type"] = 8
    assert (ours[1], db.get(key)[1]) == (8, 7)  # rows share nothing


@pytest.mark.parametrize(
    "again",
    [
        copy.copy,
        copy.deepcopy,
        *(
            lambda row, protocol=protocol: pickle.loads(pickle.dumps(row, protocol))
            for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
        ),
    ],
)
def test_a_row_has_a_version_which_its_copies_have_too(db, again):
    key = db.put(3, 7, beep="boop")
    row = db.get(key, version=True)
    assert isinstance(row.version, str)
    assert row.version == db.get_many([key], version=True)[0].version
    same = again(row)
    assert type(same) is type(row) is Row
    assert (same, same.version, same["body"]) == (row, row.version, {"beep": "boop"})
    with pytest.raises(AttributeError):
        row.version = "another"
    with db.scan(3, key, key.id + 1) as rows:
        (scanned,) = rows
    for each in (scanned, again(scanned), db.get(key), again(db.get_many([key])[0])):
        assert each == row
        with pytest.raises(AttributeError, match="version"):
            _ = each.version


def test_an_entity_that_is_not_there_is_none(db):
    assert db.get(Key(3 << 10 | 1)) is None


def test_attributes_come_as_a_mapping_or_by_name_or_both(db):
    key = db.put(3, 1, {"a": "1", "b": "2", "self": "x", "shard_id": "y"}, b="3", kind="z")
    assert db.get(key)["body"] == {"a": "1", "b": "3", "self": "x", "shard_id": "y", "kind": "z"}
    assert db.get(db.put(3, 1))["body"] == {}
    assert db.get(db.put(3, 1, None))["body"] == {}
    assert db.get(db.put(3, 1, {}))["body"] == {}


@pytest.mark.parametrize("kind", [-32768, -1, 0, 32767])
def test_a_kind_is_a_smallint(db, kind):
    assert db.get(db.put(3, kind))["type"] == kind


def test_an_entity_is_stored_once_under_a_reserved_key(db):
    keys = db.reserve(5, 3)
    assert [type(key) for key in keys] == [Key] * 3
    assert len(set(keys)) == 3 and keys == sorted(keys)
    assert {key.shard_id for key in keys} == {5}
    assert db.put_key(keys[0], 1, {"a": "b"}) is None
    db.put_key(keys[0], 1, a="b")  # again: the same
    with pytest.raises(DatastoreError) as caught:
        db.put_key(keys[0], 1, a="c")
    assert caught.value.status == "HV_CONFLICT"
    assert db.get(keys[0])["body"] == {"a": "b"}
    assert db.get(keys[1]) is None
    assert len(db.reserve(5)) == 1


# ---- connections ----


def test_a_lent_connection_is_a_dict_connection_as_promised(db):
    connection = db.get_connection(5)
    assert isinstance(connection, psycopg2.extras.DictConnection)
    assert connection.autocommit
    assert connection.encoding in ("UTF8", "UTF-8")
    assert value(connection, "SHOW client_encoding") == "UTF8"
    assert value(connection, "SHOW TimeZone") == "UTC"
    assert value(connection, "SELECT 'ß€' || chr(128512)") == "ß€😀"
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 AS one, 2 AS two")
        row = cursor.fetchone()
        assert (row["one"], row[1]) == (1, 2)
    db.put_connection(connection)


def test_a_dict_goes_and_comes_over_a_lent_connection(db):
    with db.cursor(5) as cursor:
        cursor.execute(
            "INSERT INTO shard0005.entities (type, body) VALUES (%s, %s) RETURNING id, body",
            (4, {"a": 'b"\\', "none": None}),
        )
        id, body = cursor.fetchone()
        cursor.execute("SELECT array[body] FROM shard0005.entities WHERE id = %s", (id,))
        (bodies,) = cursor.fetchone()
    assert body == {"a": 'b"\\', "none": None}
    assert bodies == [body]
    assert db.get(Key(id))["body"] == body


def test_a_cursor_is_closed_and_its_connection_returned(db):
    with db.cursor(5) as cursor:
        assert not cursor.closed
        connection = cursor.connection
        assert db.pool_stats()["lent"] == 1
    assert cursor.closed
    assert not connection.closed
    assert db.pool_stats()["lent"] == 0
    with db.cursor(5) as cursor:
        assert cursor.connection is connection


def test_a_cursor_is_closed_and_returned_after_an_error_too(db):
    with pytest.raises(ZeroDivisionError):
        with db.cursor(5) as cursor:
            1 / 0
    assert cursor.closed
    with pytest.raises(psycopg2.errors.UndefinedTable):  # the driver's cursor, the driver's error
        with db.cursor(5) as cursor:
            cursor.execute("SELECT * FROM nothing")
    assert cursor.closed
    assert db.pool_stats()["lent"] == 0


def test_a_connection_is_lent_by_its_servers_name_or_number(connections, databases):
    named = [{**each, "name": name} for each, name in zip(connections, ("one", "two"))]
    with Datastore(named) as db:
        for number, name in enumerate(db.servers):
            for server in (number, name):
                connection = db.get_connection_server(server)
                assert value(connection, "SELECT current_database()") == databases[number].dbname
                assert db.pool_stats(name)["lent"] == 1
                db.put_connection(connection)
                with db.cursor_server(server) as cursor:
                    cursor.execute("SELECT current_database() AS here")
                    assert cursor.fetchone()["here"] == databases[number].dbname
        assert db.pool_stats()["lent"] == 0
        for server, error in (
            (2, DatastoreError),
            (-1, DatastoreError),
            ("three", DatastoreError),
            (None, TypeError),
            (1.0, TypeError),
        ):
            for act in (db.get_connection_server, lambda each: db.cursor_server(each).__enter__()):
                with pytest.raises(error):
                    act(server)
    with pytest.raises(PoolError):
        db.get_connection_server("one")


def test_connections_are_opened_when_needed(db, databases):
    one, two = databases
    assert db.pool_stats()["opened"] == 0
    assert not one.clients() and not two.clients()
    db.put(3, 1)
    assert (len(one.clients()), len(two.clients())) == (1, 0)
    db.put(12, 1)
    assert (len(one.clients()), len(two.clients())) == (1, 1)


def test_puts_and_gets_and_loans_share_the_connections_of_a_pool(databases, connections):
    most = 3
    with Datastore(connections, pool_max=most, pool_block_timeout=60) as db:
        ending = threading.Event()
        seen = []

        def put():
            while not ending.is_set():
                assert db.get(db.put(3, 1, a="b"))["body"] == {"a": "b"}

        def borrow():
            while not ending.is_set():
                with db.cursor(4) as cursor:
                    cursor.execute("SELECT 1")

        def many():
            while not ending.is_set():
                keys = db.put_many((5, 1, {"n": str(n)}) for n in range(50))
                assert len(db.get_many(keys)) == 50

        with concurrent.futures.ThreadPoolExecutor(16) as threads:
            work = [threads.submit(f) for f in [put] * 8 + [borrow] * 6 + [many] * 2]
            try:
                for _ in range(50):
                    seen.append(len(databases[0].clients()))
            finally:
                ending.set()
            for each in work:
                each.result()
        assert max(seen) <= most
        assert db.pool_stats()["opened"] <= most
        assert db.pool_stats()["lent"] == 0


def test_put_runs_on_the_connection_that_is_lent_otherwise(databases, connections):
    with Datastore(connections, pool_max=1) as db:
        with db.cursor(5) as cursor:
            pid = cursor.connection.info.backend_pid
        db.put(5, 1)
        db.get(Key(5 << 10 | 1))
        assert [client[0] for client in databases[0].clients()] == [pid]


def test_the_eleventh_caller_waits_and_gets_a_connection_error(connections):
    with Datastore(connections, pool_block_timeout=4) as db:
        lent = [db.get_connection(5) for _ in range(10)]
        assert len({connection.info.backend_pid for connection in lent}) == 10
        since = time.monotonic()
        with pytest.raises(ConnectionError) as caught:
            db.get_connection(5)
        assert 3.9 < time.monotonic() - since < 7.5
        error = caught.value
        assert isinstance(error, PoolError) and isinstance(error, DatastoreError)
        assert not isinstance(error, OSError)  # it is not the built-in of this name
        assert (error.status, error.retriable, error.outcome_unknown) == ("HV_TIMEOUT", True, False)
        assert db.pool_stats()["timeouts"] == 1
        db.put(12, 1)  # the other server has a pool of its own
        db.put_connection(lent.pop())
        lent.append(db.get_connection(5))
        for connection in lent:
            db.put_connection(connection)


def test_the_eleventh_caller_gets_the_first_connection_that_comes_back(connections):
    with Datastore(connections, pool_max=1, pool_block_timeout=60) as db:
        connection = db.get_connection(5)
        with concurrent.futures.ThreadPoolExecutor(1) as threads:
            waiting = threads.submit(db.get_connection, 5)
            eventually(lambda: db.pool_stats()["waiting"] == 1)
            db.put_connection(connection)
            assert waiting.result(30) is connection
        db.put_connection(connection)


def test_after_reinstantiate_everything_works(db, databases):
    key = db.put(5, 1, a="b")
    lent = db.get_connection(5)
    db.reinstantiate()
    db.put_connection(lent)
    eventually(lambda: not databases[0].clients())
    assert db.get(key)["body"] == {"a": "b"}
    with db.cursor(5) as cursor:
        cursor.execute("SELECT 1")
        assert cursor.fetchone() == [1]
    assert db.put_many([(5, 1, {}), (12, 1, {})])
    assert db.pool_stats("server 1")["opened"] <= 3


def test_what_goes_wrong_in_a_with_is_raised_though_a_connection_is_still_lent(connections):
    with pytest.raises(ZeroDivisionError) as caught:
        with Datastore(connections) as db:
            lent = db.get_connection(5)
            1 / 0
    assert caught.value.__context__ is None
    assert db.closed
    lent.close()
    db.close()


def test_a_closed_store_says_so(connections, databases):
    with Datastore(connections) as db:
        key = db.put(5, 1)
        assert not db.closed
    assert db.closed
    for act in (
        lambda: db.put(5, 1),
        lambda: db.get(key),
        lambda: db.get_connection(5),
        lambda: db.put_many([(5, 1, {})]),
        lambda: db.get_many([key]),
        lambda: db.reserve(5),
        lambda: db.cursor(5).__enter__(),
    ):
        with pytest.raises(PoolError) as caught:
            act()
        assert caught.value.status == "HV_CLOSED"
    db.close()  # again: nothing
    eventually(lambda: not databases[0].clients())


def test_servers_and_shards_are_listed(db):
    assert len(db.servers) == 2
    first, second = db.servers
    assert db.server_of(3) == first and db.server_of(12) == second
    assert db.server_of(99) is None
    assert db.shards() == list(range(1, 17))
    assert db.shards(second) == list(range(9, 17))
    assert db.epoch == 1379365531352
    with pytest.raises(DatastoreError):
        db.shards("nobody")
    with pytest.raises(DatastoreError):
        db.pool_stats("nobody")


def test_a_store_is_opened_from_a_configuration_file(databases, connections, tmp_path):
    one, two = databases
    path = store_config(
        tmp_path / "hypervault.conf", {"one": (one, "1-9"), "two": (two, "9-17")}, pool_max=2
    )
    with Datastore.from_config(path) as db:
        assert db.servers == ("one", "two")
        assert db.get(db.put(12, 1, a="b"))["body"] == {"a": "b"}
    with pytest.raises(DatastoreError) as caught:
        Datastore.from_config(str(tmp_path / "missing.conf"))
    assert "missing.conf" in str(caught.value)


def test_options_are_given_by_name(connections):
    with Datastore(connections, exactly_once=True, lanes=1, operation_timeout=62.5) as db:
        assert db.get(db.put(3, 1, a="b"))["body"] == {"a": "b"}
    for wrong in ({"lane": 1}, {"pool_max": 0}, {"pool_max": "many"}, {"lanes": -1}):
        with pytest.raises(DatastoreError) as caught:
            Datastore(connections, **wrong)
        assert caught.value.status == "HV_BAD_CONFIG"
        assert next(iter(wrong)) in str(caught.value)


# ---- many at once ----


def test_many_are_stored_and_fetched_in_order(db):
    entities = [(shard, kind, {"n": str(shard * kind)}) for shard in range(1, 17) for kind in range(50)]
    keys = db.put_many(iter(entities))
    assert [(key.shard_id) for key in keys] == [shard for shard, _, _ in entities]
    rows = db.get_many(keys)
    assert [(row["type"], row["body"]) for row in rows] == [each[1:] for each in entities]
    absent = Key(3 << 10 | 1)
    assert db.get_many([keys[0], absent, keys[0]]) == [rows[0], None, rows[0]]
    assert db.put_many([]) == [] and db.get_many([]) == []


def test_many_have_each_their_own_fate(db):
    (key,) = db.reserve(5)
    db.put_key(key, 1, {"a": "b"})
    entities = [(3, 1, {"a": "1"}), (99, 1, {}), (key, 1, {"a": "c"}), (12, 1, {"a": "4"})]
    results = db.put_many(entities, return_errors=True)
    assert [type(each) for each in results] == [Key, DatastoreError, DatastoreError, Key]
    assert [each.status for each in results[1:3]] == ["HV_NO_SERVER", "HV_CONFLICT"]
    assert results[1].shard == 99
    with pytest.raises(DatastoreError) as caught:
        db.put_many(entities)
    assert caught.value.status == "HV_NO_SERVER"
    assert [type(each) for each in caught.value.results] == [Key, DatastoreError, DatastoreError, Key]


def test_an_error_of_the_iterable_ends_the_call_and_leaves_the_store_whole(db):
    def entities():
        yield 3, 1, {"a": "b"}
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        db.put_many(entities())
    with pytest.raises(TypeError, match="'a'"):
        db.put_many([(3, 1, {"a": object()})])
    with pytest.raises((TypeError, ValueError)):
        db.put_many([(3, 1)])
    assert db.pool_stats()["lent"] == 0
    assert db.get(db.put(3, 1, a="b"))["body"] == {"a": "b"}


def test_a_stream_reports_what_became_of_each_as_it_comes(db):
    total = 5000
    seen = dict(db.put_stream((n % 16 + 1, 1, {"n": str(n)}) for n in range(total)))
    assert sorted(seen) == list(range(total))
    keys = [seen[n] for n in range(total)]
    rows = dict(db.get_stream(iter(keys)))
    assert all(rows[n]["body"] == {"n": str(n)} for n in range(total))


def test_a_stream_that_is_given_up_leaves_the_store_whole(db):
    stream = db.put_stream((n % 16 + 1, 1, {"n": str(n)}) for n in range(10000))
    next(stream)
    stream.close()
    eventually(lambda: db.pool_stats()["lent"] == 0)
    assert db.get(db.put(3, 1, a="b"))["body"] == {"a": "b"}


def test_a_scan_walks_over_a_shard_in_the_order_of_keys(db, databases):
    databases[1].sql("TRUNCATE shard0016.entities")
    keys = db.put_many((16, n % 3, {"n": str(n)}) for n in range(3000))
    with db.scan(16) as scan:
        rows = list(scan)
    assert [row["id"] for row in rows] == sorted(key.id for key in keys)
    assert {(row["id"], row["body"]["n"]) for row in rows} == {
        (key.id, str(n)) for n, key in enumerate(keys)
    }
    assert {row["type"] for row in db.scan(16, kinds=[1])} == {1}
    middle = sorted(keys)[1000]
    assert [row["id"] for row in db.scan(16, middle)][0] == middle.id
    assert len(list(db.scan(16, 0, middle))) == 1000
    with db.scan(16) as scan:
        next(scan)
    assert db.pool_stats()["lent"] == 0
