"""Transactions in Python that are used within another one, elsewhere or too late."""

import asyncio
import gc
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import psycopg2
import pytest

from harness import eventually, python
from transaction_forms import (  # noqa: F401
    MISSING,
    SHARD,
    TABLE,
    check_pool,
    connections,
    databases,
    db,
    either,
    in_run,
    in_with,
    key,
    sql,
)

from hv.datastore import ConnectionError, Datastore, DatastoreError, PoolError

# ---- within another one ----


def test_a_transaction_does_not_begin_within_another(db, either, key):
    def work(tx):
        tx.merge(key, {"c": "d"})
        for form in (in_with, in_run):
            with pytest.raises(DatastoreError, match="within another one") as caught:
                form(db, lambda inner: pytest.fail("called"))
            assert caught.value.status == "HV_INVALID" and "SAVEPOINT" in caught.value.hint
            assert caught.value.message == "a transaction cannot begin within another one"
        with pytest.raises(DatastoreError, match="within another one"):
            with db.transaction(12):  # even in another shard
                pytest.fail("entered")

    either(work)
    assert db.get(key)["body"] == {"a": "b", "c": "d"}
    either(lambda tx: None)


def test_another_stores_transaction_may(db, either, connections):
    with Datastore(connections) as other:

        def work(tx):
            with other.transaction(SHARD) as inner:
                return tx.put(SHARD, 1), inner.put(SHARD, 1)

        assert all(map(db.exists, either(work)))


def test_each_thread_and_each_task_has_its_own(db, key):
    with db.transaction(SHARD) as tx:
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(in_with, db, lambda inner: inner.exists(key)).result()
        assert tx.exists(key)

    async def task(began, number):
        with db.transaction(SHARD) as tx:
            await began.wait()
            tx.put(SHARD, 1, n=number)
            with pytest.raises(DatastoreError, match="within another"):
                db.run_transaction(SHARD, print)
            return number

    async def main():
        began = asyncio.Event()
        with db.transaction(SHARD):  # which its children do not inherit
            tasks = [asyncio.create_task(task(began, number)) for number in range(3)]
            await asyncio.sleep(0)
            began.set()
            return await asyncio.gather(*tasks)

    assert asyncio.run(main()) == [0, 1, 2]


def test_not_before_it_begins(db):
    tx = db.transaction(SHARD)
    for use in (lambda: tx.put(SHARD, 1), tx.cursor, lambda: tx.call):
        with pytest.raises(DatastoreError, match="has not begun"):
            use()
    with pytest.raises(DatastoreError, match="has not begun"):
        tx.__exit__(None, None, None)
    with tx:
        with pytest.raises(DatastoreError, match="has begun already"):
            tx.__enter__()
    with pytest.raises(DatastoreError, match="is over"):
        tx.__enter__()


def test_one_thread_at_a_time(db, either, key):
    def work(tx):
        cursor = tx.cursor()
        sleeping = threading.Thread(target=cursor.execute, args=("SELECT pg_sleep(0.5)",))
        sleeping.start()
        eventually(lambda: in_use(tx))
        with pytest.raises(DatastoreError, match="in use by another thread") as caught:
            tx.get(key)
        assert caught.value.status == "HV_INVALID"
        with pytest.raises(psycopg2.InterfaceError, match="in use by another thread"):
            cursor.execute("SELECT 1")
        sleeping.join()
        assert tx.get(key)
        with db.cursor(SHARD) as other:
            other.execute("BEGIN")
            other.execute(f"SELECT FROM {TABLE} WHERE id = %s FOR UPDATE", [key])
            waiting = threading.Thread(target=tx.merge, args=(key, {"c": "d"}))
            waiting.start()
            eventually(lambda: in_use(tx))
            with pytest.raises(psycopg2.InterfaceError, match="in use by another thread"):
                cursor.execute("SELECT 1")
            with pytest.raises(DatastoreError, match="in use by another thread"):
                tx.delete(key)
            other.execute("ROLLBACK")
        waiting.join()

    either(work)
    assert db.get(key)["body"] == {"a": "b", "c": "d"}


