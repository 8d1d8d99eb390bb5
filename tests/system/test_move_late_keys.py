"""The keys of a large table are made when its rows are there, and before the stream's changes need
them."""

import concurrent.futures
import contextlib

import pytest
from harness.moving import (
    Stepping,
    assert_nothing_left,
    content,
    fill_large,
    has_shard,
    leftovers,
    move,
    moving_servers,
    moving_store,
    run_move,
    shared_moving_servers,
    structure,
)
from harness.wait import eventually

FIXTURES = (moving_servers, moving_store, shared_moving_servers)
IN_LINE, SENT = "late keys: in line", "late keys: sent"


SLOW = """
    CREATE FUNCTION shard0003.slow() RETURNS boolean LANGUAGE sql AS
        'SELECT true FROM pg_catalog.pg_advisory_xact_lock_shared(77)';
    ALTER TABLE {} ADD CHECK (CASE WHEN type < {} THEN true ELSE shard0003.slow() END)
"""


@contextlib.contextmanager
def slow_copy(source, target, table, from_row=4900):
    """The copy of this table does not get past this row, one of 5,000, before the context ends."""
    source.sql(f"ANALYZE {table}")
    source.sql(SLOW.format(table, from_row))
    with target.connect() as holder, holder.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(77)")
        yield


def change(database, table, key):
    keys = [each for (each,) in database.query(f"SELECT {key} FROM {table} WHERE type < 61")]
    for each in keys[:40]:
        database.sql(f"UPDATE {table} SET type = -type WHERE {key} = %s", each)
    for each in keys[40:]:
        database.sql(f"DELETE FROM {table} WHERE {key} = %s", each)


