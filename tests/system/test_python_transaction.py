"""Transactions in Python: what is done in them, bad input, and SQL of one's own."""

import io
import logging
from decimal import Decimal

import psycopg2
import pytest
from psycopg2 import errors, extensions, extras

from transaction_forms import (  # noqa: F401
    FAIL_40001,
    MISSING,
    SHARD,
    TABLE,
    check_pool,
    connections,
    databases,
    db,
    either,
    key,
    sql,
)

from hv.datastore import (
    ChangedError,
    Datastore,
    DatastoreError,
    KeyTypeError,
    PoolError,
    Transaction,
)

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


def test_a_type_is_not_looked_up_when_nothing_can_be_executed(db):
    def fetched(transaction, statement, then=lambda cursor: None):
        with transaction as tx:
            cursor = tx.cursor()
            cursor.execute(statement)
            then(cursor)
        return cursor

    make = "CREATE TYPE pg_temp.mood AS ENUM ('well'); SELECT 'well'::pg_temp.mood"
    cursor = fetched(db.transaction(SHARD), make)
    with db.cursor(SHARD) as other:
        assert other.connection is cursor.connection
        known = other.connection._hv_types
        assert cursor.fetchone()[0] == "well"
        assert other.connection._hv_types is known  # it was not looked up

    def fail(cursor):
        with pytest.raises(errors.DivisionByZero):
            cursor.connection.cursor().execute("SELECT 1/0")
        assert cursor.fetchone()[0] == "well"
        cursor.execute("ROLLBACK TO here")

    make = make.replace("mood", "other") + ", 1; SAVEPOINT here; SELECT 'well'::pg_temp.other"
    fetched(db.transaction(SHARD), make, fail)


def test_a_type_that_is_new_is_looked_up_in_it(db, either):
    def work(tx):
        with tx.cursor() as cursor:
            cursor.execute("CREATE TYPE pg_temp.mood AS ENUM ('well'); SELECT 'well'::pg_temp.mood")
            return cursor.fetchone()[0]

    assert either(work) == "well"
