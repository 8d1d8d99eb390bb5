"""What goes wrong with a move at night: what is in its way is waited for, what cannot be is an error
that says so, and no rest of it is lost or left behind."""

import glob
import os
import tempfile

from harness.moving import (
    Stepping,
    assert_nothing_left,
    fill,
    has_shard,
    move,
    moving_servers,
    moving_store,
    run_move,
    shared_moving_servers,
)
from harness.wait import eventually

FIXTURES = (moving_servers, moving_store, shared_moving_servers)

HELD = 4711  # an advisory lock that a test has


def make_slow_index(database, table, column):
    """An index that cannot be made on a server while somebody has the lock HELD there."""
    database.sql(
        "CREATE OR REPLACE FUNCTION shard0003.slow(value bigint) RETURNS bigint IMMUTABLE"
        f" LANGUAGE plpgsql AS 'BEGIN PERFORM pg_advisory_xact_lock_shared({HELD}); RETURN value; END';"
        f"CREATE INDEX ON shard0003.{table} (shard0003.slow({column}))"
    )


def hold(connection):
    connection.autocommit = True
    connection.cursor().execute(f"SELECT pg_advisory_lock({HELD})")


def release(connection):
    connection.cursor().execute(f"SELECT pg_advisory_unlock({HELD})")


def is_held_up(database):
    """Does the making of the index wait?"""
    return database.value(
        f"SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objid = {HELD}"
        " AND NOT granted)"
    )


def test_a_change_of_two_tables_does_not_end_the_making_of_indexes(moving_store, moving_servers):
    """It holds one table and waits for the other, on which the index is being made: a deadlock as
    soon as it is the first one's turn."""
    one, two = moving_servers
    one.sql(
        "CREATE TABLE shard0003.a (id bigint PRIMARY KEY, v bigint);"
        "CREATE TABLE shard0003.b (id bigint PRIMARY KEY, v bigint);"
        "CREATE INDEX ON shard0003.b (v); INSERT INTO shard0003.a VALUES (1, 1)"
    )
    make_slow_index(one, "a", "v")
    with two.connect() as held:
        hold(held)
        with Stepping(moving_store, "move", 3, 1, place="indexing: sent") as stepping:
            stepping.go_on()
            eventually(lambda: is_held_up(two), what="the index is being made")
            one.sql(
                "BEGIN; INSERT INTO shard0003.b VALUES (2, 2);"
                "INSERT INTO shard0003.a VALUES (2, 2); COMMIT"
            )
            # Longer than the time after which it would find a deadlock that is there.
            eventually(
                lambda: two.value(
                    "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'relation' AND NOT granted"
                    " AND waitstart < clock_timestamp() - interval '1.5 s')"
                ),
                what="the change waits for a table",
            )
            release(held)
            stepping.end().ok("done")
    assert two.query("SELECT id FROM shard0003.a ORDER BY id") == [(1,), (2,)]
    assert_nothing_left(one, two)


def test_too_much_wal_ends_the_move_while_indexes_are_made(moving_store, moving_servers):
    one, two = moving_servers
    fill(one, 3, 1)
    make_slow_index(one, "entities", "id")
    with two.connect() as held:
        hold(held)
        place = "indexing: sent"
        with Stepping(moving_store, "move", 3, 1, place=place, max_wal="1MB") as stepping:
            stepping.go_on()
            eventually(lambda: is_held_up(two), what="the index is being made")
            one.sql("CREATE TABLE public.noise AS SELECT repeat('x', 1000) FROM generate_series(1, 5000)")
            moved = stepping.end()
    assert moved.status == 10 and "of WAL" in moved.error, moved
    assert has_shard(one, 3) and not has_shard(two, 3)
    assert_nothing_left(one, two)


def test_statistics_that_are_refused_do_not_end_the_move(moving_store, moving_servers):
    one, two = moving_servers
    fill(one, 3, 10)
    with Stepping(moving_store, "move", 3, 1, place="catching_up") as stepping:
        schema = two.value("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'hypervault\\_0003%'")
        with two.connect() as other:
            other.cursor().execute(
                f"BEGIN; LOCK TABLE {schema}.entities IN SHARE UPDATE EXCLUSIVE MODE"
            )
            stepping.go_on()
            # As if lock_timeout were over.
            eventually(
                lambda: two.value(
                    "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE query LIKE"
                    " 'ANALYZE%' AND wait_event_type = 'Lock'"
                ),
                what="ANALYZE waits",
            )
            eventually(
                lambda: two.value(
                    "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'ANALYZE%'"
                    " AND wait_event_type = 'Lock'"
                ),
                what="ANALYZE is tried again",
            )
            other.cursor().execute("COMMIT")
        stepping.end().ok("done")
    assert two.value("SELECT reltuples FROM pg_class WHERE oid = 'shard0003.entities'::regclass") == 10
    assert_nothing_left(one, two)


def test_names_that_must_be_quoted(moving_store, moving_servers):
    one, two = moving_servers
    name = """"a'b%s""c\\d e\""""
    one.sql(f"CREATE SEQUENCE shard0003.{name}; SELECT setval('shard0003.{name.replace(chr(39), chr(39) * 2)}', 41)")
    one.sql(f"CREATE TABLE shard0003.{name[:-1]}t\" ({name} bigint PRIMARY KEY, v bigint)")
    one.sql(f"INSERT INTO shard0003.{name[:-1]}t\" VALUES (1, 2)")
    move(moving_store, 3, 1, keep_undo="1h").ok("kept")
    quoted = f"shard0003.{name}".replace("'", "''")
    assert two.value(f"SELECT nextval('{quoted}')") == 42
    run_move(moving_store, "undo", 3).ok("done")
    assert one.value(f"SELECT nextval('{quoted}')") == 43
    assert_nothing_left(one, two)


