"""Every failure is a DatastoreError that says what, where and what to do, and contains no secret.
"""

import contextlib
import socket
import threading
import time
import traceback

import psycopg2
import psycopg2.extensions
import psycopg2.extras
import pytest

from harness import eventually, python
from harness.python import connections, databases, db, own_connections, plain  # noqa: F401

python.provide()

import hv
from hv.datastore import ConnectionError, Datastore, DatastoreError, KeyTypeError, PoolError
from hv.entity import Key

SECRET = "s3cr3t-Pa55"
FIELDS = {
    "status",
    "message",
    "detail",
    "hint",
    "sqlstate",
    "constraint",
    "server",
    "shard",
    "retriable",
    "outcome_unknown",
}


def caught(act, kind=DatastoreError):
    """The error that is raised, which has all attributes, its text, and no secret."""
    with pytest.raises(DatastoreError) as info:
        act()
    error = info.value
    assert type(error) is kind, repr(error)
    for field in FIELDS:
        getattr(error, field)
    assert error.message and error.message in str(error)
    for more in (error.detail, error.hint):
        assert more is None or more in str(error)
    text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    for shown in (text, repr(error), repr(error.args), repr(vars(error))):
        assert SECRET not in shown
    return error


def operations(db, shard=3):
    """Every method that needs the shard's server."""
    key = Key(shard << 10 | 1)
    return [
        lambda: db.put(shard, 1, a="b"),
        lambda: db.get(key),
        lambda: db.put_key(key, 1, a="b"),
        lambda: db.reserve(shard),
        lambda: db.get_connection(shard),
        lambda: db.cursor(shard).__enter__(),
        lambda: db.put_many([(shard, 1, {})]),
        lambda: db.get_many([key]),
        lambda: db.put_many([(shard, 1, {})], return_errors=True)[0].message and db.get_many([key]),
        lambda: list(db.scan(shard)),
        lambda: db.inspect(db.server_of(shard)),
        lambda: db.create_shards(db.server_of(shard)),
    ]


# ---- the classes ----


def test_the_classes_are_the_old_ones():
    assert issubclass(DatastoreError, Exception)
    assert issubclass(PoolError, DatastoreError)
    assert issubclass(ConnectionError, PoolError)
    assert not issubclass(DatastoreError, psycopg2.Error)
    assert hv.datastore.ConnectionError is ConnectionError
    assert DatastoreError.__module__ == "hv.datastore"
    error = DatastoreError("anything")
    assert {name: getattr(error, name) for name in FIELDS} == {
        **dict.fromkeys(FIELDS),
        "retriable": False,
        "outcome_unknown": False,
    }


# ---- errors before anything is sent ----


@pytest.mark.parametrize("shard", [0, 17, 8191])
def test_a_shard_that_no_server_holds_is_an_error_that_says_so(db, shard):
    for act in operations(db, shard or 8190)[:8]:
        error = caught(act)
        assert (error.status, error.shard) == ("HV_NO_SERVER", shard or 8190)
        assert str(shard or 8190) in error.message
        assert not error.retriable and not error.outcome_unknown
    assert db.pool_stats()["opened"] == 0


@pytest.mark.parametrize("shard", [-1, 8192, 2**40, -(2**70)])
def test_a_number_that_is_no_shard_is_an_error(db, shard):
    for act in (lambda: db.put(shard, 1), lambda: db.get_connection(shard), lambda: db.reserve(shard)):
        error = caught(act)
        assert error.status == "HV_INVALID" and f"{shard} is out of range" in error.message


@pytest.mark.parametrize("shard", [None, "5", 5.0, [], Key(5 << 10)])
def test_what_is_no_number_is_no_shard(db, shard):
    with pytest.raises((TypeError, DatastoreError)):
        db.put(shard, 1)
    with pytest.raises((TypeError, DatastoreError)):
        db.get_connection(shard)


@pytest.mark.parametrize("kind", [-32769, 32768, 2**40, 2**70])
def test_a_kind_out_of_range_is_an_error(db, kind):
    error = caught(lambda: db.put(3, kind))
    assert error.status == "HV_INVALID" and f"{kind} is out of range" in error.message


