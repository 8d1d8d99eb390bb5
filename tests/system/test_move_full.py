"""Disks that fill while a shard moves: the move says so, and the source is in no danger."""

import contextlib
import os

import pytest
from harness import command, eventually, hv, make_shards
from harness.moving import (
    Stepping,
    assert_nothing_left,
    content,
    fill,
    forget_streams,
    has_shard,
    leftovers,
    moving_config,
    moving_servers,
    moving_store,
    own_moving_servers,
    shared_moving_servers,
)
from harness.small_disk import small_disk

FIXTURES = (moving_servers, moving_store, own_moving_servers, shared_moving_servers)


def failed(config, *words):
    """The command's error, as text."""
    done = hv("move", 3, "--to", "two", *words, config=config)
    assert done.code == 1, done
    return done.err


def check_untouched(one, two):
    assert has_shard(one, 3) and not has_shard(two, 3)
    assert_nothing_left(one, two)


# ---- disks ----


def fill_megabytes(database, shard, megabytes):
    database.sql(
        f"INSERT INTO shard{shard:04}.entities (type, body) SELECT 1, hstore('n', b.noise)"
        f" FROM generate_series(1, {megabytes * 1000}) AS n, LATERAL (SELECT"
        f" string_agg(md5(n::text || i::text), '') AS noise FROM generate_series(1, 30) AS i) AS b"
    )


@contextlib.contextmanager
def small_target(tmp_path, moving_servers, megabytes):
    """The target's database has so much room."""
    one, two = moving_servers
    with small_disk(megabytes) as disk:
        small = disk.database(two.server)
        try:
            config = moving_config(tmp_path / "small.conf", one, small)
            make_shards(config, one, small)
            yield config, one, small, disk
        finally:
            forget_streams(one)
            forget_streams(small)
            small.drop()
            two.server.sql(f"DROP TABLESPACE {small.dbname}")


@pytest.mark.parametrize("order", ["resume", "abort"])
def test_a_target_whose_disk_is_full(order, tmp_path, moving_servers):
    with small_target(tmp_path, moving_servers, 24) as (config, one, two, disk):
        fill_megabytes(one, 3, 24)
        before = content(one, 3)
        said = failed(config, "--max-wait", "2s")
        assert "No space left on device" in said and 'space on server "two"' in said
        assert "hv move --resume 3" in said and "hv move --abort 3" in said
        assert content(one, 3) == before and not has_shard(two, 3)
        disk.grow(200)
        done = hv("move", f"--{order}", 3, config=config).ok()
        assert_nothing_left(one, two)
        assert content(one if order == "abort" else two, 3) == before, done


def test_a_target_whose_disk_is_full_is_no_danger_to_the_source(tmp_path, moving_servers):
    """The stream does not get on, and the WAL that it needs grows: before it is too much for the
    source's disk the move ends."""
    with small_target(tmp_path, moving_servers, 32) as (config, one, two, disk):
        fill(one, 3, 100)
        with Stepping(config, "move", 3, 1, place="catching_up", max_wal="8MB") as stepping:
            assert stepping.came
            disk.fill()
            fill_megabytes(one, 3, 12)
            before = content(one, 3)
            eventually(lambda: "No space left" in two.server.log_text())
            stepping.go_on()
            moved = stepping.end()
        assert moved.status == 10 and "of WAL" in moved.error, moved
        assert content(one, 3) == before
        check_untouched(one, two)


def test_a_source_whose_disk_is_full(tmp_path, moving_servers):
    one, two = moving_servers
    with small_disk(32) as disk:
        small = disk.database(one.server)
        try:
            config = moving_config(tmp_path / "small.conf", small, two)
            make_shards(config, small, two)
            fill(small, 3, 100)
            before = content(small, 3)
            filler = disk.fill()
            said = failed(config)
            assert "No space left on device" in said, said
            os.remove(filler)
            hv("move", "--abort", 3, config=config)
            check_untouched(small, two)
            hv("move", 3, "--to", "two", config=config).ok()
            assert content(two, 3) == before
        finally:
            forget_streams(small)
            small.drop()
            one.server.sql(f"DROP TABLESPACE {small.dbname}")


# ---- WAL ----

NOISE = "CREATE TABLE public.noise AS SELECT repeat('x', 1000) FROM generate_series(1, 10000)"


def test_too_much_wal_while_indexes_are_made(moving_store, moving_servers):
    one, two = moving_servers
    one.sql(
        "CREATE FUNCTION shard0003.slow(bigint) RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS $$"
        f"BEGIN IF current_setting('port') = '{two.server.port}' THEN PERFORM pg_sleep(1); END IF;"
        " RETURN $1; END $$;"
        "CREATE INDEX slow ON shard0003.entities (shard0003.slow(id))"
    )
    fill(one, 3, 60)
    with Stepping(moving_store, "move", 3, 1, place="indexing: sent", max_wal="8MB") as stepping:
        assert stepping.came
        one.sql(NOISE)
        stepping.go_on()
        moved = stepping.end(timeout=40)
    assert moved.status == 10 and "of WAL" in moved.error, moved
    check_untouched(one, two)


def test_too_much_wal_while_a_transaction_is_waited_for(moving_store, moving_servers):
    one, two = moving_servers
    with one.connect() as connection, connection.cursor() as cursor:
        cursor.execute("BEGIN; SELECT pg_current_xact_id()")
        process = command.spawn(
            "hv", "move", 3, "--to", "two", "--max-wal", "8MB", config=moving_store, text=True
        )
        eventually(lambda: any(name.startswith("slot") for name in leftovers(one)))
        one.sql(NOISE)
        _, err = process.communicate(timeout=60)
        cursor.execute("ROLLBACK")
    assert process.returncode == 1 and "of WAL for the move of shard 3" in err, err
    check_untouched(one, two)


def test_too_much_wal_while_the_target_is_away(tmp_path, own_moving_servers):
    one, two = own_moving_servers
    config = moving_config(tmp_path / "away.conf", one, two, check_servers="off")
    make_shards(config, one, two)
    fill(one, 3, 100)
    before = content(one, 3)
    with Stepping(config, "move", 3, 1, place="catching_up", max_wal="8MB") as stepping:
        assert stepping.came
        two.server.stop("immediate")
        one.sql(NOISE)
        stepping.go_on()
        moved = stepping.end(timeout=60)
    assert moved.status == 10 and "of WAL" in moved.error, moved
    assert content(one, 3) == before
    assert_nothing_left(one)
    two.server.start()
    hv("move", 3, "--to", "two", config=config).ok()
    assert content(two, 3) == before
    assert_nothing_left(one, two)
