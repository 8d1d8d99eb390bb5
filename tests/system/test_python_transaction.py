"""Transactions in Python: `with db.transaction(…)`, and run_transaction(), which begins again."""

import asyncio
import gc
import io
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from random import Random

import psycopg2
import pytest
from psycopg2 import errors, extensions, extras

from harness import eventually, python
from harness.python import connections, databases, own_connections  # noqa: F401

python.provide()

from hv.datastore import (
    ChangedError,
    ConnectionError,
    Datastore,
    DatastoreError,
    KeyTypeError,
    PoolError,
    Transaction,
)
from hv.entity import Key

SHARD = 3
TABLE = "shard0003.entities"
FAIL_40001 = "DO $$ BEGIN RAISE EXCEPTION 'again' USING ERRCODE = '40001'; END $$"
MISSING = Key(307821103844175872 & ~(8191 << 10) | SHARD << 10)

HINT = "Use run_transaction(): it calls a function, and begins again by itself."


@pytest.fixture
def db(connections):
    """A store in which every test leaves the connections as they were."""
    with Datastore(connections) as store:
        yield store
        check_pool(store)


@pytest.fixture
def key(db):
    return db.put(SHARD, 1, a="b")


def in_with(db, function, **how):
    with db.transaction(SHARD, **how) as tx:
        return function(tx)


def in_run(db, function, **how):
    return db.run_transaction(SHARD, function, **how)


@pytest.fixture(params=[in_with, in_run])
def either(request, db):
    """Run a function in a transaction, in either form."""
    return lambda function, **how: request.param(db, function, **how)


def sql(tx, statement, *values):
    with tx.cursor() as cursor:
        cursor.execute(statement, values or None)
        return cursor.fetchall() if cursor.description else None


def check_pool(db, shard=SHARD):
    """Nothing is lent, and the connection that is lent next is as new."""
    stats = db.pool_stats()
    assert (stats["lent"], stats["waiting"]) == (0, 0)
    with db.cursor(shard) as cursor:
        connection = cursor.connection
        assert connection._hv_transaction is None
        assert (connection.autocommit, connection.status) == (True, extensions.STATUS_READY)
        assert connection.isolation_level is connection.readonly is connection.deferrable is None
        assert connection.info.transaction_status == extensions.TRANSACTION_STATUS_IDLE
        cursor.execute("SELECT 1")
        assert connection.info.transaction_status == extensions.TRANSACTION_STATUS_IDLE
        assert type(cursor).__module__ == "hv._cursor"


# ---- what is done in one ----


def test_every_operation_is_that_of_a_datastore(db, either, key):
    first, second = db.reserve(SHARD, 2)
    counted = db.put(SHARD, 1, n=1)

    def work(tx):
        made = tx.put(SHARD, 2, {"x": 1}, y=None)
        tx.put_key(first, 3, beep="boop")
        tx.put_key(first, 3, beep="boop")
        assert tx.get(made)["body"] == {"x": "1", "y": None}
        assert tx.get(made, only=["x"])["body"] == {"x": "1"}
        version = tx.get(key, version=True).version
        assert tx.replace(key, 4, {"c": True}, if_version=version) is True
        assert tx.merge(key, {"d": 5}, ["c"], if_={"c": "true"}, if_kind=4) is True
        assert tx.increment(counted, "n", Decimal("0.5")) == Decimal("1.5")
        assert tx.exists(first) and not tx.exists(second)
        assert tx.get(second) is None
        assert tx.replace(second, 1) is tx.merge(second, {"a": "b"}) is tx.delete(second) is False
        assert tx.increment(second, "a") is None
        assert tx.delete(first, if_={"beep": "boop"}) is True
        assert db.get(key)["body"] == {"a": "b"} and db.get(made) is None
        return made

    made = either(work)
    assert made.shard_id == SHARD
    assert db.get(made)["type"] == 2
    assert db.get(key)["body"] == {"d": "5"}
    assert db.get(counted)["body"] == {"n": "1.5"}
    assert db.get(first) is None


