"""Work on all shards in an event loop: a thread does it, and cancelling the task ends it."""

import asyncio
import gc
import time

import pytest

from finding import lent
from harness import eventually, python
from harness.python import connections, databases, db  # noqa: F401
from test_python_aio import run, until
from test_python_each import sleepers

python.provide()

from hv import aio
from hv.datastore import DatastoreError, PoolError

SHARDS = list(range(1, 17))
SLEEP = "SELECT pg_sleep(CASE current_schema() WHEN 'shard0001' THEN 0 ELSE 600 END)"


@pytest.fixture
def directory(tmp_path):
    """A directory with a migration that does not end."""
    (tmp_path / "1_sleep.sql").write_text("SELECT pg_sleep(600);\n")
    return tmp_path


def test_every_shard_answers(db):  # noqa: F811
    async def work():
        async with aio.Session(db) as session:
            each = session.each_shard("SELECT %s, current_schema(), 'a=>1'::hstore", ["x"])
            found = {answer.shard: answer.rows async for answer in each}
            assert found == {n: [("x", f"shard{n:04d}", {"a": "1"})] for n in SHARDS}
            assert len(each.summary.done) == 16
            assert [answer async for answer in each] == []
            async with session.each_shard("SELECT 1", shards=3) as each:
                assert (await each.__anext__()).rows == [(1,)]
            with pytest.raises(PoolError):
                await each.__anext__()

    run(work)
    eventually(lambda: lent(db) == 0)


def test_everything_else(db, tmp_path):  # noqa: F811
    (tmp_path / "0001_nothing.sql").write_text("SELECT 1;\n")

    async def work():
        async with aio.Session(db) as session:
            assert repr(await session.migrate(tmp_path)) == "<Summary: 16 done>"
            assert (await session.migrate_status(tmp_path)).complete
            assert [step.shards for step in await session.migrate_plan(tmp_path)] in ([], [0])
            assert len((await session.index_create("user", shards="3,4")).done) == 2
            assert [index.name for index in await session.index_list()][1:] == ["entities_user_idx"]
            assert not (await session.schema_check()).alike
            assert len((await session.index_drop("entities_user_idx")).unchanged) == 14
            assert (await session.schema_check()).alike
            with pytest.raises(DatastoreError) as caught:
                await session.index_create(("user", "colour"))
            assert caught.value.status == "HV_INVALID"
            with pytest.raises(TypeError):
                await session.migrate(tmp_path, observer=5)
            forget = session.each_shard("DROP TABLE hypervault_migrations", write=True)
            assert {each.work async for each in forget} == {"done"}

    run(work)


def test_the_loop_goes_on_meanwhile(db, databases):  # noqa: F811
    async def work():
        async with aio.Session(db) as session:
            each = session.each_shard("SELECT pg_sleep(0.3)", parallel=1)
            task = asyncio.ensure_future(each.__anext__())
            await until(lambda: each._stop is not None)
            assert not task.done()
            with pytest.raises(RuntimeError, match="another task"):
                await each.__anext__()
            await task
            await each.close()

    run(work)


@pytest.mark.parametrize("how", ["cancel", "close", "session", "terminate"])
def test_what_ends_the_answers(db, databases, how):  # noqa: F811
    async def work():
        session = aio.Session(db)
        each = session.each_shard(SLEEP, parallel=8)
        assert (await each.__anext__()).shard == 1
        task = asyncio.ensure_future(each.__anext__())
        await until(lambda: each._stop is not None and sleepers(*databases) > 0)
        since = time.monotonic()
        if how == "cancel":
            task.cancel()
        elif how == "close":
            await each.close()
        elif how == "session":
            await session.close()
        else:
            session.terminate()
        cancelled = how in ("cancel", "terminate")
        with pytest.raises(asyncio.CancelledError if cancelled else PoolError):
            await task
        assert time.monotonic() - since < 10
        if how == "cancel":
            assert sleepers(*databases) == 0  # the end was waited for
        with pytest.raises(PoolError):
            await each.__anext__()
        await session.close()

    run(work)
    eventually(lambda: sleepers(*databases) == 0)
    eventually(lambda: lent(db) == 0)


def test_answers_that_nothing_refers_to_end(db, databases):  # noqa: F811
    async def work():
        async with aio.Session(db) as session:
            async for answer in session.each_shard(SLEEP, parallel=8):
                assert answer.shard == 1
                break
            gc.collect()
            await until(lambda: sleepers(*databases) == 0)
            await until(lambda: lent(db) == 0)

    run(work)


WORK = {
    "migrate": lambda session, path, text: session.migrate(_migration(path, text), shards=3),
    "plan": lambda session, path, text: session.migrate_plan(_migration(path, text), shards=3),
    "transaction": lambda session, path, text: session.run_transaction(
        3, lambda tx: tx.run(lambda tx: _execute(tx, text))
    ),
}


def _migration(path, text):
    (path / "1_sleep.sql").write_text(text)
    return path


def _execute(tx, text):
    with tx.cursor() as cursor:
        cursor.execute(text)
    return "executed"


