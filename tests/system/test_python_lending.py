"""The state in which borrowers leave a psycopg2 connection, and in which the next one gets it."""

import threading

import psycopg2
import psycopg2.extensions
import pytest

from harness import eventually, python
from harness.python import connections, databases, plain  # noqa: F401

python.provide()

from hv.datastore import Datastore, DatastoreError

IDLE = psycopg2.extensions.TRANSACTION_STATUS_IDLE


@pytest.fixture
def db(connections):
    """A store with one connection a server: the next borrower gets what the last one left."""
    with Datastore(connections, pool_max=1, pool_block_timeout=5) as store:
        yield store


def run(connection, *statements):
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def check_whole(db):
    """The pool has its one connection, in order, and it goes from hand to hand."""
    for _ in range(2):
        connection = db.get_connection(3)
        assert connection.autocommit
        assert connection.isolation_level is None
        assert connection.readonly is None and connection.deferrable is None
        assert connection.info.transaction_status == IDLE
        with connection.cursor() as cursor:
            cursor.execute("SHOW client_encoding")
            assert cursor.fetchone()[0] == "UTF8"
            cursor.execute("SHOW TimeZone")
            assert cursor.fetchone()[0] == "UTC"
            cursor.execute("SHOW transaction_read_only")
            assert cursor.fetchone()[0] == "off"
            cursor.execute("INSERT INTO shard0003.entities (type, body) VALUES (1, '') RETURNING id")
            (id,) = cursor.fetchone()
        assert connection.encoding in ("UTF8", "UTF-8")
        db.put_connection(connection)
        assert db.get_many([db.put(3, 1, a="b")])[0]["body"] == {"a": "b"}
        with db.cursor(3) as cursor:  # it was committed
            cursor.execute("SELECT count(*) FROM shard0003.entities WHERE id = %s", (id,))
            assert cursor.fetchone() == [1]
    stats = db.pool_stats()
    assert (stats["open"], stats["lent"], stats["waiting"]) == (1, 0, 0)


def count(database):
    return database.value("SELECT count(*) FROM shard0003.entities WHERE type = 666")


MARK = "INSERT INTO shard0003.entities (type, body) VALUES (666, '')"


def leave_transaction(connection):
    run(connection, "BEGIN", MARK)


def leave_failed_transaction(connection):
    run(connection, "BEGIN", MARK)
    with pytest.raises(psycopg2.Error):
        run(connection, "SELECT 1/0")


def leave_autocommit_off(connection):
    connection.autocommit = False


def leave_transaction_without_autocommit(connection):
    connection.autocommit = False
    run(connection, MARK)


def leave_read_only(connection):
    connection.set_session(readonly=True)


def leave_serializable(connection):
    connection.set_session("SERIALIZABLE", deferrable=True, autocommit=False)
    run(connection, "SELECT 1")


def leave_encoding(connection):
    connection.set_client_encoding("LATIN1")


def leave_time_zone(connection):
    run(connection, "SET TIME ZONE 'America/St_Johns'")


def leave_closed_cursor_in_transaction(connection):
    connection.autocommit = False
    with connection.cursor("named") as cursor:
        cursor.execute("SELECT generate_series(1, 100000)")
        cursor.fetchone()


def leave_open_cursor(connection):
    cursor = connection.cursor()
    cursor.execute("SELECT generate_series(1, 1000)")
    cursor.fetchone()


@pytest.mark.parametrize(
    "leave",
    [
        leave_transaction,
        leave_failed_transaction,
        leave_autocommit_off,
        leave_transaction_without_autocommit,
        leave_read_only,
        leave_serializable,
        leave_encoding,
        leave_time_zone,
        leave_closed_cursor_in_transaction,
        leave_open_cursor,
    ],
)
def test_what_a_borrower_leaves_is_undone(db, databases, leave):
    connection = db.get_connection(3)
    leave(connection)
    db.put_connection(connection)
    assert count(databases[0]) == 0
    check_whole(db)


