"""hv.aio: the puts and gets of an event loop."""

import asyncio
import gc
import logging
import warnings

import pytest

from harness import eventually, python
from harness.python import connections, databases, db, own_connections  # noqa: F401

python.provide()

from hv import aio
from hv.datastore import ConnectionError, Datastore, DatastoreError, PoolError
from hv.entity import Key

TOO_LONG = 300  # seconds


def run(function, *args):
    """Run a coroutine function in a loop of its own; complaints of asyncio are errors."""

    async def limited():
        loop = asyncio.get_running_loop()
        complaints = []
        loop.set_exception_handler(lambda _, context: complaints.append(context))
        result = await asyncio.wait_for(function(*args), TOO_LONG)
        gc.collect()
        assert complaints == []
        return result

    return asyncio.run(limited())


async def until(condition):
    """Wait for a condition without blocking the loop."""
    while not condition():
        await asyncio.sleep(0.005)


async def until_put(session, shard):
    """Wait until a server is back."""
    while True:
        try:
            return await session.put(shard, 1)
        except ConnectionError:
            await asyncio.sleep(0.01)


def lock(database, shard):
    """A context manager: puts into the shard wait."""
    return _Lock(database, f"shard{shard:04d}.entities")


class _Lock:
    def __init__(self, database, table):
        self._held = python.plain(database)
        self._table = table

    def __enter__(self):
        connection = self._held.__enter__()
        self._cursor = connection.cursor()
        self._cursor.execute(f"BEGIN; LOCK TABLE {self._table} IN EXCLUSIVE MODE")

    def __exit__(self, *exc):
        self._cursor.execute("ROLLBACK")
        self._held.__exit__(*exc)


# ---- operations ----


def test_an_entity_is_put_and_fetched(db):  # noqa: F811
    async def work():
        async with aio.Session(db) as session:
            key = await session.put(12, 1, {"beep": "boop"}, n=5, none=None)
            row = await session.get(key)
            return key, row

    key, row = run(work)
    assert isinstance(key, Key) and key.shard_id == 12
    assert row == db.get(key)
    assert (row["id"], row["type"]) == (key.id, 1)
    assert row["body"] == {"beep": "boop", "n": "5", "none": None}


def test_what_is_not_there_is_none(db):  # noqa: F811
    async def work():
        async with aio.Session(db) as session:
            return await session.get(Key(307821103844175873))

    assert run(work) is None


def test_thousands_of_tasks_each_get_their_own_answer(db):  # noqa: F811
    async def one(session, number):
        key = await session.put(1 + number % 16, 3, number=number)
        row = await session.get(key)
        assert (key.shard_id, row["body"]) == (1 + number % 16, {"number": str(number)})
        return key

    async def work():
        async with aio.Session(db) as session:
            return await asyncio.gather(*(one(session, number) for number in range(5000)))

    assert len(set(run(work))) == 5000
    assert sum(db.pool_stats(name)["open"] for name in db.servers) <= 4


def test_a_put_under_a_reserved_key_can_be_repeated(db):  # noqa: F811
    async def work():
        (key,) = db.reserve(3)
        async with aio.Session(db) as session:
            assert await session.put_key(key, 1, a="b") is None
            assert await session.put_key(key, 1, a="b") is None
            with pytest.raises(DatastoreError) as caught:
                await session.put_key(key, 1, a="c")
            assert caught.value.status == "HV_CONFLICT"
            return (await session.get(key))["body"]

    assert run(work) == {"a": "b"}


def test_many_come_back_in_their_order(db):  # noqa: F811
    async def work():
        async with aio.Session(db) as session:
            keys = await session.put_many((1 + n % 16, 1, {"n": n}) for n in range(10_000))
            return [row["body"]["n"] for row in await session.get_many(keys)]

    assert run(work) == [str(n) for n in range(10_000)]


def test_of_many_each_has_its_own_fate(db, databases):  # noqa: F811
    databases[0].sql("ALTER TABLE shard0002.entities ADD CHECK (type <> 13)")
    entities = [(2, 1, {"n": 1}), (2, 13, {"n": 2}), (4711, 1, {}), (10, 1, {"n": 3})]

    async def work():
        async with aio.Session(db) as session:
            results = await session.put_many(entities, return_errors=True)
            with pytest.raises(DatastoreError) as caught:
                await session.put_many(entities)
            return results, caught.value

    results, error = run(work)
    assert [getattr(each, "status", "stored") for each in results] == [
        "stored",
        "HV_REFUSED",
        "HV_NO_SERVER",
        "stored",
    ]
    assert error.sqlstate == "23514" and error is error.results[1]
    assert isinstance(error.results[3], Key)
    databases[0].sql("ALTER TABLE shard0002.entities DROP CONSTRAINT entities_type_check")