TABLES = {
    "the entities": ("entities (type, body)", "shard0003.entities", "id", ""),
    "found by another index": (
        "seen (type, body)", "shard0003.seen", "token",
        "CREATE TABLE shard0003.seen (type int, body public.hstore, token uuid NOT NULL"
        " DEFAULT gen_random_uuid());"
        "CREATE UNIQUE INDEX by_token ON shard0003.seen (token);"
        "ALTER TABLE shard0003.seen REPLICA IDENTITY USING INDEX by_token",
    ),
    "both, and odd names": (
        '"Odd ""table" (type, body)', 'shard0003."Odd ""table"', "token",
        'CREATE TABLE shard0003."Odd ""table" (type int, body public.hstore,'
        ' "the key" bigserial CONSTRAINT "Its ""key" PRIMARY KEY, token uuid NOT NULL'
        ' DEFAULT gen_random_uuid() CONSTRAINT "its token" UNIQUE);'
        'ALTER TABLE shard0003."Odd ""table" REPLICA IDENTITY USING INDEX "its token";'
        'COMMENT ON CONSTRAINT "Its ""key" ON shard0003."Odd ""table" IS \'of all\';'
        'CREATE TABLE shard0003.small (of bigint REFERENCES shard0003."Odd ""table");'
        "ALTER TABLE shard0003.small REPLICA IDENTITY FULL",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLES)
def test_changes_meanwhile_find_their_rows(moving_store, moving_servers, name):
    one, two = moving_servers
    filled, table, key, sql = TABLES[name]
    if sql:
        one.sql(sql)
    fill_large(one, 3, filled)
    of = table.removeprefix("shard0003.")
    with contextlib.ExitStack() as slow:
        slow.enter_context(slow_copy(one, two, table))
        structure_before = structure(one, 3)
        with Stepping(moving_store, "move", 3, 1, place=IN_LINE) as stepping:
            assert stepping.came
            copied = content(one, 3, of)
            change(one, table, key)
            changed = content(one, 3, of)
            slow.close()
            eventually(lambda: is_locked(two), what="the copy's end")
            assert content(two, 3, of, schema=copy_of(two)) == copied
            stepping.go_on()
            stepping.end().ok("done")
    assert structure(two, 3) == structure_before
    assert content(two, 3, of) == changed
    assert_nothing_left(one, two)


def kill_in_line(store, source, target):
    """And change rows, which would be lost if they came before the keys."""
    assert move(store, 3, 1, at={IN_LINE: "kill"}).result.code == -9
    change(source, "shard0003.entities", "id")
    eventually(lambda: not movers(target), what="the command's sessions are gone")


def test_killed_and_resumed_while_it_is_copied(moving_store, moving_servers):
    one, two = moving_servers
    fill_large(one, 3)
    with contextlib.ExitStack() as slow:
        slow.enter_context(slow_copy(one, two, "shard0003.entities"))
        structure_before = structure(one, 3)
        kill_in_line(moving_store, one, two)
        changed = content(one, 3)
        table = two.value(f"SELECT '{copy_of(two)}.entities'::regclass::oid")
        with Stepping(moving_store, "resume", 3, place=IN_LINE) as stepping:
            assert stepping.came
            slow.close()
            stepping.go_on()
            stepping.end().ok("done")
    assert table == two.value("SELECT 'shard0003.entities'::regclass::oid"), "copied twice"
    assert (structure(two, 3), content(two, 3)) == (structure_before, changed)
    assert_nothing_left(one, two)


def is_copied(database, table="entities"):
    return database.value(
        "SELECT count(*) = 0 FROM pg_subscription_rel WHERE srsubstate <> 'r' AND srrelid ="
        f" '{copy_of(database)}.{table}'::regclass"
    )


def test_killed_and_resumed_when_it_was_copied(moving_store, moving_servers):
    one, two = moving_servers
    fill_large(one, 3)
    with slow_copy(one, two, "shard0003.entities"):
        before = structure(one, 3)
        kill_in_line(moving_store, one, two)
        changed = content(one, 3)
    eventually(lambda: is_copied(two), what="the copy's end")
    resumed = run_move(moving_store, "resume", 3, trace=True).ok("done")
    assert "schema" in resumed.result.err.splitlines()
    assert (structure(two, 3), content(two, 3)) == (before, changed)
    assert_nothing_left(one, two)


def test_copied_before_it_stands_in_line(moving_store, moving_servers):
    one, two = moving_servers
    fill_large(one, 3)
    before = structure(one, 3)
    with Stepping(moving_store, "move", 3, 1, place="copying") as stepping:
        assert stepping.came
        table = two.value(f"SELECT '{copy_of(two)}.entities'::regclass::oid")
        change(one, "shard0003.entities", "id")
        changed = content(one, 3)
        eventually(lambda: is_copied(two), what="the copy's end")
        stepping.go_on()
        stepping.end().ok("done")
    assert table != two.value("SELECT 'shard0003.entities'::regclass::oid"), "not copied anew"
    assert (structure(two, 3), content(two, 3)) == (before, changed)
    assert_nothing_left(one, two)


def test_other_tables_are_not_kept_waiting(moving_store, moving_servers):
    """While the copy has just begun, the worker that applies changes gets past the large table's."""
    one, two = moving_servers
    fill_large(one, 3)
    one.sql("CREATE TABLE shard0003.other (n integer PRIMARY KEY)")
    with slow_copy(one, two, "shard0003.entities", from_row=1000):
        with Stepping(moving_store, "move", 3, 1, place="copying") as stepping:
            assert stepping.came
            copy = copy_of(two)
            stepping.go_on()
            eventually(lambda: is_copied(two, "other"), what="the other table is copied")
            change(one, "shard0003.entities", "id")
            one.sql("INSERT INTO shard0003.other VALUES (1)")
            eventually(
                lambda: two.value(f"SELECT count(*) FROM {copy}.other") == 1,
                what="a change of the other table",
            )
            assert not is_copied(two)
            stepping.kill()
    run_move(moving_store, "abort", 3).ok("aborted")
    assert_nothing_left(one, two)


@pytest.mark.parametrize("why", ["a truncated table", "too much WAL"])
def test_a_move_that_turns_back_in_line(moving_store, moving_servers, why):
    one, two = moving_servers
    fill_large(one, 3)
    one.sql("CREATE TABLE shard0003.other (n integer PRIMARY KEY)")
    with slow_copy(one, two, "shard0003.entities"):
        before = structure(one, 3)
        with Stepping(moving_store, "move", 3, 1, place=IN_LINE, max_wal="16MB") as stepping:
            assert stepping.came
            if why == "a truncated table":
                one.sql("TRUNCATE shard0003.other")
            else:
                one.sql("CREATE TABLE public.filler AS SELECT repeat(n::text, 99) FROM"
                        " generate_series(1, 150000) AS n")
            changed = content(one, 3)
            stepping.go_on()
            moved = stepping.end(timeout=60)
    assert moved.result.code == 1 and moved.phase == "aborted", moved
    assert ("was truncated" if why == "a truncated table" else "of WAL") in moved.error
    assert (structure(one, 3), content(one, 3)) == (before, changed)
    assert_nothing_left(one, two)


def is_locked(database):
    """By the session that makes the keys."""
    return database.value(
        "SELECT EXISTS (SELECT FROM pg_locks WHERE granted AND mode = 'ShareRowExclusiveLock'"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))"
    )


