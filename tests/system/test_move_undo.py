"""A shard that was moved goes back to where it was, with what was written meanwhile."""

import time

from harness.moving import (
    Stepping,
    Writer,
    assert_nothing_left,
    content,
    fill,
    has_shard,
    leftovers,
    move,
    moving_servers,
    moving_store,
    run_move,
    shared_moving_servers,
)
from harness.wait import eventually

FIXTURES = (moving_servers, moving_store, shared_moving_servers)


def test_an_undo_goes_back_with_what_was_written_meanwhile(moving_store, moving_servers):
    one, two = moving_servers
    fill(one, 3, 500)
    with Writer(3, one, two) as writer:
        move(moving_store, 3, 1, keep_undo="1h").ok("kept")
        assert has_shard(two, 3) and not has_shard(one, 3)
        here = len(writer.acknowledged)
        eventually(lambda: len(writer.acknowledged) > here + 20, what="rows are written at two")
        run_move(moving_store, "undo", 3).ok("done")
    assert has_shard(one, 3) and not has_shard(two, 3)
    writer.check(one)
    assert writer.longest < 1
    assert_nothing_left(one, two)


def test_keys_go_on_there_and_back(moving_store, moving_servers):
    one, two = moving_servers
    keys = []

    def put(database):
        keys.append(
            database.value(
                "INSERT INTO shard0003.entities (type, body) VALUES (1, '') RETURNING id"
            )
        )

    put(one)
    reserved = one.value("SELECT shard0003.reserve_ids(1)")
    move(moving_store, 3, 1, keep_undo="1h").ok("kept")
    put(two)
    two.sql("INSERT INTO shard0003.entities (id, type, body) VALUES (%s, 1, '')", reserved)
    assert two.value("SELECT shard0003.reserve_ids(1)") != reserved
    run_move(moving_store, "undo", 3).ok("done")
    put(one)
    assert keys == sorted(set(keys))
    assert one.value("SELECT count(*) FROM shard0003.entities") == 4


def test_without_keep_undo_there_is_no_way_back(moving_store, moving_servers):
    move(moving_store, 3, 1).ok("done")
    undone = run_move(moving_store, "undo", 3)
    assert undone.error == "no old copy of shard 3 is kept"
    assert "keep_undo" in undone.hint


def test_the_old_copy_is_dropped_when_it_is_asked_for(moving_store, moving_servers):
    one, two = moving_servers
    fill(one, 3, 10)
    move(moving_store, 3, 1, keep_undo="1h").ok("kept")
    assert leftovers(one) and leftovers(two)
    before = content(two, 3)
    run_move(moving_store, "clean", 3).ok("done")
    assert_nothing_left(one, two)
    assert content(two, 3) == before


def test_the_old_copy_is_dropped_when_its_time_is_over(moving_store, moving_servers):
    one, two = moving_servers
    move(moving_store, 3, 1, keep_undo="1ms").ok("kept")
    move(moving_store, 2, 1, keep_undo="1h").ok("kept")
    assert not any("0003" in name for name in leftovers(one) + leftovers(two))
    assert any("0002" in name for name in leftovers(one))
    run_move(moving_store, "sweep", 0)
    assert any("0002" in name for name in leftovers(one))
    run_move(moving_store, "clean", 2).ok("done")
    assert_nothing_left(one, two)


def test_a_schema_that_was_changed_at_its_new_place_does_not_go_back(moving_store, moving_servers):
    one, two = moving_servers
    move(moving_store, 3, 1, keep_undo="1h").ok("kept")
    two.sql("CREATE TABLE shard0003.later (id bigint PRIMARY KEY)")
    undone = run_move(moving_store, "undo", 3)
    assert undone.result.code == 1
    assert has_shard(two, 3)
    run_move(moving_store, "clean", 3).ok("done")
    assert_nothing_left(one, two)


def test_offline_writers_wait_for_so_long_and_no_longer(moving_store, moving_servers):
    one, two = moving_servers
    fill(one, 3, 200000)
    before = content(one, 3)
    moved = move(moving_store, 3, 1, offline="on", max_offline="100ms")
    assert moved.result.code != 0
    assert "longer than its writers may wait" in str(moved.result)
    assert content(one, 3) == before
    fill(one, 3, 1)
    assert_nothing_left(one, two)


def test_offline_a_long_reader_does_not_keep_writers_out_for_ever(moving_store, moving_servers):
    """It is in the way of the switch, not of the copy."""
    one, two = moving_servers
    fill(one, 3, 100)
    with one.connect() as reader:
        reader.cursor().execute("BEGIN; SELECT count(*) FROM shard0003.entities")
        began = time.monotonic()
        moved = move(moving_store, 3, 1, offline="on", max_offline="2s")
        assert time.monotonic() - began < 20
        assert "longer than its writers may wait" in str(moved.result)
        fill(one, 3, 1)
    assert content(one, 3)[0] == 101
    assert_nothing_left(one, two)