def leave_copy(connection):
    class Source:
        """A file that ends with an exception, in the middle of a COPY."""

        def read(self, size=-1):
            raise RuntimeError("no more")

    with connection.cursor() as cursor:
        with pytest.raises((psycopg2.Error, RuntimeError)):
            cursor.copy_expert("COPY shard0003.entities (type, body) FROM STDIN", Source())


def leave_copy_under_way(connection):
    with connection.cursor() as cursor:
        with pytest.raises(psycopg2.Error):  # psycopg2 has started it all the same
            cursor.execute("COPY shard0003.entities (type, body) FROM STDIN")


def leave_closed(connection):
    connection.close()


def leave_closed_in_a_transaction(connection):
    connection.autocommit = False
    run(connection, MARK)
    connection.close()


def leave_terminated(connection):
    with pytest.raises(psycopg2.OperationalError):
        run(connection, "SELECT pg_terminate_backend(pg_backend_pid())")


@pytest.mark.parametrize(
    "leave",
    [
        leave_copy,
        leave_copy_under_way,
        leave_closed,
        leave_closed_in_a_transaction,
        leave_terminated,
    ],
)
def test_a_connection_that_is_spoilt_makes_room_for_another(db, databases, leave):
    connection = db.get_connection(3)
    leave(connection)
    db.put_connection(connection)
    assert count(databases[0]) == 0
    check_whole(db)
    eventually(lambda: len(databases[0].clients()) == 1)


def test_a_connection_that_the_server_ends_meanwhile_makes_room_for_another(db, databases):
    connection = db.get_connection(3)
    assert databases[0].terminate_clients() == 1
    db.put_connection(connection)
    check_whole(db)
    assert databases[0].terminate_clients() == 1
    check_whole(db)


def test_a_cursor_ends_once(db):
    """Also when its end is called again while it ends, as another thread may do."""
    lent = db.cursor(3)

    class Cursor(psycopg2.extensions.cursor):
        def close(self):
            super().close()
            with pytest.raises(RuntimeError, match="not in use"):
                lent.__exit__(None, None, None)

    connection = db.get_connection(3)
    connection.cursor_factory = Cursor
    db.put_connection(connection)
    with lent as cursor:
        assert type(cursor) is Cursor
    connection = db.get_connection(3)
    connection.cursor_factory = None
    db.put_connection(connection)
    check_whole(db)


def test_a_cursor_that_closed_its_connection_is_no_trouble(db):
    with db.cursor(3) as cursor:
        cursor.execute("SELECT 1")
        cursor.connection.close()
    check_whole(db)


def test_a_connection_that_is_closed_and_never_returned_gives_its_place_back(db, databases):
    connection = db.get_connection(3)
    connection.close()
    assert connection.closed
    eventually(lambda: not databases[0].clients())
    check_whole(db)


def test_a_connection_is_returned_once(db):
    connection = db.get_connection(3)
    db.put_connection(connection)
    with pytest.raises(DatastoreError):
        db.put_connection(connection)
    check_whole(db)


def test_a_connection_of_somebody_else_is_refused_and_left_alone(db, databases, connections):
    with plain(databases[0]) as other:
        with pytest.raises(DatastoreError):
            db.put_connection(other)
        assert not other.closed
        run(other, "SELECT 1")
    with Datastore(connections) as another:
        foreign = another.get_connection(3)
        with pytest.raises(DatastoreError):
            db.put_connection(foreign)
        run(foreign, "SELECT 1")
        another.put_connection(foreign)
        assert another.pool_stats()["lent"] == 0
    check_whole(db)


@pytest.mark.parametrize("thing", [None, 5, "connection", object()])
def test_what_is_no_connection_is_refused(db, thing):
    with pytest.raises((DatastoreError, TypeError)):
        db.put_connection(thing)
    check_whole(db)


def test_a_connection_comes_back_from_another_thread(db):
    connection = db.get_connection(3)
    thread = threading.Thread(target=db.put_connection, args=(connection,))
    thread.start()
    thread.join()
    check_whole(db)