def in_use(tx):
    try:
        tx.get(MISSING)
        return False
    except DatastoreError as error:
        return "in use" in str(error)


def test_an_end_while_another_thread_is_using_it(db, either, key):
    threads = []

    def work(tx):
        tx.delete(key)
        cursor = tx.cursor()
        thread = threading.Thread(target=cursor.execute, args=("SELECT pg_sleep(0.3)",))
        threads.append(thread)
        thread.start()
        eventually(lambda: in_use(tx))

    with pytest.raises(DatastoreError, match="was using the transaction at its end") as caught:
        either(work)
    assert caught.value.status == "HV_INVALID"
    threads[0].join()
    assert db.exists(key)


def test_many_threads_with_one_transaction_get_errors_and_never_crash(db, either, key):
    def work(tx):
        ends = time.monotonic() + 0.5
        results = []

        def hammer(number):
            while time.monotonic() < ends:
                try:
                    if number % 2:
                        sql(tx, "SELECT 1")
                    else:
                        tx.get(key)
                    results.append(True)
                except (DatastoreError, psycopg2.InterfaceError) as error:
                    assert "in use" in str(error)
                    results.append(False)

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(hammer, range(4)))
        assert {True, False} == set(results)
        tx.merge(key, {"c": "d"})

    either(work)
    assert db.get(key)["body"] == {"a": "b", "c": "d"}


def test_one_that_is_forgotten_is_rolled_back(db, key):
    tx = db.transaction(SHARD)
    tx.__enter__()
    tx.delete(key)
    cursor = tx.cursor()
    assert db.pool_stats()["lent"] == 1
    del tx
    gc.collect()
    assert db.exists(key)
    check_pool(db)
    with pytest.raises(psycopg2.InterfaceError, match="is over"):
        cursor.execute("SELECT 1")
    with db.transaction(SHARD) as tx:  # it is in the way of no other one
        tx.delete(key)
    assert not db.exists(key)


def test_one_of_a_thread_that_has_ended_is_in_nobodys_way(db):
    kept, idents = [], []

    def begin():
        kept.append(db.transaction(SHARD))
        kept[-1].__enter__()
        idents.append(threading.get_ident())

    for _ in range(8):
        thread = threading.Thread(target=begin)
        thread.start()
        thread.join()
    assert len(idents) == 8 > len(set(idents))  # those of threads that have ended are used again
    kept.clear()


def test_closing_a_store_waits_for_it(connections):
    with Datastore(connections) as db:
        key = db.put(SHARD, 1)
        with db.transaction(SHARD) as tx:
            with pytest.raises(PoolError) as caught:
                db.close(timeout=0.05)
            assert caught.value.status == "HV_BUSY"
            tx.delete(key)
        db.close()
        with pytest.raises(PoolError):
            db.run_transaction(SHARD, print)
        with pytest.raises(PoolError):
            with db.transaction(SHARD):
                pytest.fail("entered")
    with Datastore(connections) as db:
        assert not db.exists(key)


def test_disconnect_leaves_it_alone(db, either, key):
    def work(tx):
        tx.merge(key, {"c": "d"})
        sql(tx, "SELECT 1")
        db.disconnect()
        sql(tx, "SELECT 1")
        tx.merge(key, {"e": "f"})

    either(work)
    assert db.get(key)["body"] == {"a": "b", "c": "d", "e": "f"}


def test_a_pool_with_one_connection(connections):
    with Datastore(connections, pool_max=1, pool_block_timeout=0.1) as db:
        for _ in range(3):
            with db.transaction(SHARD) as tx:
                tx.put(SHARD, 1)
                with pytest.raises(ConnectionError):
                    db.put(SHARD, 1)
            db.run_transaction(SHARD, lambda tx: tx.put(SHARD, 1))
        assert db.pool_stats()["opened"] == 1


