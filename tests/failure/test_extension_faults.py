"""The extension never gives a key twice: not when the clock steps, the server is killed, or a
standby takes over.

Where a test shall not pass by help of the clock, which alone leads to greater keys, the keys are
first sent an hour ahead of it.
"""

import contextlib
import os
import threading

import psycopg2
import pytest

from harness import eventually
from harness.clock import clock  # noqa: F401

pytestmark = pytest.mark.plain

ONE = "SELECT hypervault.next_id('seq', 12)"
MANY = "SELECT hypervault.next_id('seq', 12) FROM generate_series(1, 1500)"
RESERVED = "SELECT hypervault.next_ids('seq', 12, 2500)"
AHEAD = "SELECT hypervault.advance('seq', hypervault.make_key(now() + interval '1 hour', 12))"
HOUR = 3600_000 << 23


def next_id(database):
    return database.value(ONE)


class Sessions:
    """Sessions that make keys until their connections break, or stop() is called.

    `keys` is what each of them has seen, in the order in which it came; whether or not the
    transaction was committed then.
    """

    def __init__(self, database, statements, commit=True):
        self.keys = [[] for _ in statements]
        self._stopping = False
        self._threads = [
            threading.Thread(target=self._generate, args=(database, statement, commit, keys))
            for statement, keys in zip(statements, self.keys)
        ]
        for thread in self._threads:
            thread.start()

    def _generate(self, database, statement, commit, keys):
        with contextlib.suppress(psycopg2.Error), database.connect() as connection:
            connection.autocommit = commit
            cursor = connection.cursor()
            while not self._stopping:
                cursor.execute(statement)
                keys += [key for (key,) in cursor]

    def wait_for(self, count):
        """Wait until each has seen `count` more keys."""
        wanted = [len(keys) + count for keys in self.keys]
        eventually(
            lambda: all(len(keys) >= least for keys, least in zip(self.keys, wanted)),
            what="the sessions make keys",
        )

    def stop(self):
        """End the sessions, or wait for their end; returns the greatest key."""
        self._stopping = True
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()
        for keys in self.keys:
            assert all(before < after for before, after in zip(keys, keys[1:]))
        everything = [key for keys in self.keys for key in keys]
        assert len(set(everything)) == len(everything)
        return max(everything)


# ---- crashes ----


@pytest.mark.parametrize("ahead", [False, True], ids=["with_the_clock", "ahead_of_the_clock"])
@pytest.mark.parametrize("commit", [True, False], ids=["committed", "open_transaction"])
def test_no_key_comes_again_after_kill_9(make_extension_server, ahead, commit):
    """A client may have passed a key on, though the transaction was never committed."""
    database = make_extension_server("crashing")
    database.sql("CREATE SEQUENCE seq")
    if ahead:
        database.sql(AHEAD)
    greatest = 0
    for round in range(4):
        sessions = Sessions(database, [ONE, MANY, RESERVED, ONE], commit)
        sessions.wait_for(50)
        if round % 2 == 1:
            database.sql("CHECKPOINT")
            sessions.wait_for(1)
        database.server.kill9()
        seen = sessions.stop()
        assert seen > greatest
        database.server.start()
        greatest = next_id(database)
        assert greatest > seen


def test_no_key_comes_again_after_a_checkpoint_and_kill_9(make_extension_server):
    """The checkpoint has written the page; what is taken after it must be in the log after it."""
    database = make_extension_server("crashing")
    database.sql("CREATE SEQUENCE seq")
    database.sql(AHEAD)
    seen = next_id(database)
    for _ in range(3):
        database.sql("CHECKPOINT")
        for _ in range(3):
            key = next_id(database)
            assert key > seen
            seen = key
        database.server.kill9()
        database.server.start()


def test_no_key_of_an_open_transaction_comes_again(make_extension_server):
    """Only the key itself makes the log be written to disk."""
    database = make_extension_server("crashing", settings={"wal_writer_delay": "10s"})
    database.sql("CREATE SEQUENCE seq")
    database.sql(AHEAD)
    with database.connect() as connection:
        connection.autocommit = False
        cursor = connection.cursor()
        cursor.execute(ONE)
        seen = cursor.fetchone()[0]
        database.server.kill9()
    database.server.start()
    assert next_id(database) > seen