@pytest.mark.parametrize("thing", [None, 5, 307821103844175873, "5", object(), [Key(5)]])
def test_to_get_what_is_no_key_is_an_error(db, thing):
    for act in (
        lambda: db.get(thing),
        lambda: db.get(key=thing),
        lambda: db.get_many([thing]),
        lambda: db.put_key(thing, 1),
    ):
        error = caught(act, KeyTypeError)
        assert isinstance(error, TypeError)  # as of any argument of a wrong type
        assert error.status == "HV_INVALID"
        assert f"must be of type Key, not {type(thing).__name__}" in str(error) == error.message
    ((position, error),) = db.get_stream([thing])
    assert position == 0 and isinstance(error, TypeError)


@pytest.mark.parametrize(
    "second, part",
    [
        ("8-12", "8"),  # overlaps 1-9
        ("5", "5"),
        ("9-9", "9-9"),
        ("12-9", "12-9"),
        ("9-", "9-"),
        ("a-b", "server 2"),  # which may be a password: it is not shown
        ("9-8194", "9-8194"),
        (None, "shards"),
    ],
)
def test_nonsense_in_shards_is_an_error_at_once(connections, second, part):
    one, two = connections
    error = caught(lambda: Datastore([one, {**two, "shards": second}]))
    assert part in str(error)


def test_a_dsn_is_taken_apart(connections):
    one, two = connections
    parts = {name: value for name, value in one.items() if name not in ("shards", "database")}
    parts["dbname"] = one.get("dbname", one.get("database"))
    dsn = psycopg2.extensions.make_dsn(**parts)
    for given in (
        {"dsn": dsn},
        {"dsn": f"{dsn} dbname=nowhere", "database": parts["dbname"]},
        {"dsn": f"{dsn} port=1", "port": parts.get("port", "5432")},
        {**parts, "dsn": None},
    ):
        with Datastore([{**given, "shards": "1-9"}, two]) as db:
            assert db.get(db.put(3, 1, a="b"))["body"] == {"a": "b"}
    for dsn in ("password=" + SECRET + " nonsense", "postgres://u:" + SECRET + "@[", 5, ["x"]):
        error = caught(lambda: Datastore([two, {"dsn": dsn, "shards": "1-9"}]))
        assert error.message == "the dsn of connection 2 is not a connection string"
        assert SECRET not in "".join(traceback.format_exception(error))
    error = caught(lambda: Datastore([two, {"dsn": "hots=x", "shards": "1-9"}]))
    assert "dsn" in error.message


@pytest.mark.parametrize(
    "name, hint",
    [
        ("connection_factory", "DictConnection"),
        ("cursor_factory", "conn.cursor(cursor_factory=...)"),
        ("async", "hv.aio"),
        ("async_", "hv.aio"),
    ],
)
def test_what_a_datastore_does_not_take_is_an_error_that_says_so(connections, name, hint):
    one, two = connections
    error = caught(lambda: Datastore([one, {**two, name: psycopg2.extras.DictCursor}]))
    assert error.message == f"connection 2: a Datastore does not take {name}"
    assert hint in error.hint and error.status == "HV_BAD_CONFIG"
    Datastore([one, {**two, name: None}]).close()


def test_a_connection_that_is_misspelt_is_an_error(connections):
    one, two = connections
    assert "hots" in str(caught(lambda: Datastore([{**one, "hots": "x"}])))
    caught(lambda: Datastore([{"shards": "1-9", "host": "password=" + SECRET}, two]))
    with pytest.raises((TypeError, DatastoreError)):
        Datastore([5])
    with pytest.raises((TypeError, DatastoreError)):
        Datastore(5)
    caught(lambda: Datastore([]))


def test_a_connection_that_is_no_dict_is_not_shown_for_it_may_hold_a_password():
    error = caught(lambda: Datastore(["host=localhost password=" + SECRET]))
    assert error.status == "HV_BAD_CONFIG" and "str" in error.message


def test_a_store_is_opened_once(connections):
    db = Datastore(connections)
    caught(lambda: db.__init__(connections), PoolError)
    db.close()
    caught(lambda: db.__init__(connections), PoolError)
    assert db.closed


def test_a_connection_that_was_not_lent_is_shown_without_what_it_was_opened_with(db, databases):
    with plain(databases[0], sslpassword=SECRET) as foreign:
        error = caught(lambda: db.put_connection(foreign), PoolError)
    assert "has not lent" in error.message
    caught(lambda: db.put_connection(SECRET), PoolError)