def test_a_long_error_that_is_not_ascii_does_not_stop_what_comes_later(moving_store, moving_servers):
    """It is cut where the journal has room for it, which may be within a character."""
    one, two = moving_servers
    fill(one, 3, 1)
    one.sql(
        "CREATE FUNCTION shard0003.fails(value bigint) RETURNS bigint IMMUTABLE LANGUAGE plpgsql AS"
        " $$BEGIN IF current_database() <> '" + one.dbname + "' THEN"
        " RAISE EXCEPTION '%', repeat('ä', 400); END IF; RETURN value; END$$;"
        "CREATE INDEX ON shard0003.entities (shard0003.fails(id))"
    )
    moved = move(moving_store, 3, 1)
    assert "ää" in moved.error, moved
    run_move(moving_store, "abort", 3).ok("aborted")
    assert has_shard(one, 3) and not has_shard(two, 3)
    assert_nothing_left(one, two)


def test_an_error_of_an_earlier_run_is_not_shown_any_more(moving_store, moving_servers):
    one, two = moving_servers
    fill(one, 3, 10)
    with one.connect() as connection, connection.cursor() as cursor:
        with Stepping(
            moving_store, "move", 3, 1, place="ready", max_wait="500ms", keep_undo="1h"
        ) as stepping:
            cursor.execute("BEGIN; SELECT count(*) FROM shard0003.entities")
            stepping.go_on()
            assert stepping.end().status == 5
        assert one.value("SELECT error FROM hypervault.moves") != ""
        cursor.execute("ROLLBACK")
    run_move(moving_store, "resume", 3).ok("kept")
    for database in (one, two):
        assert database.value("SELECT error FROM hypervault.moves") == ""


def test_rows_that_cannot_be_compared_are_refused_before_anything_is_made(moving_store, moving_servers):
    one, two = moving_servers
    one.sql("CREATE TABLE shard0003.odd (j json, n integer); ALTER TABLE shard0003.odd REPLICA IDENTITY FULL")
    moved = move(moving_store, 3, 1)
    assert moved.error == "shard 3 has tables that logical replication cannot carry", moved
    assert "shard0003.odd (column j)" in moved.detail and "json" in moved.hint
    assert has_shard(one, 3) and not has_shard(two, 3)
    assert_nothing_left(one, two)


def test_rows_without_a_key_that_can_be_compared_go_along(moving_store, moving_servers):
    """The first column of one has no order; all types of types are columns of the other."""
    one, two = moving_servers
    one.sql(
        "CREATE TYPE shard0003.mood AS ENUM ('sad', 'ok'); CREATE DOMAIN shard0003.short AS varchar(5);"
        "CREATE TYPE shard0003.pair AS (a integer, b text);"
        "CREATE TABLE shard0003.odd (x xid, n integer);"
        "CREATE TABLE shard0003.all_types (m shard0003.mood, s shard0003.short, p shard0003.pair,"
        " r int4range, l int4multirange, a integer[], v varchar(3), c \"char\", b bytea, i inet, o oid);"
        "ALTER TABLE shard0003.odd REPLICA IDENTITY FULL;"
        "ALTER TABLE shard0003.all_types REPLICA IDENTITY FULL;"
        "INSERT INTO shard0003.odd VALUES ('5', 1);"
        "INSERT INTO shard0003.all_types VALUES ('sad', 'a', (1, 'x'), '[1,2]', '{[1,2]}', '{1}', 'v')"
    )
    with Stepping(moving_store, "move", 3, 1, place="catching_up") as stepping:
        one.sql("UPDATE shard0003.odd SET n = 2; UPDATE shard0003.all_types SET v = 'w'")
        stepping.go_on()
        stepping.end().ok("done")
    assert two.query("SELECT n FROM shard0003.odd") == [(2,)]
    assert two.query("SELECT v FROM shard0003.all_types") == [("w",)]
    assert_nothing_left(one, two)


def test_offline_rows_without_columns_go_along(moving_store, moving_servers):
    one, two = moving_servers
    one.sql("CREATE TABLE shard0003.bare (); INSERT INTO shard0003.bare SELECT FROM generate_series(1, 3)")
    move(moving_store, 3, 1, offline="on").ok("done")
    assert two.value("SELECT count(*) FROM shard0003.bare") == 3
    assert_nothing_left(one, two)


def test_one_that_has_been_overtaken_finds_the_shard_anew(moving_store, moving_servers):
    one, two = moving_servers
    with Stepping(moving_store, "move", 3, 1, place="looking") as second:
        move(moving_store, 3, 1).ok("done")
        second.go_on()
        moved = second.end()
    assert moved.error == 'shard 3 is on server "two" already', moved
    assert has_shard(two, 3) and not has_shard(one, 3)
    assert_nothing_left(one, two)


def test_one_that_is_killed_while_it_dumps_leaves_no_file_behind(
    tmp_path, monkeypatch, moving_store, moving_servers
):
    pattern = os.path.join(tempfile.gettempdir(), "hv-move*")
    before = set(glob.glob(pattern))
    slow = tmp_path / "pg_dump"  # one that does not come to its end
    slow.write_text(f"#!/bin/sh\necho >{tmp_path}/begun\nwhile kill -0 $PPID; do sleep 0.05; done\n")
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with Stepping(moving_store, "move", 3, 1, place="schema") as stepping:
        stepping.go_on()
        eventually((tmp_path / "begun").exists, what="pg_dump runs")
        stepping.kill()
    assert set(glob.glob(pattern)) == before
    run_move(moving_store, "abort", 3).ok("aborted")
    assert_nothing_left(*moving_servers)