def test_a_function_that_takes_a_datastore_takes_a_transaction(db, key):
    def work(at):
        at.merge(key, {"n": (at.get(key)["body"].get("n") or "") + "x"})
        with at.cursor(SHARD) as cursor:
            cursor.execute(f"SELECT body -> 'n' FROM {TABLE} WHERE id = %s", [key])
            return cursor.fetchone()[0]

    assert work(db) == "x"
    assert db.run_transaction(SHARD, work) == "xx"
    with db.transaction(SHARD) as tx:
        assert work(tx) == "xxx"
    with db.transaction(SHARD) as tx:
        for name in ("reserve", "put_many", "get_many", "scan", "get_connection", "transaction"):
            assert not hasattr(tx, name)


def test_an_exception_rolls_back_and_goes_on(db, either, key):
    class Mine(BaseException):
        pass

    for kind in (ValueError, Mine, KeyboardInterrupt, SystemExit):
        thrown = kind("mine")

        def work(tx):
            tx.delete(key)
            tx.put(SHARD, 7)
            raise thrown

        with pytest.raises(kind) as caught:
            either(work)
        assert caught.value is thrown and thrown.__context__ is None
        assert db.exists(key)


def test_a_condition_that_does_not_hold_is_no_failure(db, either, key):
    def work(tx):
        with pytest.raises(ChangedError) as caught:
            tx.merge(key, {"c": "d"}, if_={"a": "x"})
        assert caught.value.present["body"] == {"a": "b"}
        tx.merge(key, {"c": "e"})

    either(work)
    assert db.get(key)["body"] == {"a": "b", "c": "e"}

    def leave(tx):
        tx.merge(key, {"c": "f"})
        tx.delete(key, if_kind=2)

    with pytest.raises(ChangedError):
        either(leave)
    assert db.get(key)["body"] == {"a": "b", "c": "e"}


@pytest.mark.parametrize("level", ["read committed", "repeatable read", "serializable"])
def test_the_isolation_level(db, either, level):
    found = either(lambda tx: sql(tx, "SHOW transaction_isolation"), isolation=level)
    assert found == [[level]]
    assert either(lambda tx: sql(tx, "SHOW transaction_isolation")) == [["read committed"]]


# ---- bad input ----


@pytest.mark.parametrize("isolation", ["", "SERIALIZABLE", "read uncommitted", "serializable "])
def test_no_isolation_level(db, either, isolation):
    with pytest.raises(DatastoreError, match="isolation must be") as caught:
        either(lambda tx: pytest.fail("called"), isolation=isolation)
    assert caught.value.status == "HV_INVALID" and repr(isolation) in str(caught.value)


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), 1e300])
def test_no_timeout(db, either, timeout):
    with pytest.raises(DatastoreError, match="timeout must be") as caught:
        either(lambda tx: pytest.fail("called"), timeout=timeout)
    assert caught.value.status == "HV_INVALID"


def test_wrong_types(db):
    for bad in (
        lambda: db.transaction(),
        lambda: db.transaction("3"),
        lambda: db.transaction(3, "serializable"),
        lambda: db.transaction(3, isolation=1),
        lambda: db.transaction(3, timeout="1"),
        lambda: db.transaction(3, level="serializable"),
        lambda: db.run_transaction(3),
        lambda: db.run_transaction(3, None),
        lambda: db.run_transaction(3, print, "serializable"),
        lambda: db.run_transaction("3", print),
        lambda: Transaction(),
    ):
        with pytest.raises(TypeError):
            bad()


def test_a_shard_that_nobody_holds(db, either):
    for shard in (4711, 99999, -1):
        with pytest.raises(DatastoreError):
            db.run_transaction(shard, lambda tx: pytest.fail("called"))
        with pytest.raises(DatastoreError):
            with db.transaction(shard):
                pytest.fail("entered")


