"""Transactions of an event loop: `async with session.transaction(…)`, and run_transaction()."""

import asyncio
import gc
import threading

import pytest

from harness import eventually, python
from transaction_forms import (  # noqa: F401
    FAIL_40001,
    SHARD,
    TABLE,
    connections,
    databases,
    db,
    key,
    sql,
)

python.provide()

from hv import aio
from hv.datastore import ChangedError, DatastoreError, PoolError
from hv.entity import Key


async def in_with(session, function, **how):
    async with session.transaction(SHARD, **how) as tx:
        return await function(tx)


async def in_run(session, function, **how):
    return await session.run_transaction(SHARD, function, **how)


@pytest.fixture(params=[in_with, in_run])
def either(request, db):
    """Run a coroutine function in a transaction, in a session of its own, in either form."""

    async def work(function, **how):
        async with aio.Session(db) as session:
            return await request.param(session, function, **how)

    yield lambda function, **how: run(work, function, **how)
    check_threads()


def run(function, *args, **how):
    """As in test_python_aio.py."""

    async def limited():
        complaints = []
        asyncio.get_running_loop().set_exception_handler(lambda _, what: complaints.append(what))
        result = await asyncio.wait_for(function(*args, **how), 300)
        gc.collect()
        assert complaints == []
        return result

    return asyncio.run(limited())


async def until(condition):
    while not condition():
        await asyncio.sleep(0.005)


def check_threads():
    eventually(
        lambda: not [each for each in threading.enumerate() if each.name.startswith("hv ")],
        what="the threads have ended",
    )


def test_every_operation(db, either, key):
    (first,) = db.reserve(SHARD)

    async def work(tx):
        made = await tx.put(SHARD, 2, {"x": 1}, y=None)
        await tx.put_key(first, 3, beep="boop")
        assert (await tx.get(made, only=["x"]))["body"] == {"x": "1"}
        assert await tx.exists(first)
        assert await tx.replace(key, 4, {"c": True})
        assert await tx.merge(key, {"d": 5}, ["c"], if_kind=4)
        assert await tx.increment(made, "x") == 2
        assert await tx.delete(first)
        assert await tx.run(lambda tx: sql(tx, f"SELECT 1 FROM {TABLE} WHERE id = %s", made)) == [[1]]
        with pytest.raises(ChangedError):
            await tx.merge(key, {"e": "f"}, if_kind=1)
        assert tx.call == 1 and not db.exists(made)
        return made

    made = either(work)
    assert db.get(made)["body"] == {"x": "2", "y": None}
    assert db.get(key)["body"] == {"d": "5"}


def test_an_exception_rolls_back_and_goes_on(db, either, key):
    for thrown in (ValueError("mine"), asyncio.CancelledError()):

        async def work(tx):
            await tx.delete(key)
            raise thrown

        with pytest.raises(type(thrown)):
            either(work)
        assert db.exists(key)


def test_tasks_take_turns_in_one(db, either, key):
    async def work(tx):
        await asyncio.gather(*(tx.increment(key, "n") for _ in range(20)))
        return await tx.increment(key, "n")

    assert either(work) == 21


def test_what_may_pass(db, key):
    calls = []

    async def work(tx):
        calls.append(tx.call)
        await tx.increment(key, "n")
        if len(calls) < 3:
            await tx.run(lambda tx: sql(tx, FAIL_40001))
        return "done"

    async def main():
        async with aio.Session(db) as session:
            assert await in_run(session, work) == "done"
            assert calls == [1, 2, 3]
            calls.clear()
            with pytest.raises(DatastoreError) as caught:
                await in_with(session, work)
            assert caught.value.retriable and "run_transaction" in caught.value.hint

    run(main)
    assert db.get(key)["body"]["n"] == "1"
    check_threads()


def test_two_tasks_that_deadlock_both_succeed(db):
    one, two = db.put(SHARD, 1, n=0), db.put(SHARD, 1, n=0)

    async def main():
        arrived = []

        def work(first, second):
            async def function(tx):
                await tx.increment(first, "n")
                arrived.append(tx)
                await until(lambda: len(arrived) > 1)
                return await tx.increment(second, "n")

            return function

        async with aio.Session(db) as session:
            await asyncio.gather(
                in_run(session, work(one, two), timeout=60),
                in_run(session, work(two, one), timeout=60),
            )

    run(main)
    assert [db.get(each)["body"]["n"] for each in (one, two)] == ["2", "2"]
    check_threads()