def test_a_stream_of_many_is_bounded(db):  # noqa: F811
    async def work():
        async with aio.Session(db) as session:
            most = 0

            def entities():
                nonlocal most
                for n in range(20_000):
                    yield 1 + n % 8, 1, {"n": n}
                    most = max(most, session.pending)

            assert None not in await session.put_many(entities())
            return most

    assert 0 < run(work) <= 2048 * 2


@pytest.mark.parametrize(
    "shard, kind, attributes, error",
    [
        (4711, 1, {}, DatastoreError),
        (1, 40_000, {}, DatastoreError),
        (1, 1, {"a": []}, TypeError),
        (1, 1, {1: "a"}, TypeError),
        ("one", 1, {}, TypeError),
    ],
)
def test_wrong_arguments_are_reported_at_once(db, shard, kind, attributes, error):  # noqa: F811
    async def work():
        async with aio.Session(db) as session:
            with pytest.raises(error):
                await session.put(shard, kind, attributes)
            assert session.pending == 0

    run(work)


@pytest.mark.parametrize("key", [5, "5", None])
def test_what_is_no_key_is_refused(db, key):  # noqa: F811
    async def work():
        async with aio.Session(db) as session:
            for wait in (session.get, session.put_key):
                args = (key,) if wait == session.get else (key, 1)
                with pytest.raises(DatastoreError) as caught:
                    await wait(*args)
                assert isinstance(caught.value, TypeError)
                assert caught.value.status == "HV_INVALID"

    run(work)


# ---- when things go wrong ----


def test_a_server_that_is_down_fails_its_own_operations_only(own_connections, own_servers):  # noqa: F811
    async def work():
        with Datastore(own_connections) as store:
            async with aio.Session(store) as session:
                await session.put_many((shard, 1, {}) for shard in (1, 9))
                own_servers[0].server.stop()
                results = await asyncio.gather(
                    *(session.put(1 + n % 16, 1) for n in range(160)), return_exceptions=True
                )
                for n, result in enumerate(results):
                    if n % 16 >= 8:
                        assert isinstance(result, Key)
                    else:
                        assert isinstance(result, DatastoreError) and result.server == "server 1"
                with pytest.raises(ConnectionError):
                    await session.get(Key(307821103844175873 & ~(8191 << 10) | 1 << 10))
                own_servers[0].server.start()
                await until_put(session, 1)

    run(work)


def test_the_loop_goes_on_while_a_server_does_not_answer(own_connections, own_servers):  # noqa: F811
    async def work():
        with Datastore(own_connections, operation_timeout=6) as store:
            async with aio.Session(store) as session:
                key = await session.put(1, 1)
                longest = 0.0
                loop = asyncio.get_running_loop()
                with own_servers[0].server.frozen():
                    waiting = asyncio.ensure_future(session.get(key))
                    while not waiting.done():
                        before = loop.time()
                        await asyncio.sleep(0.01)
                        assert (await session.put(9, 1)).shard_id == 9
                        longest = max(longest, loop.time() - before)
                    assert waiting.exception().status == "HV_TIMEOUT"
                assert longest < 5

    run(work)


def test_the_loop_goes_on_while_a_connection_is_opened(own_connections, own_servers):  # noqa: F811
    async def work():
        with Datastore(own_connections, pool_block_timeout=6) as store:
            async with aio.Session(store) as session:
                await session.put(9, 1)
                loop = asyncio.get_running_loop()
                longest, ticks = 0.0, 0
                with own_servers[0].server.frozen():
                    waiting = asyncio.ensure_future(session.put(1, 1))
                    while not waiting.done():
                        before = loop.time()
                        await asyncio.sleep(0.001)
                        assert (await session.put(9, 1)).shard_id == 9
                        longest = max(longest, loop.time() - before)
                        ticks += 1
                error = waiting.exception()
                assert isinstance(error, ConnectionError) and error.server == "server 1"
                assert error.status == "HV_TIMEOUT"
                assert longest < 5 and ticks > 5
                await until_put(session, 1)

    run(work)