def test_in_a_forked_child(connections):
    result = python.run(
        """
        db = Datastore(connections)
        key = db.put(3, 1, a="b")

        def in_child(tx, cursor):
            for use in (lambda: tx.get(key), lambda: tx.put(3, 1), tx.cursor):
                try:
                    use()
                    say("no error")
                except DatastoreError as error:
                    assert "another process" in str(error), error
            try:
                cursor.execute("COMMIT")
                say("no error")
            except psycopg2.InterfaceError as error:
                assert "another process" in str(error), error
            with db.transaction(3) as own:
                own.merge(key, {"by": "child"})
            db.run_transaction(3, lambda own: own.merge(key, {"by": "child"}))

        def fork(tx, how):
            cursor = tx.cursor()
            child = os.fork()
            if child == 0:
                try:
                    in_child(tx, cursor)
                except BaseException as error:
                    say(repr(error))
                    os._exit(1)
                if how == "exit":
                    os._exit(0)
                if how == "raise":
                    raise ZeroDivisionError
                return child
            assert os.waitpid(child, 0)[1] == 0
            cursor.execute("SELECT 1")
            tx.merge(key, {"c": "d"})
            return child

        def in_with(work):
            with db.transaction(3) as tx:
                return work(tx)

        for form in (in_with, lambda work: db.run_transaction(3, work)):
            for how in ("exit", "raise", "return"):
                db.replace(key, 1)
                parent = os.getpid()
                try:
                    form(lambda tx: fork(tx, how))
                    assert os.getpid() == parent
                except ZeroDivisionError:
                    assert how == "raise" and os.getpid() != parent
                except DatastoreError as error:
                    if os.getpid() == parent:
                        raise
                    assert how in ("return", "raise") and "another process" in str(error), error
                if os.getpid() != parent:
                    db.close()
                    os._exit(0)
                assert db.get(key)["body"] == {"by": "child", "c": "d"}, (form, how)
        db.close()
        say("well")
        """,
        connections,
    )
    assert (result.code, result.err, result.lines) == (0, "", ["well"]), str(result)


def test_a_signal_that_ends_the_program(connections):
    with python.Process(
        """
        db = Datastore(connections)
        key = db.put(3, 1, a="b")
        lock = db.get_connection(3)
        lock.cursor().execute("BEGIN; LOCK TABLE shard0003.entities")

        def work(tx):
            say("waits")
            tx.get(key)

        def in_with():
            with db.transaction(3) as tx:
                work(tx)

        for form in (in_with, lambda: db.run_transaction(3, work)):
            try:
                form()
            except KeyboardInterrupt as error:
                say(type(error.__context__).__name__)
        lock.rollback() or lock.cursor().execute("ROLLBACK")
        db.put_connection(lock)
        assert db.pool_stats()["lent"] == 0
        db.close()
        """,
        connections,
    ) as process:
        for _ in range(2):
            assert process.read() == "waits"
            process.sleeps()
            process.interrupt()
            assert process.read() == "ConnectionError"
        assert process.end() == (0, "", "")


# ---- the end of the interpreter ----


def test_the_interpreter_ends_with_open_ones(connections):
    for how in ("sys.exit()", "raise SystemExit", "pass"):
        result = python.run(
            f"""
            quiet_threads()
            db = Datastore(connections)
            left = db.transaction(3)
            left.__enter__()
            left.put(3, 1)

            def work(tx):
                sql = tx.cursor()
                running.set()
                while True:
                    sql.execute("SELECT pg_sleep(0.01)")
                    tx.put(3, 7)

            running = threading.Event()
            threading.Thread(
                target=lambda: db.run_transaction(3, work, timeout=60), daemon=True).start()
            running.wait()
            say("ends")
            {how}
            """,
            connections,
        )
        assert (result.code, result.lines) == (0, ["ends"]), str(result)