def test_no_key_comes_again_when_another_sessions_record_is_lost(make_extension_server):
    """Its open transaction wrote the record that covers our key, so no commit has saved it."""
    database = make_extension_server("crashing", settings={"wal_writer_delay": "10s"})
    database.sql("CREATE SEQUENCE seq")
    database.sql(AHEAD)
    with database.connect() as writer, database.connect() as reader:
        writer.autocommit = False
        first, second = writer.cursor(), reader.cursor()
        first.execute(ONE)
        second.execute(ONE)
        seen = second.fetchone()[0]
        assert seen > first.fetchone()[0]
        database.server.kill9()
    database.server.start()
    assert next_id(database) > seen


def test_advancing_survives_kill_9(make_extension_server):
    database = make_extension_server("crashing", settings={"synchronous_commit": "off"})
    database.sql("CREATE SEQUENCE seq")
    ahead = next_id(database) + HOUR
    database.sql("SELECT hypervault.advance('seq', %s)", ahead)
    database.server.kill9()
    database.server.start()
    assert next_id(database) > ahead


def test_a_sequence_made_in_the_transaction_survives_kill_9(make_extension_server):
    """With wal_level minimal, a file that a transaction creates is not logged but written out."""
    settings = {"wal_level": "minimal", "max_wal_senders": "0"}
    database = make_extension_server("minimal", settings=settings)
    with database.connect() as connection:
        connection.autocommit = False
        cursor = connection.cursor()
        cursor.execute("CREATE SEQUENCE seq")
        cursor.execute(AHEAD)
        cursor.execute(MANY)
        connection.commit()
        cursor.execute(MANY)
        seen = max(key for (key,) in cursor)
        connection.commit()
        database.server.kill9()
    database.server.start()
    assert next_id(database) > seen


def test_an_unlogged_sequence_starts_anew_after_kill_9_and_the_clock_moves_it_on(
    make_extension_server,
):
    database = make_extension_server("crashing")
    if database.value("SELECT current_setting('server_version_num')::int") < 150000:
        pytest.skip("unlogged sequences came with PostgreSQL 15")
    database.sql("CREATE UNLOGGED SEQUENCE seq")
    seen = next_id(database)
    database.server.kill9()
    database.server.start()
    assert next_id(database) > seen


def test_a_damaged_sequence_is_reported_and_left_alone(make_extension_server):
    database = make_extension_server("damaged")
    database.sql("CREATE SEQUENCE seq")
    next_id(database)
    file = os.path.join(database.server.data, database.value("SELECT pg_relation_filepath('seq')"))
    database.server.stop()
    with open(file, "r+b") as page:
        page.seek(-8, os.SEEK_END)
        page.write(bytes(4))  # the mark of a sequence
        damaged = page.seek(0) or page.read()
    database.server.start()
    with pytest.raises(psycopg2.errors.DataCorrupted, match='sequence "seq" is damaged'):
        next_id(database)
    database.server.stop()
    with open(file, "rb") as page:
        assert page.read() == damaged


# ---- standbys ----


def caught_up(primary, standby):
    """Wait until the standby has replayed all that the primary has written."""
    position = primary.value("SELECT pg_current_wal_flush_lsn()")
    eventually(
        lambda: standby.value("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", position),
        what="the standby has caught up",
    )


@pytest.fixture
def primary_and_standby(make_extension_server, make_server, extension_bindir):
    primary = make_extension_server("primary")
    primary.sql("CREATE SEQUENCE seq")
    server = make_server("standby", standby_of=primary.server, bindir=extension_bindir)
    return primary, type(primary)(server, primary.dbname)


def test_a_promoted_standby_goes_on_after_the_primarys_keys(primary_and_standby):
    primary, standby = primary_and_standby
    primary.sql(AHEAD)
    sessions = Sessions(primary, [ONE, MANY, RESERVED])
    sessions.wait_for(3000)
    seen = sessions.stop()
    caught_up(primary, standby)
    primary.server.kill9()
    assert standby.value("SELECT pg_promote()")
    new = next_id(standby)
    assert new > seen
    # The record allows for 128 ms ahead, not more.
    assert (new >> 23) - (seen >> 23) <= 129


