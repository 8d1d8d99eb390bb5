"""Transactions in Python that begin again, or report that they could."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from random import Random

import psycopg2
import pytest
from psycopg2 import errors

from harness.python import own_connections  # noqa: F401
from transaction_forms import (  # noqa: F401
    FAIL_40001,
    HINT,
    MISSING,
    SHARD,
    TABLE,
    connections,
    databases,
    db,
    in_run,
    in_with,
    key,
    sql,
)

from hv.datastore import ConnectionError, Datastore, DatastoreError

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