def test_another_shard_is_refused_and_nothing_is_written(db, either, key):
    there = db.put(12, 1, a="b")
    for act in (
        lambda tx: tx.put(12, 1),
        lambda tx: tx.get(there),
        lambda tx: tx.merge(there, {"a": "c"}),
        lambda tx: tx.delete(there),
    ):

        def work(tx):
            tx.delete(key)
            act(tx)

        with pytest.raises(DatastoreError, match="the transaction is in shard 3") as caught:
            either(work)
        assert caught.value.status == "HV_INVALID"
        assert caught.value.hint == "One transaction is in one shard."

        def forget(tx):
            tx.delete(key)
            with pytest.raises(DatastoreError):
                act(tx)

        with pytest.raises(DatastoreError, match="cannot be committed") as caught:
            either(forget)
        assert caught.value.status == "HV_INVALID" and not caught.value.retriable
        assert db.exists(key)
    assert db.get(there)["body"] == {"a": "b"}
    with pytest.raises(DatastoreError, match="another shard"):
        either(lambda tx: tx.cursor(12))


def test_what_is_refused_before_it_is_sent_leaves_the_transaction_alone(db, either, key):
    def work(tx):
        tx.merge(key, {"c": "d"})
        with pytest.raises(KeyTypeError):
            tx.get(key.id)
        with pytest.raises(TypeError):
            tx.put(SHARD, 1, tags=["a"])
        with pytest.raises(TypeError):
            tx.increment(key, "n", 0.5)

    either(work)
    assert db.get(key)["body"] == {"a": "b", "c": "d"}


def test_an_error_that_is_forgotten(db, either, key):
    """A failed operation dooms the transaction, whatever the function does with the exception."""
    db.merge(key, {"word": "none"})

    def work(tx):
        tx.merge(key, {"c": "d"})
        with pytest.raises(DatastoreError) as first:
            tx.increment(key, "word")
        with pytest.raises(DatastoreError, match="an earlier operation") as later:
            tx.get(key)
        assert later.value.status == first.value.status
        assert first.value.message in later.value.detail

    with pytest.raises(DatastoreError, match="cannot be committed") as caught:
        either(work)
    assert caught.value.status == "HV_INVALID"
    assert db.get(key)["body"] == {"a": "b", "word": "none"}


# ---- SQL of one's own ----


def test_sql_is_in_the_same_transaction(db, either, key):
    def work(tx):
        made = tx.put(SHARD, 5, {"by": "put"})
        with tx.cursor() as cursor:
            cursor.execute(f"SELECT body FROM {TABLE} WHERE id = %s", [made])
            assert cursor.fetchone()["body"] == {"by": "put"}  # hstore, and columns by name
            cursor.execute(
                f"UPDATE {TABLE} SET body = %s WHERE id = ANY (%s)", [{"by": "sql"}, [made, key]]
            )
            assert cursor.rowcount == 2
        assert tx.get(made)["body"] == tx.get(key)["body"] == {"by": "sql"}
        assert sql(tx, "SELECT count(*) FROM pg_prepared_xacts") == [[0]]
        return made

    made = either(work)
    assert db.get(made)["body"] == {"by": "sql"}

    def fail(tx):
        sql(tx, f"DELETE FROM {TABLE} WHERE id = %s", made)
        assert not tx.exists(made)
        raise ValueError

    with pytest.raises(ValueError):
        either(fail)
    assert db.exists(made)