# ---- cancelled waits ----


def test_a_cancelled_put_goes_on(db, databases):  # noqa: F811
    async def work():
        async with aio.Session(db) as session:
            with lock(databases[0], 4):
                task = asyncio.ensure_future(session.put(4, 1, who="cancelled"))
                await until(lambda: databases[0].value(
                    "SELECT count(*) FROM pg_locks WHERE NOT granted"))
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                assert session.pending == 1
            await until(lambda: session.pending == 0)

    run(work)
    assert databases[0].value(
        "SELECT count(*) FROM shard0004.entities WHERE body -> 'who' = 'cancelled'") == 1


def test_a_timeout_ends_the_wait_and_leaves_the_session_in_order(db, databases):  # noqa: F811
    async def work():
        async with aio.Session(db) as session:
            with lock(databases[0], 5):
                with pytest.raises(asyncio.TimeoutError):
                    await asyncio.wait_for(session.put(5, 1), 0.05)
            return await session.put(5, 1)

    assert run(work).shard_id == 5


def test_errors_that_nobody_waits_for_are_not_complained_of(db, databases):  # noqa: F811
    databases[1].sql("ALTER TABLE shard0011.entities ADD CHECK (type <> 13)")

    async def work():
        async with aio.Session(db) as session:
            with lock(databases[1], 11):
                tasks = [asyncio.ensure_future(session.put(11, 13)) for _ in range(3)]
                tasks.append(asyncio.ensure_future(session.put_many([(11, 13, {})] * 3)))
                await until(lambda: session.pending == 6)
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                assert all(task.cancelled() for task in tasks)
                del tasks, task

    run(work)
    databases[1].sql("ALTER TABLE shard0011.entities DROP CONSTRAINT entities_type_check")


# ---- the end ----


def test_close_waits_for_what_is_under_way(db):  # noqa: F811
    async def work():
        session = aio.Session(db)
        tasks = [asyncio.ensure_future(session.put(1 + n % 16, 1)) for n in range(500)]
        await asyncio.sleep(0)
        assert session.pending == 500
        await session.close()
        assert session.closed and session.pending == 0
        assert all(isinstance(key, Key) for key in await asyncio.gather(*tasks))
        with pytest.raises(PoolError) as caught:
            await session.get(Key(1))
        assert caught.value.status == "HV_CLOSED"
        await session.close()

    run(work)


def test_a_close_that_is_cancelled_ends_the_session_at_once(connections, databases):  # noqa: F811
    async def work():
        with Datastore(connections) as store:
            session = aio.Session(store)
            with lock(databases[0], 6):
                put = asyncio.ensure_future(session.put(6, 1))
                await until(lambda: databases[0].value(
                    "SELECT count(*) FROM pg_locks WHERE NOT granted"))
                closing = asyncio.ensure_future(session.close())
                await asyncio.sleep(0.01)
                assert not closing.done()
                closing.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await closing
                with pytest.raises(asyncio.CancelledError):
                    await put
                assert session.closed

    run(work)


def test_a_loop_may_end_with_operations_pending(connections, databases):  # noqa: F811
    async def work(store):
        session = aio.Session(store)
        asyncio.ensure_future(session.put(7, 1))
        await until(lambda: databases[0].value(
            "SELECT count(*) FROM pg_locks WHERE NOT granted"))

    with Datastore(connections) as store:
        with lock(databases[0], 7), warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            asyncio.run(work(store))
            gc.collect()
            store.close(timeout=60)
        assert store.closed


def test_a_session_that_was_not_closed_is_reported(db):  # noqa: F811
    async def work():
        aio.Session(db)

    with pytest.warns(ResourceWarning, match="unclosed <hv.aio.Session"):
        asyncio.run(work())
        gc.collect()


def test_a_session_is_made_in_a_loop(db):  # noqa: F811
    with pytest.raises(RuntimeError, match="no running event loop"):
        aio.Session(db)


def test_two_loops_have_a_session_each(db):  # noqa: F811
    import threading

    found = []

    async def work(shard):
        async with aio.Session(db) as session:
            found.extend(await session.put_many([(shard, 1, {})] * 500))

    threads = [threading.Thread(target=run, args=(work, shard)) for shard in (1, 2, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1500
