"""Shards that have moved, from Python: what follows by itself, and what raises MovedError."""

import asyncio
import socket
import threading

import psycopg2
import pytest

from harness import eventually, make_shards, python, store_config
from harness.moved import Moving, moved
from harness.python import plain  # noqa: F401

python.provide()

from hv import aio
from hv.datastore import Datastore, DatastoreError, MovedError

SHARD = 3


@pytest.fixture
def connections(servers, store):
    """Servers that are named as the databases are; shards 1-8 and 9-16."""
    return [
        {**database.params(), "name": name, "shards": shards}
        for database, name, shards in zip(servers, ("one", "two"), ("1-9", "9-17"))
    ]


@pytest.fixture
def db(connections):
    with Datastore(connections) as db:
        yield db


def test_operations_follow(db, servers):
    key = db.put(SHARD, 1, n="1")
    moved(SHARD, *servers)
    assert db.get(key)["body"] == {"n": "1"}
    keys = db.put_many([(SHARD, 1, {"n": str(n)}) for n in range(50)])
    assert [row["body"]["n"] for row in db.get_many(keys)] == [str(n) for n in range(50)]
    assert db.server_of(SHARD) == "two"


def test_where_asks(db, servers):
    assert db.where(SHARD) == "one"
    Moving(SHARD, *servers).copy().arrive().switch()
    assert db.server_of(SHARD) == "one"
    assert db.where(SHARD) == "two" == db.server_of(SHARD)
    with pytest.raises(DatastoreError) as caught:
        db.where(8000)
    assert caught.value.status == "HV_NO_SERVER"


def test_a_cursor_raises_moved_error_and_the_next_is_there(db, servers):
    db.put(SHARD, 1, n="1")
    Moving(SHARD, *servers).copy().arrive().switch()
    with pytest.raises(MovedError) as caught:
        with db.cursor(SHARD) as cursor:
            cursor.execute("SELECT * FROM shard0003.entities")
    error = caught.value
    assert isinstance(error.__cause__, psycopg2.errors.UndefinedTable)
    assert (error.status, error.shard, error.server, error.retriable) == (
        "HV_MOVED",
        SHARD,
        "two",
        True,
    )
    assert str(error) == 'shard 3 has moved to server "two"'
    with db.cursor(SHARD) as cursor:
        cursor.execute("SELECT count(*) FROM shard0003.entities")
        assert cursor.fetchone()[0] == 1


def test_a_schema_that_is_missing_counts_too(db, servers):
    moved(SHARD, *servers)
    with pytest.raises(MovedError) as caught:
        with db.cursor(SHARD) as cursor:
            cursor.execute("SELECT shard0003.next_id()")
    assert isinstance(caught.value.__cause__, psycopg2.errors.InvalidSchemaName)


def test_a_table_that_does_not_exist_remains_psycopg2s_error(db, servers):
    with pytest.raises(psycopg2.errors.UndefinedTable):
        with db.cursor(SHARD) as cursor:
            cursor.execute("SELECT * FROM nowhere")
    with pytest.raises(psycopg2.errors.UndefinedTable):
        with db.cursor_server("one") as cursor:
            cursor.execute("SELECT * FROM shard0003.nowhere")
    with pytest.raises(ValueError):
        with db.cursor(SHARD) as cursor:
            raise ValueError
    assert db.pool_stats()["lent"] == 0


def test_a_function_runs_again_on_the_new_server(db, servers):
    moved(SHARD, *servers)
    calls = []

    def work(tx):
        calls.append(1)
        with tx.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM shard0003.entities")
        return tx.put(SHARD, 1, n="1")

    key = db.run_transaction(SHARD, work)
    assert len(calls) == 2
    assert db.get(key)["body"] == {"n": "1"}


@pytest.mark.parametrize("pool_max", [1, 3])
@pytest.mark.parametrize("how", ["put", "cursor"])
def test_a_transaction_block_raises_moved_error(connections, servers, how, pool_max):
    with Datastore(connections, pool_max=pool_max) as db:
        moved(SHARD, *servers)
        with pytest.raises(MovedError) as caught:
            with db.transaction(SHARD) as tx:
                if how == "put":
                    tx.put(SHARD, 1, n="1")
                else:
                    with tx.cursor() as cursor:
                        cursor.execute("INSERT INTO shard0003.entities (type, body) VALUES (1, '')")
        assert caught.value.retriable
        assert (how == "cursor") == isinstance(caught.value.__cause__, psycopg2.Error)
        with db.transaction(SHARD) as tx:
            tx.put(SHARD, 1, n="1")
        assert servers[1].value("SELECT count(*) FROM shard0003.entities") == 1


