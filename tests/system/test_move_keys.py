"""Keys go on when a shard moves: none is made twice, and their order holds, whatever the clocks say."""

import pytest
from harness.clock import clock
from harness.command import hv, make_shards
from harness.wait import eventually
from harness.moving import SETTINGS, assert_nothing_left, move, moving_config

FIXTURES = (clock,)

BEHIND = 40


@pytest.fixture
def slow_target(make_server, clock):
    """Two servers; the clock of the second is behind."""
    one = make_server("one", tcp=True, settings=SETTINGS).create_database("test")
    two = make_server("two", tcp=True, settings=SETTINGS, env=clock.env).create_database("test")
    clock.set(-BEHIND, two)
    return one, two


@pytest.fixture
def slow_strict_target(make_extension_server, clock, tmp_path):
    """The same with strict keys, and the configuration."""
    one = make_extension_server("one", tcp=True, settings=SETTINGS)
    two = make_extension_server("two", tcp=True, settings=SETTINGS, env=clock.env)
    clock.set(-BEHIND, two)
    path = moving_config(tmp_path / "moving.conf", one, two)
    hv("init", "--keys", "strict", config=path).ok()
    for database in (one, two):
        eventually(lambda: database.clients() == [], what="hv init is gone")
    return one, two, path


def put(database, count=1):
    return [
        key
        for (key,) in database.query(
            "INSERT INTO shard0003.entities (type, body) SELECT 1, '' FROM generate_series(1, %s)"
            " RETURNING id",
            count,
        )
    ]


def reserve(database, count):
    return [key for (key,) in database.query("SELECT shard0003.reserve_ids(%s)", count)]


def test_portable_keys_go_on_and_the_clock_catches_up(slow_target, tmp_path):
    one, two = slow_target
    path = moving_config(tmp_path / "moving.conf", one, two)
    make_shards(path, one, two)
    reserved = reserve(one, 200)
    unused = reserve(one, 5)
    before = put(one, 300)
    assert before == sorted(before)
    moved = move(path, 3, 1).ok("done")
    assert moved.pause_ms < 2000
    made = []
    for _ in range(4):
        made += put(two, 300)
        reserved += reserve(two, 200)
    assert len(set(before + made + reserved + unused)) == len(before + made + reserved + unused)
    assert min(made) > max(before), "the order does not hold"
    times = [key >> 23 for key in made]
    assert times == sorted(times)
    assert reserved == sorted(reserved)
    # Half as fast as the clock, but not much ahead of where it was.
    assert times[-1] - (before[-1] >> 23) < 15000
    # Reserved keys of before are still good, and a comparison of schemas finds no difference.
    two.sql("INSERT INTO shard0003.entities (id, type, body) VALUES (%s, 1, '')", unused[0])
    hv("status", config=path).ok()
    body = "SELECT prosrc FROM pg_proc WHERE oid = 'shard0003.next_id'::regproc"
    assert "moved" in two.value(body)
    # And back: the clock there is right, so nothing is added.
    last = put(two, 10)[-1]
    move(path, 3, 0).ok("done")
    again = put(one, 10)
    assert min(again) > last
    assert "moved" not in one.value(body)
    assert_nothing_left(one, two)


def test_the_clock_of_the_target_has_caught_up(slow_target, tmp_path, clock):
    one, two = slow_target
    path = moving_config(tmp_path / "moving.conf", one, two)
    make_shards(path, one, two)
    last = put(one, 10)[-1]
    move(path, 3, 1).ok("done")
    first = put(two, 10)
    assert min(first) > last
    clock.set(3 * BEHIND, two)
    new = put(two, 10)
    # So many milliseconds after the first as the clock says.
    assert abs(((new[0] >> 23) - (first[0] >> 23)) - 3 * BEHIND * 1000) < 20000


def test_strict_keys_go_on(slow_strict_target):
    one, two, path = slow_strict_target
    before = put(one, 3000) + reserve(one, 100)
    assert before == sorted(before)
    # A feed may have been read up to the source's clock.
    clock_of_one = one.value("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint")
    move(path, 3, 1).ok("done")
    made = put(two, 3000) + reserve(two, 100)
    assert made == sorted(made) and min(made) > max(before)
    epoch = two.value(
        "SELECT substring(prosrc FROM '[0-9]{13}')::bigint FROM pg_proc"
        " WHERE oid = 'shard0003.next_id'::regproc"
    )
    assert clock_of_one < (made[0] >> 23) + epoch < clock_of_one + 20000
    assert_nothing_left(one, two)


def test_a_server_that_lacks_the_extension_gets_it(slow_strict_target):
    one, two, path = slow_strict_target
    for shard in (5, 6, 7, 8):
        two.sql(f"DROP SCHEMA IF EXISTS shard{shard:04} CASCADE")
    two.sql("DROP EXTENSION hypervault")
    before = put(one, 10)
    move(path, 3, 1).ok("done")
    assert put(two)[0] > max(before)
    assert_nothing_left(one, two)


def test_strict_keys_need_the_extension(make_extension_server, make_server, tmp_path):
    one = make_extension_server("one", tcp=True, settings=SETTINGS)
    two = make_server("two", tcp=True, settings=SETTINGS).create_database("test")
    path = moving_config(tmp_path / "moving.conf", one, two)
    assert "could not create" in hv("init", "--keys", "strict", config=path).err
    moved = move(path, 3, 1)
    assert moved.result.code != 0
    assert "cannot be created" in str(moved.result)
    put(one)
    assert_nothing_left(one)


def test_other_keys_wait_for_a_clock_that_is_behind(slow_target, tmp_path, clock):
    one, two = slow_target
    path = moving_config(tmp_path / "moving.conf", one, two)
    make_shards(path, one, two)
    one.sql(
        "CREATE OR REPLACE FUNCTION shard0003.next_id(OUT result bigint) LANGUAGE plpgsql AS $$"
        " BEGIN result := ((extract(epoch FROM clock_timestamp()) * 1000)::bigint"
        "  - 1379365531352) << 23 | (3 << 10) | nextval('shard0003.table_id_seq') % 1024; END $$"
    )
    last = put(one, 10)[-1]
    moved = move(path, 3, 1, max_wait="1s")
    assert moved.result.code != 0
    assert "behind the keys" in str(moved.result)
    assert put(one)[0] > last
