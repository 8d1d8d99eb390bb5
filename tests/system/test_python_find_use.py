"""Readers of find() in use: how they end, other threads, signals, servers that fail, event loops."""

import asyncio
import gc
import itertools
import math
import threading
import time
import weakref

import pytest

import finding
from finding import Held, as_lists, filled, in_thread, lent  # noqa: F401
from harness import eventually, python
from harness.python import connections, databases, db, own_connections  # noqa: F401
from test_python_aio import run, until

python.provide()

from hv import aio
from hv.datastore import ConnectionError, Datastore, PoolError
from hv.entity import Key


# ---- the end ----


def test_a_loop_can_be_left_at_any_point(db, filled):  # noqa: F811
    for number in range(1, 40):
        for row in db.find():
            number -= 1
            if number == 0:
                break
    eventually(lambda: lent(db) == 0)


def test_at_its_end_it_needs_the_store_no_more(connections, filled):  # noqa: F811
    db = Datastore(connections)
    rows = db.find(skip="server 1")
    assert len(list(rows)) == len(filled.find(shards=range(9, 17)))
    assert rows.ended and not rows.closed
    assert [error.server for error in rows.missing] == ["server 1"]
    assert list(rows) == [] and rows.poll(5) is None
    db.close(timeout=0)
    assert [error.server for error in rows.missing] == ["server 1"]
    rows.close()
    rows.close()


def test_a_reader_that_is_closed_returns_no_more(db, filled):  # noqa: F811
    with db.find() as rows:
        next(rows)
    assert rows.closed and not rows.ended
    for use in (lambda: next(rows), rows.poll, rows.fileno):
        with pytest.raises(PoolError) as caught:
            use()
        assert caught.value.status == "HV_CLOSED"
    eventually(lambda: lent(db) == 0)


def test_it_closes_itself_when_nothing_refers_to_it(connections, filled):  # noqa: F811
    db = Datastore(connections)
    rows = db.find()
    next(rows)
    del rows
    eventually(lambda: lent(db) == 0)
    db.close(timeout=0)


def test_one_that_its_store_refers_to_is_collected_with_it(connections, filled):  # noqa: F811
    class Mine(Datastore):
        pass

    db = Mine(connections)
    db.rows = db.find()
    next(db.rows)
    gone = weakref.ref(db)
    del db
    gc.collect()
    assert gone() is None


def test_a_store_is_closed_under_its_readers(connections, filled):  # noqa: F811
    db = Datastore(connections)
    rows = db.find()
    first = next(rows)
    with pytest.raises(PoolError) as caught:
        db.close(timeout=0)
    assert caught.value.status == "HV_BUSY"
    with pytest.raises(PoolError) as caught:
        list(rows)
    assert caught.value.status == "HV_CLOSED"
    assert first["id"] == filled.find(limit=1)[0][0]
    db.close(timeout=0)


# ---- others at the same time ----


def test_an_operation_within_the_loop_has_a_connection(connections, filled):  # noqa: F811
    with Datastore(connections, pool_max=1, pool_block_timeout=30) as db:
        found = []
        for row in db.find(kind=1):
            if len(found) % 50 == 0:
                assert db.get(Key(row["id"])) == row
            found.append(list(row))
        assert found == filled.find(kinds=1)
        assert db.pool_stats()["opened"] == 2


def test_a_task_in_the_loop_has_a_connection(connections, filled):  # noqa: F811
    async def work():
        with Datastore(connections, pool_max=1, pool_block_timeout=30) as db:
            async with aio.Session(db) as session:
                found = []
                async for row in session.find(kind=1):
                    if len(found) % 50 == 0:
                        assert await session.get(Key(row["id"])) == row
                    found.append(list(row))
        return found

    assert run(work) == filled.find(kinds=1)


def test_a_slow_loop_is_not_late(connections, filled):  # noqa: F811
    with Datastore(connections, operation_timeout=2) as db:
        rows = db.find(shards=[12, 3])
        found = list(itertools.islice(rows, 100))
        time.sleep(3)
        found += rows
        assert as_lists(found) == filled.find(shards=[12, 3])