def test_nested_ones_are_refused_and_those_of_other_tasks_are_not(db, key):
    async def main():
        async with aio.Session(db) as session:
            for outer in (in_with, in_run):

                async def work(tx):
                    for inner in (in_with, in_run):
                        with pytest.raises(DatastoreError, match="within another one"):
                            await inner(session, lambda tx: pytest.fail("called"))
                    with pytest.raises(DatastoreError, match="within another one"):
                        with db.transaction(SHARD):
                            pytest.fail("entered")
                    other = asyncio.create_task(in_with(session, lambda tx: tx.put(SHARD, 1)))
                    assert isinstance(await other, Key)
                    return await tx.merge(key, {"c": "d"})

                assert await outer(session, work)
                assert await outer(session, lambda tx: tx.delete(key, if_={"c": "d"}))
                db.put_key(key, 1, a="b")

    run(main)
    check_threads()


def test_a_cancelled_one_is_rolled_back(db, key):
    async def main():
        async with aio.Session(db) as session:
            for form in (in_with, in_run):
                begun = asyncio.Event()

                async def work(tx):
                    await tx.delete(key)
                    begun.set()
                    await asyncio.sleep(1000)

                task = asyncio.create_task(form(session, work))
                await begun.wait()
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                await until(lambda: db.pool_stats()["lent"] == 0)
                assert db.exists(key)

    run(main)
    check_threads()


def test_one_that_is_cancelled_while_it_waits(db, key):
    """The operation in its thread goes on until the lock is free; then all of it is rolled back."""

    async def main():
        async with aio.Session(db) as session:
            for form in (in_with, in_run):
                with db.cursor(SHARD) as cursor:
                    cursor.execute("BEGIN")
                    cursor.execute(f"SELECT FROM {TABLE} WHERE id = %s FOR UPDATE", [key])
                    task = asyncio.create_task(form(session, lambda tx: tx.delete(key)))
                    await until(lambda: db.pool_stats()["lent"] == 2)
                    task.cancel()
                    await asyncio.sleep(0.05)
                    cursor.execute("ROLLBACK")
                with pytest.raises(asyncio.CancelledError):
                    await task
                await until(lambda: db.pool_stats()["lent"] == 0)
                assert db.exists(key)

    run(main)
    check_threads()


def test_after_its_end(db, either, key):
    kept = []

    async def work(tx):
        kept.append(tx)

    either(work)
    (tx,) = kept

    async def use():
        for act in (tx.get(key), tx.put(SHARD, 1), tx.run(sql), tx.__aenter__()):
            with pytest.raises((DatastoreError, TypeError)):
                await act

    run(use)
    with pytest.raises(DatastoreError, match="is over"):
        tx.call


def test_one_that_is_forgotten_is_rolled_back(db, key):
    async def main():
        async with aio.Session(db) as session:
            tx = session.transaction(SHARD)
            await tx.__aenter__()
            await tx.delete(key)
            assert db.pool_stats()["lent"] == 1
            del tx
            gc.collect()
            await until(lambda: db.pool_stats()["lent"] == 0)
            assert db.exists(key)

    run(main)
    check_threads()


def test_a_closed_session(db):
    async def main():
        session = aio.Session(db)
        await session.close()
        with pytest.raises(PoolError):
            session.transaction(SHARD)
        with pytest.raises(PoolError):
            await session.run_transaction(SHARD, lambda tx: pytest.fail("called"))

    run(main)


def test_bad_input(db):
    async def main():
        async with aio.Session(db) as session:
            for shard, how, kind in (
                (4711, {}, DatastoreError),
                ("3", {}, TypeError),
                (SHARD, dict(isolation="x"), DatastoreError),
                (SHARD, dict(timeout=-1), DatastoreError),
            ):
                with pytest.raises(kind):
                    async with session.transaction(shard, **how):
                        pytest.fail("entered")
                with pytest.raises(kind):
                    await session.run_transaction(shard, lambda tx: pytest.fail("called"), **how)

    run(main)
    check_threads()


def test_a_loop_that_ends_in_the_middle(connections):
    result = python.run(
        """
        import asyncio
        from hv import aio
        db = Datastore(connections)
        key = db.put(3, 1, a="b")

        async def main(form):
            session = aio.Session(db)
            async def work(tx):
                await tx.delete(key)
                begun.set()
                await asyncio.sleep(1000)
            async def with_form():
                async with session.transaction(3) as tx:
                    await work(tx)
            begun = asyncio.Event()
            task = asyncio.create_task(
                with_form() if form == "with" else session.run_transaction(3, work))
            await begun.wait()
            session.terminate()
            if form == "stop":
                asyncio.get_running_loop().stop()
                await asyncio.sleep(1000)

        for form in ("with", "run"):
            asyncio.run(main(form))
            wait_for(lambda: db.pool_stats()["lent"] == 0)
            assert db.exists(key)
        for closed in (True, False):
            loop = asyncio.new_event_loop()
            task = loop.create_task(main("stop"))
            loop.run_forever()
            if closed:
                loop.close()
        say("ends")
        logging.disable()
        """,
        connections,
        development=False,
    )
    assert (result.code, result.lines) == (0, ["ends"]), str(result)