@pytest.mark.parametrize("logger", [None, logging.getLogger("transactions")])
def test_cursors_of_every_class(connections, logger):
    factories = (
        None,
        extensions.cursor,
        extras.DictCursor,
        extras.RealDictCursor,
        extras.NamedTupleCursor,
    )
    with Datastore(connections, logger=logger) as db:
        with db.transaction(SHARD) as tx:
            assert tx.cursor().connection.__class__.__name__ in ("Connection", "LoggedConnection")
            for factory in factories:
                with tx.cursor(cursor_factory=factory) as cursor:
                    if factory is not None:
                        assert isinstance(cursor, factory)
                        assert type(cursor).__name__ == factory.__name__
                    cursor.execute("SELECT 'a=>1'::hstore AS h, txid_current_if_assigned() AS t")
                    row = cursor.fetchone()
                    value = row["h"] if factory is extras.RealDictCursor else row[0]
                    assert value == {"a": "1"}
                    cursor.executemany("SELECT %s", [(1,), (2,)])
                    cursor.callproc("pg_catalog.abs", [-3])
                    assert list(cursor) != []
                    extras.execute_values(cursor, "SELECT * FROM (VALUES %s) AS v", [(1,), (2,)])
                    assert len(cursor.fetchall()) == 2
            with tx.cursor() as cursor:
                cursor.execute("CREATE TEMP TABLE t (n int) ON COMMIT DROP")
                cursor.copy_from(io.StringIO("1\n2\n"), "t")
                cursor.copy_expert("COPY t FROM STDIN", io.StringIO("3\n"))
                out = io.StringIO()
                cursor.copy_to(out, "t")
                assert out.getvalue() == "1\n2\n3\n"
            other = tx.cursor().connection.cursor()
            other.execute("DECLARE c CURSOR FOR SELECT * FROM t; FETCH 2 FROM c")
            assert [row[0] for row in other] == [1, 2]
        check_pool(db)


REFUSED = [
    lambda connection: connection.commit(),
    lambda connection: connection.rollback(),
    lambda connection: connection.__enter__(),
    lambda connection: connection.close(),
    lambda connection: connection.reset(),
    lambda connection: connection.set_session(autocommit=False),
    lambda connection: connection.set_isolation_level(0),
    lambda connection: connection.set_client_encoding("LATIN1"),
    lambda connection: connection.tpc_begin(connection.xid(1, "a", "b")),
    lambda connection: connection.lobject(),
    lambda connection: setattr(connection, "autocommit", False),
    lambda connection: setattr(connection, "autocommit", True),
    lambda connection: setattr(connection, "isolation_level", 3),
    lambda connection: setattr(connection, "readonly", True),
    lambda connection: setattr(connection, "deferrable", True),
]


def test_psycopg2_neither_begins_nor_ends_it(db, either, key):
    def work(tx):
        tx.merge(key, {"c": "d"})
        with tx.cursor() as cursor:
            for act in REFUSED:
                with pytest.raises(psycopg2.ProgrammingError, match="of the store") as caught:
                    act(cursor.connection)
                assert "is not for a connection in a transaction" in str(caught.value)
            with pytest.raises(psycopg2.ProgrammingError, match="has no name"):
                tx.cursor(name="c")
            with pytest.raises(psycopg2.ProgrammingError, match="has no name"):
                cursor.connection.cursor("c", withhold=True)
            cursor.execute("SELECT 1")
        with pytest.raises(PoolError):
            db.put_connection(cursor.connection)
        assert db.get(key)["body"] == {"a": "b"}

    either(work)
    assert db.get(key)["body"] == {"a": "b", "c": "d"}
    # What is refused there is allowed on a connection that is lent.
    lent = db.get_connection(SHARD)
    lent.autocommit = False
    with lent, lent.cursor() as cursor:
        cursor.execute(f"DELETE FROM {TABLE} WHERE id = %s", [key])
    lent.rollback()
    db.put_connection(lent)
    assert not db.exists(key)


@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK", "COMMIT AND CHAIN; COMMIT"])
@pytest.mark.parametrize("then", [lambda tx, key: None, lambda tx, key: tx.get(key)])
def test_a_statement_that_ends_it_is_found_out(db, either, key, end, then):
    def work(tx):
        tx.merge(key, {"c": "d"})
        sql(tx, end)
        then(tx, key)

    with pytest.raises(DatastoreError, match="ended by a statement") as caught:
        either(work)
    assert caught.value.outcome_unknown and not caught.value.retriable