def test_threads_find_at_the_same_time(connections, filled):  # noqa: F811
    wrong = []

    def work(number):
        try:
            kind = finding.KINDS[number % 3]
            for newest in (True, False, 5):
                assert as_lists(db.find(kind=kind, newest=newest)) == filled.find(
                    kinds=kind, newest=newest
                )
                assert db.count(kind=kind) == filled.count(kinds=kind)
        except BaseException as error:
            wrong.append(error)

    with Datastore(connections, pool_max=3, pool_block_timeout=60) as db:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(12)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        assert wrong == []
        assert lent(db) == 0


def test_another_thread_closes_it_while_it_waits(db, databases, filled):  # noqa: F811
    with Held(databases[0], 3) as held:
        rows = db.find()
        came, thread = in_thread(lambda: next(rows))
        held.wait()
        with pytest.raises(RuntimeError, match="another thread"):
            next(rows)
        rows.close()
        thread.join(10)
        assert not thread.is_alive()
    assert isinstance(came[0], PoolError) and came[0].status == "HV_CLOSED"
    eventually(lambda: lent(db) == 0)


def test_the_store_is_closed_while_it_waits(connections, databases, filled):  # noqa: F811
    db = Datastore(connections)
    with Held(databases[0], 3) as held:
        rows = db.find()
        came, thread = in_thread(lambda: next(rows))
        held.wait()
        since = time.monotonic()
        db.close()
        assert time.monotonic() - since < 5
        thread.join(10)
    assert isinstance(came[0], PoolError) and came[0].status == "HV_CLOSED"


def test_it_can_be_looked_at_for_a_while(db, databases, filled):  # noqa: F811
    with Held(databases[0], 3) as held:
        rows = db.find()
        eventually(lambda: rows.poll() is None and held.is_awaited())
        since = time.monotonic()
        assert rows.poll() is None
        assert time.monotonic() - since < 1
        assert rows.poll(0.3) is None
        assert time.monotonic() - since >= 0.3
        assert not rows.ended and not rows.closed
        assert isinstance(rows.fileno(), int)
    found = [rows.poll(math.inf), rows.poll(timeout=60), *rows]
    assert as_lists(found) == filled.find()
    assert rows.poll() is None and rows.ended


def test_an_answer_that_takes_too_long_is_an_error(db, databases, filled):  # noqa: F811
    with Held(databases[0], 3):
        for call in (lambda **how: list(db.find(**how)), db.count):
            with pytest.raises(ConnectionError) as caught:
                call(timeout=0.3)
            assert caught.value.status == "HV_TIMEOUT"
            assert caught.value.server == "server 1"
    eventually(lambda: lent(db) == 0)


# ---- signals ----


def test_ctrl_c_while_it_waits_loses_no_row(connections, databases, filled):  # noqa: F811
    code = """
db = Datastore(connections)
rows = db.find()
say("ready")
try:
    first = next(rows)
except KeyboardInterrupt as error:
    say("interrupted", error.__context__)
sys.stdin.readline()
say(len(list(rows)), rows.ended)
db.close()
"""
    with python.Process(code, connections) as process:
        with Held(databases[0], 3) as held:
            assert process.read() == "ready"
            held.wait()
            process.sleeps()
            since = time.monotonic()
            process.interrupt()
            assert process.read() == "interrupted None"
            assert time.monotonic() - since < 3
        process.write("")
        assert process.read() == f"{len(filled.entities)} True"
        assert process.end() == (0, "", "")


def test_a_handler_that_closes_it_ends_the_wait(connections, databases, filled):  # noqa: F811
    code = """
db = Datastore(connections)
rows = db.find()
signal.signal(signal.SIGINT, lambda *_: rows.close())
say("ready")
try:
    list(rows)
except PoolError as error:
    say(error.status)
db.close()
"""
    with Held(databases[0], 3) as held, python.Process(code, connections) as process:
        assert process.read() == "ready"
        held.wait()
        process.sleeps()
        process.interrupt()
        assert process.read() == "HV_CLOSED"
        assert process.end() == (0, "", "")


# ---- servers that fail ----


@pytest.fixture
def own(own_servers, own_connections):  # noqa: F811
    """A store with a few entities on servers of its own, of which the first is then stopped."""
    with Datastore(own_connections) as db:
        keys = db.put_many([(shard, 1, {"n": str(shard)}) for shard in range(1, 17)])
        own_servers[0].server.stop("immediate")
        yield db, keys