@pytest.mark.parametrize("form", WORK)
def test_close_waits_for_the_end_of_work(db, databases, tmp_path, form):  # noqa: F811
    async def work():
        session = aio.Session(db)
        task = asyncio.ensure_future(WORK[form](session, tmp_path, "SELECT pg_sleep(1)"))
        await until(lambda: sleepers(*databases) > 0)
        await session.close()
        assert sleepers(*databases) == 0
        assert lent(db) == 0
        assert task.done()
        if form == "migrate":
            assert repr(await task) == "<Summary: 1 done>"
        elif form == "plan":
            assert [step.file for step in await task] == ["1_sleep.sql"]
        else:
            assert await task == "executed"
        with pytest.raises(PoolError):
            await session.schema_check()

    run(work)
    if form == "migrate":
        assert db.migrate_status(tmp_path, shards=3).complete
        forget = db.each_shard("DROP TABLE hypervault_migrations", shards=3, write=True)
        assert [each.work for each in forget] == ["done"]


@pytest.mark.parametrize("cancelled", [False, True], ids=["awaited", "cancelled"])
def test_close_waits_for_a_count(db, databases, cancelled):  # noqa: F811
    """Also for one that no task waits for any more."""

    async def work():
        session = aio.Session(db)
        with python.plain(databases[0]) as connection:
            cursor = connection.cursor()
            cursor.execute("BEGIN; LOCK TABLE shard0003.entities IN ACCESS EXCLUSIVE MODE")
            task = asyncio.ensure_future(session.count())
            await until(lambda: waiters(databases[0]) > 0)
            if cancelled:
                task.cancel()
            closing = asyncio.ensure_future(session.close())
            assert await asyncio.wait([closing], timeout=0.2) == (set(), {closing})
            cursor.execute("ROLLBACK")
        await closing
        assert lent(db) == 0
        if cancelled:
            with pytest.raises(asyncio.CancelledError):
                await task
        else:
            assert isinstance(await task, int)

    run(work)


def waiters(database):
    """How many statements wait for a lock."""
    return database.value(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )


@pytest.mark.parametrize("how", ["cancel", "terminate", "close"])
@pytest.mark.parametrize("form", ["migrate", "plan"])
def test_what_ends_work(db, databases, tmp_path, form, how):  # noqa: F811
    """Cancelling the task, terminate(), and cancelling close()."""

    async def work():
        session = aio.Session(db)
        task = asyncio.ensure_future(WORK[form](session, tmp_path, "SELECT pg_sleep(600)"))
        await until(lambda: sleepers(*databases) > 0)
        if how == "cancel":
            task.cancel()
        elif how == "terminate":
            session.terminate()
        else:
            closing = asyncio.ensure_future(session.close())
            assert await asyncio.wait([closing], timeout=0.1) == (set(), {closing})
            assert not task.done()
            closing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await closing
        with pytest.raises(asyncio.CancelledError):
            await task
        if how == "cancel":
            assert sleepers(*databases) == 0  # the end was waited for
        session.terminate()

    run(work)
    eventually(lambda: sleepers(*databases) == 0)
    eventually(lambda: lent(db) == 0)


def test_terminate_rolls_a_transaction_back_and_cancels_its_function(db):  # noqa: F811
    key = db.put(3, 1)

    async def work():
        session, ends = aio.Session(db), []

        async def function(tx):
            await tx.delete(key)
            ends.append("begun")
            try:
                await asyncio.sleep(600)
            finally:
                ends.append("ended")

        task = asyncio.ensure_future(session.run_transaction(3, function))
        await until(lambda: ends)
        session.terminate()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: len(ends) > 1)

    run(work)
    eventually(lambda: lent(db) == 0)
    assert db.exists(key)
    db.delete(key)


def test_terminate_ends_a_close_that_waits(db, databases, tmp_path):  # noqa: F811
    async def work():
        session = aio.Session(db)
        task = asyncio.ensure_future(WORK["migrate"](session, tmp_path, "SELECT pg_sleep(600)"))
        await until(lambda: sleepers(*databases) > 0)
        closing = asyncio.ensure_future(session.close())
        assert await asyncio.wait([closing], timeout=0.1) == (set(), {closing})
        session.terminate()
        for each in (closing, task):
            with pytest.raises(asyncio.CancelledError):
                await each

    run(work)
    eventually(lambda: sleepers(*databases) == 0)
    eventually(lambda: lent(db) == 0)


def test_the_loop_calls_the_observer(db):  # noqa: F811
    async def work():
        loop, seen = asyncio.get_running_loop(), []

        def observe(event):
            assert asyncio.get_running_loop() is loop
            seen.append(event)

        async with aio.Session(db) as session:
            await session.schema_check(observer=observe)
            assert {event.server for event in seen if event.work == "done"} == {
                "server 1", "server 2"
            }  # fmt: skip
            seen.clear()
            assert len([each async for each in session.each_shard("SELECT 1", observer=observe)]) == 16
            assert {event.shard for event in seen} == set(SHARDS)

    run(work)


def test_what_an_observer_raises_ends_the_work_and_comes_out(db, databases, directory):  # noqa: F811
    class Mine(Exception):
        pass

    def observe(event):
        raise Mine(event.work)

    async def work():
        async with aio.Session(db) as session:
            with pytest.raises(Mine):
                await session.migrate(directory, observer=observe)
            with pytest.raises(Mine):
                async for _ in session.each_shard("SELECT pg_sleep(600)", observer=observe):
                    pass

    run(work)
    eventually(lambda: sleepers(*databases) == 0)
    eventually(lambda: lent(db) == 0)