def test_an_exception_goes_on_even_if_a_statement_has_ended_it(db, key):
    with pytest.raises(ValueError):
        with db.transaction(SHARD) as tx:
            sql(tx, "COMMIT")
            raise ValueError


def test_a_statement_that_fails(db, either, key):
    calls = []

    def work(tx):
        calls.append(tx)
        tx.merge(key, {"c": "d"})
        sql(tx, "SELECT 1/0")

    with pytest.raises(errors.DivisionByZero):
        either(work)
    assert len(calls) == 1 and db.get(key)["body"] == {"a": "b"}


def test_a_statement_whose_failure_is_forgotten(db, either, key):
    def work(tx):
        tx.merge(key, {"c": "d"})
        with pytest.raises(errors.DivisionByZero):
            sql(tx, "SELECT 1/0")

    with pytest.raises(DatastoreError, match="cannot be committed") as caught:
        either(work)
    assert "division by zero" in caught.value.detail
    assert caught.value.sqlstate == "22012" and caught.value.status == "HV_INVALID"

    def go_on(tx):
        work(tx)
        tx.get(key)

    with pytest.raises(DatastoreError, match="an earlier operation") as caught:
        either(go_on)
    assert "division by zero" in caught.value.detail
    assert db.get(key)["body"] == {"a": "b"}


def test_a_failure_that_a_savepoint_undoes_is_none(db, either, key):
    def work(tx):
        tx.merge(key, {"c": "d"})
        with tx.cursor() as cursor:
            for statement in ("SELECT 1/0", FAIL_40001):
                cursor.execute("SAVEPOINT here")
                with pytest.raises(psycopg2.Error):
                    cursor.execute(statement)
                cursor.execute("ROLLBACK TO here")
        tx.merge(key, {"e": "f"})
        return tx.call

    assert either(work) == 1
    assert db.get(key)["body"] == {"a": "b", "c": "d", "e": "f"}


def test_a_cursor_is_of_no_use_after_the_end(db, either):
    kept = []

    def work(tx):
        cursor = tx.cursor()
        cursor.execute("SELECT generate_series(1, 3)")
        kept.extend((tx, cursor))

    either(work)
    tx, cursor = kept
    with db.cursor(SHARD) as other:
        other.execute("BEGIN")
        for use in (
            lambda: cursor.execute("COMMIT"),
            lambda: cursor.executemany("COMMIT", [()]),
            lambda: cursor.callproc("now"),
            lambda: cursor.copy_to(io.StringIO(), "pg_class"),
            lambda: cursor.copy_from(io.StringIO(), "pg_class"),
            lambda: cursor.copy_expert("COPY pg_class TO STDOUT", io.StringIO()),
        ):
            with pytest.raises(psycopg2.InterfaceError, match="the transaction is over"):
                use()
        assert cursor.connection is other.connection
        assert other.connection.info.transaction_status == extensions.TRANSACTION_STATUS_INTRANS
    assert [row[0] for row in cursor] == [1, 2, 3]  # what it has fetched it has
    for use in (
        lambda: tx.put(SHARD, 1),
        lambda: tx.get(MISSING),
        lambda: tx.exists(MISSING),
        lambda: tx.delete(MISSING),
        lambda: tx.cursor(),
        lambda: tx.call,
        lambda: tx.__enter__(),
        lambda: tx.__exit__(None, None, None),
    ):
        with pytest.raises(DatastoreError, match="the transaction is over") as caught:
            use()
        assert caught.value.status == "HV_INVALID"
    del tx
    kept.clear()
    with pytest.raises(psycopg2.InterfaceError, match="the transaction is over"):
        cursor.execute("SELECT 1")


def test_a_type_that_is_new_is_looked_up_in_it(db, either):
    def work(tx):
        with tx.cursor() as cursor:
            cursor.execute("CREATE TYPE pg_temp.mood AS ENUM ('well'); SELECT 'well'::pg_temp.mood")
            return cursor.fetchone()[0]

    assert either(work) == "well"


# ---- what may pass ----