def test_a_server_that_is_down_is_an_error_or_missing(own):
    db, keys = own
    for call in (lambda **how: list(db.find(**how)), db.count):
        with pytest.raises(ConnectionError) as caught:
            call()
        assert caught.value.server == "server 1"
    with db.find(partial=True) as rows:
        assert [row["id"] for row in rows] == sorted(int(key) for key in keys[8:])
        assert [(error.server, error.status) for error in rows.missing] == [
            ("server 1", "HV_UNAVAILABLE")
        ]
    count = db.count(partial=True)
    assert count == 8 and [error.server for error in count.missing] == ["server 1"]
    counts = db.count("server", skip="server 1")
    assert counts == {"server 2": 8} and [error.server for error in counts.missing] == ["server 1"]


def test_the_same_in_an_event_loop(own):
    db, keys = own

    async def work():
        async with aio.Session(db) as session:
            with pytest.raises(ConnectionError):
                [row async for row in session.find()]
            rows = session.find(partial=True)
            assert len([row async for row in rows]) == 8
            assert [error.server for error in rows.missing] == ["server 1"] and rows.ended
            assert (await session.count(partial=True)).missing[0].server == "server 1"

    run(work)


# ---- event loops ----


def test_a_loop_goes_on_while_a_reader_waits(db, databases, filled):  # noqa: F811
    async def work():
        async with aio.Session(db) as session:
            with Held(databases[0], 3):
                task = asyncio.ensure_future(first(session.find()))
                gaps, last = [], time.monotonic()
                while len(gaps) < 50:
                    await asyncio.sleep(0.005)
                    gaps.append(time.monotonic() - last)
                    last = time.monotonic()
                assert max(gaps) < 2 and not task.done()
                assert await session.put(12, 99) is not None
                await session.delete_many([Key(row["id"]) for row in db.find(12, kind=99)])
            assert list(await task) == filled.find(limit=1)[0]

    run(work)


async def first(rows):
    async for row in rows:
        return row


def test_other_tasks_run_while_there_are_rows_enough(db, filled):  # noqa: F811
    async def work():
        turns = 0

        async def count():
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        async with aio.Session(db) as session:
            task = asyncio.ensure_future(count())
            found = [row async for row in session.find()]
            assert turns >= len(found) // 100
            task.cancel()

    run(work)


def test_a_task_that_is_cancelled_loses_no_row(db, databases, filled):  # noqa: F811
    async def work():
        async with aio.Session(db) as session:
            rows = session.find()
            with Held(databases[0], 3):
                for _ in range(3):
                    with pytest.raises(asyncio.TimeoutError):
                        await asyncio.wait_for(rows.__anext__(), 0.05)
            assert [list(row) async for row in rows] == filled.find()

    run(work)


def test_one_task_at_a_time_iterates(db, databases, filled):  # noqa: F811
    async def work():
        async with aio.Session(db) as session:
            rows = session.find()
            with Held(databases[0], 3):
                task = asyncio.ensure_future(first(rows))
                await until(lambda: rows._ready is not None)
                with pytest.raises(RuntimeError, match="another task"):
                    await rows.__anext__()
            assert list(await task) == filled.find(limit=1)[0]

    run(work)


@pytest.mark.parametrize("how", ["reader", "session", "terminate"])
def test_a_reader_is_closed_while_a_task_waits(db, databases, filled, how):  # noqa: F811
    async def work():
        session = aio.Session(db)
        rows = session.find()
        with Held(databases[0], 3):
            task = asyncio.ensure_future(first(rows))
            await until(lambda: rows._ready is not None)
            if how == "reader":
                rows.close()
            elif how == "session":
                await session.close()
            else:
                session.terminate()
            kind = asyncio.CancelledError if how == "terminate" else PoolError
            with pytest.raises(kind):
                await task
        assert rows.closed
        with pytest.raises(PoolError):
            await rows.__anext__()
        await session.close()

    run(work)
    eventually(lambda: lent(db) == 0)


def test_a_loop_of_an_event_loop_can_be_left(db, filled):  # noqa: F811
    async def work():
        async with aio.Session(db) as session:
            for number in (1, 5, 300):
                async for row in session.find():
                    number -= 1
                    if number == 0:
                        break
            async with session.find() as rows:
                await rows.__anext__()
            assert rows.closed
            await until(lambda: lent(db) == 0)
        with pytest.raises(PoolError):
            session.find()
        with pytest.raises(PoolError):
            await session.count()

    run(work)