def test_offline_the_source_ends_a_lock_that_nobody_holds_any_more(moving_store, moving_servers):
    one, two = moving_servers
    fill(one, 3, 100)
    place = "offline: locked"
    with Stepping(moving_store, "move", 3, 1, place=place, offline="on", max_offline="1s") as held:
        assert held.came
        began = time.monotonic()
        fill(one, 3, 1)  # waits until the source has lost patience with the one who sleeps
        assert time.monotonic() - began < 10
        held.go_on()
        moved = held.end()
        assert "longer than its writers may wait" in str(moved.result)
    assert content(one, 3)[0] == 101
    assert_nothing_left(one, two)


def test_offline_a_shard_goes_without_a_stream(moving_store, moving_servers):
    one, two = moving_servers
    fill(one, 3, 500)
    with Writer(3, one, two) as writer:
        moved = move(moving_store, 3, 1, offline="on").ok("done")
    assert moved.kind == "offline"
    assert moved.rows >= 500
    writer.check(two)
    assert not has_shard(one, 3)
    assert_nothing_left(one, two)


def old_schema(database):
    return database.value(
        "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'hypervault\\_0003\\_%\\_old'"
    )


def test_an_old_copy_that_follows_goes_on_when_the_move_is_resumed(moving_store, moving_servers):
    """What it has been sent, and the other server does not know of yet, is not sent again."""
    one, two = moving_servers
    fill(one, 3, 10)
    with Writer(3, one, two) as writer:
        with Stepping(moving_store, "move", 3, 1, place="cleaning", keep_undo="1h") as stepping:
            before = content(one, 3, schema=old_schema(one))[0]
            eventually(
                lambda: content(one, 3, schema=old_schema(one))[0] > before + 20,
                what="the old copy follows",
            )
            stepping.kill()
        run_move(moving_store, "resume", 3).ok("kept")
        written = len(writer.acknowledged)
        eventually(lambda: len(writer.acknowledged) > written + 20, what="rows are written at two")
        run_move(moving_store, "undo", 3, max_wait="10s").ok("done")
    writer.check(one)
    assert_nothing_left(one, two)


def test_an_undo_shows_its_own_pause(moving_store, moving_servers):
    one, two = moving_servers
    there = move(moving_store, 3, 1, keep_undo="1h").ok("kept")
    for database in (one, two):
        database.sql("UPDATE hypervault.moves SET pause_us = 60000000")
    back = run_move(moving_store, "undo", 3).ok("done")
    assert there.pause_ms > 0
    assert 0 < back.pause_ms < 60000


def test_an_undo_that_had_hardly_begun_does_not_keep_the_copy(moving_store, moving_servers):
    """Its first row is on one server, the other says that the copy is kept, and its time is over."""
    one, two = moving_servers
    move(moving_store, 3, 1, keep_undo="1h").ok("kept")
    killed = run_move(moving_store, "undo", 3, at={"between the rows": "kill"})
    assert killed.result.code == -9
    assert [d.value("SELECT kind FROM hypervault.moves") for d in (one, two)] == ["online", "undo"]
    one.sql("UPDATE hypervault.moves SET keep_until = clock_timestamp()")
    run_move(moving_store, "sweep", 0)
    assert has_shard(two, 3)
    assert_nothing_left(one, two)


def test_an_undo_of_what_was_changed_is_refused_at_once(moving_store, moving_servers):
    """The old copy cannot follow any more: the changed rows do not fit, and that is no wait."""
    one, two = moving_servers
    move(moving_store, 3, 1, keep_undo="1h").ok("kept")
    two.sql(
        "CREATE TABLE shard0003.later (id bigint PRIMARY KEY);"
        "CREATE FUNCTION shard0003.refuse() RETURNS integer LANGUAGE sql AS 'SELECT 1'"
    )
    (name,) = one.query("SELECT subname FROM pg_subscription WHERE subname LIKE 'hypervault%'")[0]
    one.sql(f"ALTER SUBSCRIPTION {name} DISABLE")  # as if it failed, again and again
    undone = run_move(moving_store, "undo", 3, max_wait="60s")
    assert undone.error == "the schema of shard 3 was changed while it was moved", undone
    assert has_shard(two, 3)
    run_move(moving_store, "clean", 3).ok("done")
    assert_nothing_left(one, two)