def failing(fail, calls, times=1):
    def work(tx):
        calls.append(tx.call)
        if len(calls) <= times:
            fail(tx)
        return "done"

    return work


def wrapped(tx):
    try:
        sql(tx, FAIL_40001)
    except psycopg2.Error as error:
        raise RuntimeError("mine") from error


def swallowed(tx):
    with pytest.raises(psycopg2.Error):
        sql(tx, FAIL_40001)


def swallowed_then_used(tx):
    swallowed(tx)
    tx.exists(MISSING)


def lost(tx):
    sql(tx, "SELECT pg_terminate_backend(pg_backend_pid())")


def lost_swallowed(tx):
    with pytest.raises(psycopg2.Error):
        lost(tx)


FAILURES = [
    lambda tx: sql(tx, FAIL_40001),
    wrapped,
    swallowed,
    swallowed_then_used,
    lost,
    lost_swallowed,
]


@pytest.mark.parametrize("fail", FAILURES)
def test_run_transaction_begins_again(db, fail, key):
    calls = []

    def work(tx):
        tx.increment(key, "n")
        return failing(fail, calls, 3)(tx)

    assert db.run_transaction(SHARD, work) == "done"
    assert calls == [1, 2, 3, 4]
    assert db.get(key)["body"]["n"] == "1"


def test_with_it_is_an_error_that_says_what_to_do(db, key):
    for fail, status in (
        (FAILURES[0], "HV_REFUSED"),
        (swallowed, "HV_REFUSED"),
        (swallowed_then_used, "HV_REFUSED"),
        (lost, "HV_UNAVAILABLE"),
        (lost_swallowed, "HV_UNAVAILABLE"),
    ):
        with pytest.raises(DatastoreError) as caught:
            with db.transaction(SHARD) as tx:
                tx.merge(key, {"c": "d"})
                fail(tx)
        error = caught.value
        assert (error.status, error.retriable, error.hint) == (status, True, HINT), fail
        assert error.hint in str(error) and error.shard == SHARD
        if fail in (FAILURES[0], lost):
            assert isinstance(error.__cause__, psycopg2.Error)
        if status == "HV_REFUSED":
            assert error.sqlstate == "40001"
    with pytest.raises(RuntimeError, match="mine"):
        with db.transaction(SHARD) as tx:
            wrapped(tx)
    assert db.get(key)["body"] == {"a": "b"}


def test_an_operation_of_the_store_that_fails_so(db, key):
    """An update of what another transaction has changed since the snapshot."""

    def run(form, **how):
        calls = []

        def work(tx):
            calls.append(1)
            tx.get(key)
            if len(calls) == 1:
                db.increment(key, "n")
            tx.increment(key, "n")

        form(db, work, isolation="repeatable read", **how)
        return len(calls)

    with pytest.raises(DatastoreError) as caught:
        run(in_with)
    assert (caught.value.sqlstate, caught.value.retriable) == ("40001", True)
    assert caught.value.hint == HINT
    assert db.get(key)["body"]["n"] == "1"
    assert run(in_run) == 2
    assert db.get(key)["body"]["n"] == "3"


def test_a_failure_at_commit(db):
    """A deferred constraint that fails as a serialization does."""
    trigger = f"""
        CREATE OR REPLACE FUNCTION pg_temp.fail() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE EXCEPTION 'again' USING ERRCODE = '40001'; END $$;
        CREATE TEMP TABLE late (n int) ON COMMIT DROP;
        CREATE CONSTRAINT TRIGGER late AFTER INSERT ON late INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION pg_temp.fail();
        INSERT INTO late VALUES (1)"""
    with pytest.raises(DatastoreError) as caught:
        with db.transaction(SHARD) as tx:
            made = tx.put(SHARD, 1)
            sql(tx, trigger)
    assert (caught.value.sqlstate, caught.value.retriable) == ("40001", True)
    assert caught.value.hint == HINT and not db.exists(made)
    calls = []
    assert db.run_transaction(SHARD, failing(lambda tx: sql(tx, trigger), calls)) == "done"
    assert calls == [1, 2]