def movers(database):
    return database.value(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'hv move'"
        " AND datname = current_database()"
    )


def copy_of(database):
    (name,) = [each for each in leftovers(database) if each.startswith("schema")]
    return name.removeprefix("schema ")


def waits_for_key(database):
    return database.value(
        "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock'"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))"
    )


def test_who_reads_the_copy_is_waited_for(moving_store, moving_servers):
    """As a dump of the target does."""
    one, two = moving_servers
    fill_large(one, 3)
    before = content(one, 3)
    with contextlib.ExitStack() as slow:
        slow.enter_context(slow_copy(one, two, "shard0003.entities"))
        with Stepping(moving_store, "move", 3, 1, place=IN_LINE) as stepping:
            assert stepping.came
            with two.connect() as reader, reader.cursor() as cursor:
                cursor.execute(f"BEGIN; LOCK TABLE {copy_of(two)}.entities IN ACCESS SHARE MODE")
                slow.close()
                stepping.go_on()
                eventually(lambda: waits_for_key(two), what="the key waits for the reader")
                assert has_shard(one, 3)
            stepping.end().ok("done")
    assert content(two, 3) == before
    assert_nothing_left(one, two)


def test_offline_they_are_the_first_of_the_rest(moving_store, moving_servers):
    one, two = moving_servers
    one.sql(TABLES["both, and odd names"][3])
    fill_large(one, 3, TABLES["both, and odd names"][0])
    before = structure(one, 3), content(one, 3, '"Odd ""table"')
    moved = move(moving_store, 3, 1, offline="on", trace=True).ok("done")
    assert SENT not in moved.result.err.splitlines()
    assert (structure(two, 3), content(two, 3, '"Odd ""table"')) == before
    assert_nothing_left(one, two)


def test_another_session_has_made_them(moving_store, moving_servers):
    """It was in line, too: that of a command that the server has not noticed to be gone."""
    one, two = moving_servers
    fill_large(one, 3)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        with slow_copy(one, two, "shard0003.entities"):
            before = structure(one, 3)
            kill_in_line(moving_store, one, two)
            changed = content(one, 3)
            copy = f"{copy_of(two)}.entities"
            table = two.value(f"SELECT '{copy}'::regclass::oid")
            made = pool.submit(
                two.sql, f"ALTER TABLE {copy} ADD CONSTRAINT entities_pkey PRIMARY KEY (id)"
            )
            eventually(lambda: waits_for_key(two), what="the other session is in line")
        made.result()
    moved = run_move(moving_store, "resume", 3, trace=True).ok("done")
    assert SENT not in moved.result.err.splitlines()
    assert table == two.value("SELECT 'shard0003.entities'::regclass::oid"), "copied twice"
    assert (structure(two, 3), content(two, 3)) == (before, changed)
    assert_nothing_left(one, two)