def test_asyncio_follows_too(connections, servers):
    async def work():
        with Datastore(connections) as db:
            async with aio.Session(db) as session:
                key = await session.put(SHARD, 1, n="1")
                moved(SHARD, *servers)
                assert (await session.get(key))["body"] == {"n": "1"}
                assert await session.where(SHARD) == "two"
                moved(SHARD, *servers[::-1])
                with pytest.raises(MovedError):
                    async with session.transaction(SHARD) as tx:
                        await tx.get(key)
                row = await session.run_transaction(SHARD, lambda tx: tx.get(key))
                assert row["body"] == {"n": "1"}

    asyncio.run(work())


def test_a_list_of_servers_without_names(servers, connections):
    """Its numbers are not the names that the databases were recorded under."""
    moved(SHARD, *servers)
    nameless = [{k: v for k, v in each.items() if k != "name"} for each in connections]
    with Datastore(nameless) as db:
        key = db.put(SHARD, 1, n="1")
        assert db.where(SHARD) == "server 2"
    with Datastore(nameless) as db:
        with pytest.raises(MovedError):
            with db.transaction(SHARD) as tx:
                tx.get(key)
        with db.transaction(SHARD) as tx:
            assert tx.get(key)["body"] == {"n": "1"}
    assert servers[1].value("SELECT count(*) FROM shard0003.entities WHERE id = %s", int(key)) == 1


@pytest.mark.threads
def test_threads_follow_while_it_moves(db, servers):
    stop = threading.Event()
    failures, keys = [], []

    def put():
        try:
            while not stop.is_set():
                keys.append(db.put(SHARD, 1, n="1"))
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=put) for _ in range(8)]
    for thread in threads:
        thread.start()
    for turn in range(4):
        Moving(SHARD, *(servers[:: 1 if turn % 2 == 0 else -1])).copy().arrive().switch()
        before = len(keys)
        eventually(lambda: failures or len(keys) > before + 20)
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures
    assert all(db.exists_many(keys))


# ---- loads ----


def test_a_load_ends_with_an_error_that_says_where_the_shard_is(db, servers):
    one, two = servers
    with db.load("one", "a load") as load:
        load.add(SHARD, 1, {"n": "1"})
        load.send()
        load.commit(1)
        Moving(SHARD, one, two).copy().arrive().switch()
        load.add(SHARD, 1, {"n": "2"})
        load.add(4, 1, {"n": "3"})
        for turn in range(2):
            with pytest.raises(MovedError) as caught:
                load.send()
            assert not caught.value.retriable
            assert str(caught.value).startswith('shard 3 has moved to server "two"')
        with pytest.raises(MovedError):
            load.add(SHARD, 1, {"n": "4"})
    assert two.query("SELECT body -> 'n' FROM shard0003.entities") == [("1",)]
    assert one.value("SELECT count(*) FROM shard0004.entities") == 0
    with db.load("two", "the rest") as load:
        load.add(SHARD, 1, {"n": "2"})
        load.send()
        load.commit(1)
    assert two.value("SELECT count(*) FROM shard0003.entities") == 2


def test_a_switch_waits_for_a_load_in_its_transaction(db, servers):
    one, two = servers
    with db.load("one", "a load") as load:
        load.add(SHARD, 1, {"n": "1"})
        load.send()
        moving = Moving(SHARD, one, two).copy().arrive()
        switching = threading.Thread(target=moving.switch)
        switching.start()
        eventually(lambda: one.value("SELECT count(*) FROM pg_locks WHERE NOT granted"))
        load.commit(1)
        switching.join()
    assert db.where(SHARD) == "two"
    assert two.value("SELECT count(*) FROM shard0003.entities") == 1


def test_a_feed_waits_for_a_shard_that_has_gone_to_a_server_that_is_down(servers, store):
    """It is another page that meets it first, not a poll."""
    one, two = servers
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    places = [
        {**one.params(), "name": "one", "shards": "1-9"},
        {**two.params(), "name": "two", "shards": "9-17", "host": "127.0.0.1", "port": port},
    ]
    with Datastore(places, check_servers=False, operation_timeout=1) as db:
        keys = [db.put(1 + n % 8, 1) for n in range(2000)]
        feed = db.feed(follow=True, delay=0, shards="1-9")
        rows = [next(feed)]
        Moving(SHARD, one, two).copy().switch()
        with pytest.raises(DatastoreError):
            db.put(SHARD, 1)
        while feed.holder is None:  # as soon as all that was at hand has been returned
            row = feed.poll(0.05)
            rows += [row] if row is not None else []
        assert "two" in str(feed.holder) and len(rows) < len(keys)
        assert [row["id"] for row in rows] == sorted(int(key) for key in keys)[: len(rows)]
        feed.close()