def test_write_skew_begins_one_again(db):
    """Each reads what the other writes."""
    one, two = db.put(SHARD, 1, n=1), db.put(SHARD, 1, n=1)
    both = threading.Barrier(2)

    def work(own):
        def run(tx):
            total = sum(int(tx.get(each)["body"]["n"]) for each in (one, two))
            if tx.call == 1:
                both.wait(30)
            tx.merge(own, {"n": total})
            return tx.call

        return db.run_transaction(SHARD, run, isolation="serializable", timeout=60)

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(work, (one, two)))[1] > 1
    assert sorted(int(db.get(each)["body"]["n"]) for each in (one, two)) == [2, 3]


def test_when_the_time_is_used_up_the_last_failure_comes_out(db, key):
    calls = []

    def work(tx):
        calls.append(1)
        sql(tx, f"DELETE FROM {TABLE} WHERE id = %s", key)
        sql(tx, FAIL_40001)

    with pytest.raises(DatastoreError, match="again") as caught:
        db.run_transaction(SHARD, work, timeout=1)
    assert 2 <= len(calls) <= 100
    error = caught.value
    assert error.sqlstate == "40001" and error.retriable and error.hint is None
    assert f"tried {len(calls)} times" in error.detail
    assert isinstance(error.__cause__, errors.SerializationFailure)
    assert db.get(key)["body"] == {"a": "b"}


def test_at_most_a_hundred_calls(db):
    calls = []
    with pytest.raises(DatastoreError):
        db.run_transaction(SHARD, failing(FAILURES[0], calls, 1000), timeout=120)
    assert calls == list(range(1, 101))


def test_a_deadline_ends_what_the_library_waits_for(db, key):
    with db.cursor(SHARD) as cursor:
        cursor.execute("BEGIN")
        cursor.execute(f"SELECT FROM {TABLE} WHERE id = %s FOR UPDATE", [key])
        for form in (in_with, in_run):
            with pytest.raises(ConnectionError) as caught:
                form(db, lambda tx: tx.delete(key), timeout=0.2)
            assert caught.value.status == "HV_TIMEOUT"
        cursor.execute("ROLLBACK")
    assert db.exists(key)


def test_what_does_not_pass_is_not_begun_again_whatever_it_is(db, key):
    calls = []

    class Mine(Exception):
        pass

    def work(tx):
        calls.append(1)
        tx.increment(key, "n")
        raise thrown

    for thrown in (Mine(), DatastoreError("mine"), psycopg2.OperationalError("mine")):
        calls.clear()
        with pytest.raises(type(thrown)) as caught:
            db.run_transaction(SHARD, work)
        assert caught.value is thrown and len(calls) == 1
    assert db.get(key)["body"] == {"a": "b"}


@pytest.mark.parametrize("thrown", [KeyboardInterrupt, SystemExit, asyncio.CancelledError])
def test_an_exception_that_ends_the_program_is_not_begun_again(db, thrown):
    calls = []

    def work(tx):
        calls.append(1)
        try:
            sql(tx, FAIL_40001)
        except psycopg2.Error:
            raise thrown from None

    with pytest.raises(thrown):
        db.run_transaction(SHARD, work)
    assert len(calls) == 1


def test_two_that_deadlock_on_purpose_both_succeed(db):
    one, two = db.put(SHARD, 1, n=0), db.put(SHARD, 1, n=0)
    both = threading.Barrier(2)
    calls = []

    def work(first, second):
        def run(tx):
            calls.append(1)
            tx.increment(first, "n")
            if tx.call == 1:
                both.wait(30)
            tx.increment(second, "n")
            return "done"

        return db.run_transaction(SHARD, run, timeout=60)

    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(work, (one, two), (two, one)))
    assert found == ["done", "done"] and len(calls) > 2
    assert [db.get(each)["body"]["n"] for each in (one, two)] == ["2", "2"]


