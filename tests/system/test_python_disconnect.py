"""disconnect() closes every connection, whichever thread has it and whatever it is doing."""

import concurrent.futures
import os
import threading
import time

import psycopg2
import pytest

from harness import eventually, python
from harness.python import connections, databases, db  # noqa: F401

python.provide()

from hv.datastore import ConnectionError


def value(connection, statement):
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchone()[0]


def test_disconnect_closes_all_and_the_store_goes_on(db, databases):
    one, two = databases
    lent = db.get_connection(5)
    db.put(3, 1)
    db.put(12, 1)
    assert db.pool_stats()["lent"] == 1
    db.disconnect()
    assert lent.closed
    eventually(lambda: not one.clients() and not two.clients())
    stats = db.pool_stats()
    assert (stats["lent"], stats["idle"], stats["open"]) == (0, 0, 0)
    assert stats["opened"] == stats["closed"]
    with pytest.raises(psycopg2.InterfaceError):
        lent.cursor()
    db.put_connection(lent)  # of no use, and no error
    assert db.get(db.put(5, 1, a="b"))["body"] == {"a": "b"}
    assert db.pool_stats()["lent"] == 0


def test_disconnect_ends_a_borrowers_transaction(db):
    with pytest.raises(psycopg2.InterfaceError):
        with db.cursor(5) as cursor:
            cursor.execute("BEGIN; INSERT INTO shard0005.entities (type, body) VALUES (7, '')")
            db.disconnect()
            cursor.execute("COMMIT")
    lent = db.get_connection(5)
    lent.autocommit = False
    with pytest.raises(psycopg2.InterfaceError):
        with lent:
            with lent.cursor() as cursor:
                cursor.execute("INSERT INTO shard0005.entities (type, body) VALUES (7, '')")
            db.disconnect()
    db.put_connection(lent)
    lent = db.get_connection(5)
    assert value(lent, "SELECT count(*) FROM shard0005.entities WHERE type = 7") == 0
    db.put_connection(lent)
    db.disconnect()
    db.disconnect()


@pytest.mark.parametrize("statement", ["SELECT pg_sleep(20)", "COPY"])
def test_disconnect_ends_what_another_thread_is_running(db, databases, statement):
    """At once, and the thread gets an error."""
    borrowed, going = threading.Event(), threading.Event()

    class Slow:
        """The file that a COPY writes to."""

        def write(self, text):
            going.set()
            time.sleep(0.001)

    def work():
        connection = db.get_connection(5)
        borrowed.set()
        try:
            with connection.cursor() as cursor:
                if statement == "COPY":
                    rows = "SELECT n, repeat('x', 1000) FROM generate_series(1, 1000000) n"
                    cursor.copy_expert(f"COPY ({rows}) TO STDOUT", Slow())
                else:
                    cursor.execute(statement)
        finally:
            db.put_connection(connection)

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        working = pool.submit(work)
        assert borrowed.wait(30)
        if statement == "COPY":
            assert going.wait(30)
        else:
            active = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'"
            eventually(lambda: databases[0].value(active) == 1)
        began = time.monotonic()
        db.disconnect()
        with pytest.raises(psycopg2.Error):
            working.result(30)
        assert time.monotonic() - began < 15  # though the server sleeps on
    stats = db.pool_stats()
    assert (stats["lent"], stats["open"]) == (0, 0)
    assert db.get(db.put(5, 1, a="b"))["body"] == {"a": "b"}


@pytest.mark.threads
def test_disconnect_while_many_threads_borrow_does_no_harm(db):
    """Each gets its answer or an error; none gets the error of returning what was not lent."""
    over = threading.Event()

    def work(number):
        done = 0
        while not over.is_set():
            try:
                with db.cursor(5 + number % 8) as cursor:
                    cursor.execute("BEGIN")
                    cursor.execute("SELECT %s", (number,))
                    assert cursor.fetchone()[0] == number
                done += 1
            except (psycopg2.Error, ConnectionError):
                pass
        return done

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        working = [pool.submit(work, number) for number in range(8)]
        for _ in range(100):
            db.disconnect()
            db.put(3, 1)
        over.set()
        assert sum(each.result(30) for each in working) > 0
    stats = db.pool_stats()
    assert (stats["lent"], stats["waiting"]) == (0, 0)
    assert stats["open"] == stats["idle"] == stats["opened"] - stats["closed"]


def test_disconnect_in_a_forked_child_leaves_the_parents_connections(db):
    lent = db.get_connection(5)
    child = os.fork()
    if child == 0:
        db.disconnect()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert value(lent, "SELECT 1") == 1
    db.put_connection(lent)
