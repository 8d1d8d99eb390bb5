"""Any number of threads use a store, and close it while others use it."""

import collections
import contextlib
import gc
import sys
import threading
import time
import weakref

import psycopg2
import pytest

from harness import eventually, python
from harness.python import connections, databases  # noqa: F401

python.provide()

from hv.datastore import Datastore, DatastoreError, PoolError


@pytest.fixture(autouse=True)
def often_switched():
    """Python switches threads as often as it can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


class Threads:
    """Threads that do something again and again, in a `with` that waits for their end."""

    def __init__(self, act, number):
        self.ending = threading.Event()
        self.errors = []
        self.done = collections.Counter()
        self._threads = [
            threading.Thread(target=self._work, args=(act, each)) for each in range(number)
        ]

    def _work(self, act, each):
        while not self.ending.is_set():
            try:
                act(each)
                self.done[each] += 1
            except BaseException as error:
                self.errors.append(error)
                return

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.ending.set()
        for thread in self._threads:
            thread.join()


def use(db, lent_may_close=False):
    """A function that does this and that; each thread has its own turn. A connection that is lent may
    be closed while it is in use, if that is expected."""
    closed = (psycopg2.Error,) if lent_may_close else ()
    turns = collections.defaultdict(int)

    def act(each):
        turns[each] += 1
        shard = each % 16 + 1
        what = (each + turns[each]) % 4
        if what == 3:
            with contextlib.suppress(*closed), db.cursor(shard) as cursor:
                cursor.execute("SELECT %s", (each,))
                assert cursor.fetchone() == [each]
            return
        body = {"thread": str(each), "turn": str(turns[each])}
        if what == 2:
            keys = db.put_many((shard, 1, body) for _ in range(3))
            assert [row["body"] for row in db.get_many(keys)] == [body] * 3
        else:
            assert db.get(db.put(shard, 1, body))["body"] == body

    return act


def test_32_threads_put_get_and_borrow(databases, connections):
    with Datastore(connections, pool_max=4, pool_block_timeout=60) as db:
        with Threads(use(db), 32) as threads:
            eventually(lambda: len(threads.done) == 32 and min(threads.done.values()) >= 20)
        assert threads.errors == []
        for server in db.servers:
            stats = db.pool_stats(server)
            assert stats["opened"] <= 4 and stats["lent"] == 0


@pytest.mark.parametrize("how", ["close", "disconnect", "reinstantiate"])
def test_others_are_at_work_meanwhile(databases, connections, how):
    db = Datastore(connections, pool_max=4, pool_block_timeout=60)
    with Threads(use(db, lent_may_close=how == "disconnect"), 16) as threads:
        eventually(lambda: len(threads.done) == 16)
        for _ in range(1 if how == "close" else 20):
            getattr(db, how)()
        if how != "close":
            done = sum(threads.done.values())
            eventually(lambda: sum(threads.done.values()) > done + 100)
    if how == "close":
        assert len(threads.errors) == 16
        assert {(type(error), error.status) for error in threads.errors} == {(PoolError, "HV_CLOSED")}
        assert db.closed
    else:
        assert threads.errors == []
        db.close()
    eventually(lambda: not databases[0].clients() and not databases[1].clients())


def test_a_thread_that_waits_for_a_connection_ends_when_the_store_closes(connections):
    db = Datastore(connections, pool_max=1, pool_block_timeout=600)
    lent = db.get_connection(3)
    with Threads(lambda each: db.get_connection(3), 4) as threads:
        eventually(lambda: db.pool_stats()["waiting"] == 4)
        with pytest.raises(PoolError) as caught:
            db.close(timeout=0)
        assert caught.value.status == "HV_BUSY"
        eventually(lambda: len(threads.errors) == 4)
    assert {error.status for error in threads.errors} == {"HV_CLOSED"}
    db.put_connection(lent)  # can still be given back
    db.close()
    assert lent.closed


def test_a_store_that_nobody_refers_to_closes_its_connections(databases, connections):
    db = Datastore(connections)
    db.put(3, 1)
    db.put(12, 1)
    gone = weakref.ref(db)
    del db
    gc.collect()
    assert gone() is None
    eventually(lambda: not databases[0].clients() and not databases[1].clients())


def test_a_store_in_a_cycle_is_collected(databases, connections):
    db = Datastore(connections)
    db.put(3, 1)
    db.myself = db
    gone = weakref.ref(db)
    del db
    gc.collect()
    assert gone() is None
    eventually(lambda: not databases[0].clients())


def test_a_borrowed_connection_outlives_the_variable_of_its_store(databases, connections):
    connection = Datastore(connections).get_connection(3)
    gc.collect()
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        assert cursor.fetchone() == [1]
    connection.close()
    del connection, cursor
    gc.collect()
    eventually(lambda: not databases[0].clients())


def test_other_threads_run_while_one_waits(connections, databases):
    with Datastore(connections) as db, databases[0].connect() as other:
        other.autocommit = False
        other.cursor().execute("LOCK shard0003.entities")
        thread = threading.Thread(target=db.put, args=(3, 1))
        thread.start()
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        eventually(lambda: databases[0].value(waiting) == 1)  # we run
        assert db.get(db.put(4, 1, a="b"))["body"] == {"a": "b"}
        other.rollback()
        thread.join()