def test_two_that_deadlock_in_sql_both_succeed(db):
    one, two = db.put(SHARD, 1, n=0), db.put(SHARD, 1, n=0)
    both = threading.Barrier(2)

    def work(first, second):
        def run(tx):
            for each in (first, second):
                sql(tx, f"UPDATE {TABLE} SET body = body || 'n=>1' WHERE id = %s", each)
                if tx.call == 1 and each is first:
                    both.wait(30)
            return tx.call

        return db.run_transaction(SHARD, run, timeout=60)

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(work, (one, two), (two, one))) == [1, 2]


def test_a_bank_keeps_its_sum(db):
    accounts = db.put_many([(SHARD, 1, {"sum": 100}) for _ in range(6)])
    def transfer(source, target, amount):
        def work(tx):
            has = int(tx.get(source)["body"]["sum"])
            if has < amount:
                return False
            total = int(tx.get(target)["body"]["sum"])
            tx.merge(source, {"sum": has - amount})
            tx.merge(target, {"sum": total + amount})
            return True

        return db.run_transaction(SHARD, work, isolation="serializable", timeout=120)

    def teller(number):
        random = Random(number)
        for _ in range(25):
            transfer(*random.sample(accounts, 2), random.randint(1, 60))
            if random.random() < 0.2:
                sums = db.run_transaction(
                    SHARD,
                    lambda tx: [int(tx.get(each)["body"]["sum"]) for each in accounts],
                    isolation="serializable",
                    timeout=120,
                )
                assert sum(sums) == 600 and min(sums) >= 0

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(teller, range(8)))
    sums = [int(row["body"]["sum"]) for row in db.get_many(accounts)]
    assert sum(sums) == 600 and min(sums) >= 0


# ---- lost connections ----


def test_a_server_that_restarts_in_the_middle(own_servers, own_connections):
    server = own_servers[0].server
    with Datastore(own_connections) as db:
        key = db.put(SHARD, 1, n=0)
        calls = []

        def work(tx):
            calls.append(tx.call)
            tx.increment(key, "n")
            if len(calls) == 1:
                server.restart("immediate")
            return tx.increment(key, "n")

        assert db.run_transaction(SHARD, work, timeout=120) == 2
        assert calls == [1, 2]
        with pytest.raises(ConnectionError) as caught:
            with db.transaction(SHARD) as tx:
                tx.increment(key, "n")
                server.restart("immediate")
                tx.increment(key, "n")
        assert caught.value.retriable and caught.value.hint == HINT
        assert db.get(key)["body"] == {"n": "2"}
        server.stop()
        calls.clear()
        with pytest.raises(ConnectionError):
            db.run_transaction(SHARD, work)
        with pytest.raises(ConnectionError) as caught:
            with db.transaction(SHARD):
                pytest.fail("entered")
        assert calls == [] and caught.value.hint != HINT
        server.start()
        stats = db.pool_stats()
        assert (stats["lent"], stats["waiting"]) == (0, 0)


@pytest.mark.parametrize("form", [in_with, in_run])
def test_a_commit_whose_answer_is_lost_has_an_unknown_outcome(own_servers, own_store, relay, form):
    way = relay(own_servers[0].server)
    there = dict(shards="1-9", sslmode="disable", **way.params("test"))
    with Datastore([there]) as db:
        key = db.put(SHARD, 1, n=0)
        calls = []

        def work(tx):
            calls.append(1)
            tx.increment(key, "n")
            way.cut_in("to_client", 1)

        with pytest.raises(DatastoreError) as caught:
            form(db, work)
        assert caught.value.outcome_unknown and not caught.value.retriable
        assert caught.value.status == "HV_OUTCOME_UNKNOWN" and len(calls) == 1
        assert caught.value.hint and caught.value.hint != HINT
        assert not way.waits_to_act
        assert db.get(key)["body"]["n"] in ("0", "1")
        assert db.pool_stats()["lent"] == 0


# ---- nested, elsewhere, too late ----


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