def test_a_standby_promoted_while_keys_are_made_goes_on_after_them(primary_and_standby):
    """The primary dies with sessions at work. What the standby has not received is lost, but the
    clock goes on."""
    primary, standby = primary_and_standby
    caught_up(primary, standby)
    sessions = Sessions(primary, [ONE, ONE, ONE, ONE])
    sessions.wait_for(200)
    primary.server.kill9()
    seen = sessions.stop()
    assert standby.value("SELECT pg_promote()")
    assert next_id(standby) > seen


def test_a_standby_makes_no_keys(primary_and_standby):
    primary, standby = primary_and_standby
    caught_up(primary, standby)
    for statement in (ONE, RESERVED, "SELECT hypervault.advance('seq', 1)"):
        with pytest.raises(psycopg2.errors.ReadOnlySqlTransaction, match="during recovery"):
            standby.query(statement)
    assert standby.value("SELECT hypervault.key_shard(307821103844175873)") == 12


# ---- the clock ----


def test_no_key_comes_again_when_the_clock_steps(make_extension_server, clock):
    """Back an hour, forward a day, back again, with sessions at work all the time and a crash."""
    database = make_extension_server("stepping", env=clock.env)
    database.sql("CREATE SEQUENCE seq")
    sessions = Sessions(database, [ONE, MANY, RESERVED, ONE])
    sessions.wait_for(50)
    for seconds in (-3600, -7200, 86400, 0):
        before = next_id(database)
        clock.set(seconds, database)
        sessions.wait_for(50)
        after = next_id(database)
        assert after > before
    greatest = sessions.stop()
    assert next_id(database) > greatest
    # A day ahead of the clock now: a crash does not change that.
    sessions = Sessions(database, [ONE, MANY, RESERVED])
    sessions.wait_for(50)
    clock.set(-3600, database)
    sessions.wait_for(50)
    database.server.kill9()
    greatest = sessions.stop()
    database.server.start()
    assert next_id(database) > greatest


@pytest.mark.parametrize("rows", [1, 2000])
def test_no_committed_key_comes_again_when_a_crash_sets_the_clock_back(
    make_extension_server, clock, rows
):
    """As when a machine restarts without knowing the time."""
    database = make_extension_server(
        "crashing", env=clock.env, settings={"wal_writer_delay": "10s"}
    )
    database.sql("CREATE SEQUENCE seq")
    seen = 0
    for seconds in (-3600, -7200):
        for _ in range(3):
            keys = database.query(f"{ONE} FROM generate_series(1, {rows})")
            assert keys[0][0] > seen
            seen = keys[-1][0]
        clock.set(seconds, database)
        database.server.kill9()
        database.server.start()
    assert next_id(database) > seen


def test_a_key_is_safe_though_the_open_transaction_of_another_wrote_its_record(
    make_extension_server, clock
):
    database = make_extension_server(
        "crashing", env=clock.env, settings={"wal_writer_delay": "10s"}
    )
    database.sql("CREATE SEQUENCE seq")
    with database.connect() as writer, database.connect() as reader:
        writer.autocommit = False
        first, second = writer.cursor(), reader.cursor()
        first.execute(ONE)
        second.execute(ONE)
        seen = second.fetchone()[0]
        clock.set(-3600, database)
        database.server.kill9()
    database.server.start()
    assert next_id(database) > seen


def test_keys_follow_the_clock_forward_and_count_on_when_it_goes_back(make_extension_server, clock):
    database = make_extension_server("stepping", env=clock.env)
    database.sql("CREATE SEQUENCE seq")
    first = next_id(database)
    clock.set(86400, database)
    second = next_id(database)
    assert 86400_000 <= (second >> 23) - (first >> 23) < 86460_000
    clock.set(-86400, database)
    third, fourth = next_id(database), next_id(database)
    # Each is the previous one plus one.
    assert [key >> 23 for key in (third, fourth)] == [second >> 23] * 2
    assert [key & 1023 for key in (third, fourth)] == [(second & 1023) + 1, (second & 1023) + 2]
    clock.set(86460, database)
    fifth = next_id(database)
    assert 60_000 <= (fifth >> 23) - (second >> 23) < 120_000