@pytest.mark.parametrize("more", ["\0", "\udc80"], ids=["NUL", "surrogate"])
def test_a_parameter_that_cannot_be_passed_whole_is_an_error(connections, more):
    one, two = connections
    for act in (
        lambda: Datastore([{**one, "password": SECRET + more}, two]),
        lambda: Datastore([{**one, "name": "one" + more}, two]),
        lambda: Datastore([{**one, "pass" + more: SECRET}, two]),
        lambda: Datastore(connections, pool_max="5" + more),
        lambda: Datastore(connections, **{"lanes" + more: 5}),
    ):
        assert caught(act).status == "HV_BAD_CONFIG"


def test_parameters_reach_the_server_as_utf_8_in_any_locale(connections):
    result = python.run_file(
        "-c",
        'import json, os; from hv.datastore import *\n'
        'one, two = json.loads(os.environ["HV_TEST_CONNECTIONS"])\n'
        'try: Datastore([{**one, "dbname": "j\\xf6rg"}, two]).put(3, 1)\n'
        "except DatastoreError as error: print(ascii(str(error)))",
        connections=connections,
        env={"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    )
    assert result.code == 0 and r'database "j\xf6rg" does not exist' in result.out, str(result)


# ---- the server says no ----


def test_a_refused_put_has_the_servers_reason(db, databases):
    databases[0].sql("ALTER TABLE shard0003.entities ADD CONSTRAINT small CHECK (type < 100)")
    try:
        error = caught(lambda: db.put(3, 500, a="b"))
        (other,) = db.put_many([(3, 500, {})], return_errors=True)
    finally:
        databases[0].sql("ALTER TABLE shard0003.entities DROP CONSTRAINT small")
    assert (error.status, error.sqlstate, error.constraint) == ("HV_REFUSED", "23514", "small")
    assert (error.server, error.shard) == (db.server_of(3), 3)
    assert not error.retriable and not error.outcome_unknown
    assert (other.status, other.sqlstate) == ("HV_REFUSED", "23514")


def test_for_a_shard_that_is_not_made_the_hint_says_what_to_do(databases, connections):
    one, two = connections
    with Datastore([{**one, "shards": "1-9,20"}, two]) as db:
        error = caught(lambda: db.put(20, 1))
        assert (error.status, error.shard) == ("HV_NOT_INITIALIZED", 20)
        assert "hv init" in error.hint


def test_shards_are_made_from_python_too(databases, connections):
    one, _ = connections
    seen = []
    with Datastore([{**one, "name": "one", "shards": "1-9,21-24"}]) as db:
        assert db.create_shards(progress=lambda *what: seen.append(what)) == 3
        assert db.create_shards("one") == 0
        assert seen[-1] == ("one", 11, 11)
        assert db.get(db.put(21, 1, a="b"))["body"] == {"a": "b"}
        report = db.inspect("one")
    assert report and "shards" in report


# ---- the server is not there ----


@contextlib.contextmanager
def nobody_listens():
    with socket.socket() as holder:  # so that no other process takes the port
        holder.bind(("127.0.0.1", 0))
        yield {"host": "127.0.0.1", "port": str(holder.getsockname()[1])}


@pytest.mark.parametrize(
    "place",
    [
        nobody_listens,
        lambda: contextlib.nullcontext({"host": "x" * 64}),  # too long to ask a name server
        lambda: contextlib.nullcontext({"host": "/nowhere"}),
    ],
    ids=["nobody listens", "unknown host", "no socket"],
)
def test_a_server_that_cannot_be_reached_is_a_connection_error(place):
    params = {"shards": "1-9", "user": "x", "password": SECRET, "dbname": "x"}
    with place() as where, Datastore([{**params, **where}]) as db:
        for act in operations(db):
            error = caught(act, ConnectionError)
            assert error.status in ("HV_UNAVAILABLE", "HV_TIMEOUT")
            assert error.server == db.servers[0]
            assert error.retriable and not error.outcome_unknown
        assert db.pool_stats()["open"] == 0


def test_a_wrong_password_is_reported_without_the_password(databases, connections):
    one, two = connections
    with Datastore([one, {**two, "password": SECRET}]) as db:
        for act in operations(db, 12)[:8]:
            error = caught(act, ConnectionError)
            assert (error.status, error.server) == ("HV_UNAVAILABLE", db.server_of(12))
            assert "password" in str(error)
            assert (error.sqlstate, error.retriable) == ("28P01", False)
        db.put(3, 1)  # the other server is well


def test_a_database_that_does_not_exist_is_reported(connections):
    one, two = connections
    with Datastore([{**one, "dbname": "nothing"}, two]) as db:
        error = caught(lambda: db.put(3, 1), ConnectionError)
        assert "nothing" in str(error)
        assert (error.sqlstate, error.retriable) == ("3D000", False)


def test_a_server_that_accepts_and_says_nothing_is_a_timeout():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
        params = {"shards": "1-9", "host": "127.0.0.1", "port": port, "user": "x", "dbname": "x"}
        with Datastore([params], pool_block_timeout=0.3) as db:
            since = time.monotonic()
            error = caught(lambda: db.put(3, 1), ConnectionError)
            assert error.status == "HV_TIMEOUT"
            assert time.monotonic() - since < 5


# ---- the server goes away and comes back ----


def test_a_server_that_is_killed_and_restarted(own_servers, own_connections):
    server = own_servers[1].server
    with Datastore(own_connections) as db:
        key = db.put(12, 1, a="b")
        lent = db.get_connection(12)
        server.kill9()
        for act in operations(db, 12):
            error = caught(act, ConnectionError)
            assert error.server == db.server_of(12)
            assert error.retriable and not error.outcome_unknown
        db.put(3, 1)
        with pytest.raises(psycopg2.Error):
            lent.cursor().execute("SELECT 1")
        db.put_connection(lent)
        server.start()
        eventually(lambda: succeeds(lambda: db.put(12, 1)))
        assert db.get(key)["body"] == {"a": "b"}
        with db.cursor(12) as cursor:
            cursor.execute("SELECT 1")
        server.restart()  # between two operations nothing notices
        assert db.get(key)["body"] == {"a": "b"}
        assert db.get_many([key])[0]["body"] == {"a": "b"}
        assert db.pool_stats(db.server_of(12))["lent"] == 0


def succeeds(act):
    try:
        act()
    except ConnectionError:
        return False
    return True


def test_a_put_whose_connection_is_lost_under_way_has_an_unknown_outcome(own_servers, own_connections):
    database = own_servers[1]
    with Datastore(own_connections) as db, database.connect() as other:
        db.put(12, 1)
        other.autocommit = False
        other.cursor().execute("LOCK shard0012.entities")
        errors = []
        threads = [
            threading.Thread(target=lambda: errors.append(caught(lambda: db.put(12, 1)))),
            threading.Thread(
                target=lambda: errors.extend(db.put_many([(12, 1, {})], return_errors=True))
            ),
        ]
        for thread in threads:
            thread.start()
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        eventually(lambda: database.value(waiting) == 2)
        database.server.kill9()
        for thread in threads:
            thread.join()
        assert len(errors) == 2
        for error in errors:
            assert (type(error), error.status) == (DatastoreError, "HV_OUTCOME_UNKNOWN")
            assert error.outcome_unknown and not error.retriable
            assert error.server == db.server_of(12)


# ---- two servers of one name ----


@pytest.mark.parametrize(
    ("first", "second", "name"),
    [
        ({"name": "one"}, {"name": "one"}, "one"),
        ({}, {"name": "server 1"}, "server 1"),
        ({"name": "server 2"}, {}, "server 2"),
        ({"name": 1}, {"name": "1"}, "1"),
    ],
)
def test_two_servers_of_one_name_are_refused(connections, first, second, name):
    one, two = connections
    with pytest.raises(DatastoreError) as caught:
        Datastore([{**one, **first}, {**two, **second}])
    assert caught.value.status == "HV_BAD_CONFIG" and caught.value.server == name
    assert caught.value.message == f'servers 1 and 2 are both named "{name}"'


def test_a_database_under_both_its_names_is_refused(connections):
    names = connections[0].keys() & {"dbname", "database"}
    one = {each: connections[0][each] for each in connections[0].keys() - names}
    with pytest.raises(DatastoreError, match="have different values"):
        Datastore([dict(one, dbname="a", database="b")])
