"""Finding entities over several shards and servers: all of them, each once, in the order of keys."""

import pathlib
import random
import re
import time

import pytest

from harness import make_shards, sanitizers, store_config
from harness.store_tool import make_tool  # noqa: F401

pytestmark = pytest.mark.threads

ONE, TWO = 0, 1
SHARDS = list(range(1, 17))


def puts(count, shards):
    return [
        {"shard": shards[i % len(shards)], "kind": i % 3, "dict": {"n": str(i), "user": str(i % 7)}}
        for i in range(count)
    ]


def fill(tool, count, shards=SHARDS):
    """Put entities, and return them in the order of their keys: [key, kind, dict]."""
    operations = puts(count, shards)
    keys = [item["key"] for item in tool.main.put_many(operations).ok().items]
    return sorted([key, o["kind"], o["dict"]] for key, o in zip(keys, operations))


def find(tool, **selection):
    """All entities that it selects."""
    tool.main.find(selection).ok()
    return tool.main.next().gives("HV_NOT_FOUND").items


def shard_of(key):
    return key >> 10 & 8191


@pytest.fixture
def tool(make_tool, store):
    return make_tool(store)


@pytest.fixture
def many_shards(make_tool, servers, tmp_path):
    """A store of several portions for each server: a tool."""
    one, two = servers
    config = store_config(tmp_path / "many.conf", {"one": (one, "0-150"), "two": (two, "150-220")})
    make_shards(config, one, two)
    return make_tool(config)


# ---- which, and in which order ----


@pytest.mark.parametrize("count", [0, 1, 5, 16, 255, 256, 257, 5000])
def test_all_are_found_in_the_order_of_their_keys(tool, count):
    everything = fill(tool, count)
    assert find(tool) == everything
    assert find(tool, newest=True) == everything[::-1]


@pytest.mark.parametrize("limit", [1, 2, 63, 64, 65, 100, 256, 257, 700, 2000])
def test_a_limit_ends_the_answer(tool, limit):
    everything = fill(tool, 1000)
    assert find(tool, limit=limit) == everything[:limit]
    assert find(tool, newest=True, limit=limit) == everything[::-1][:limit]


def test_pages_end_where_the_rows_do(make_tool, servers, tmp_path):
    """Of one shard, so that the sizes of pages are known: 256, then 1,000."""
    config = store_config(tmp_path / "one.conf", {"one": (servers[ONE], "5-6")})
    make_shards(config, servers[ONE])
    tool = make_tool(config)
    everything = []
    for count in (255, 256, 257, 256 + 999, 256 + 1000, 256 + 1001):
        everything = sorted(everything + fill(tool, count - len(everything), [5]))
        assert find(tool) == everything
        assert find(tool, newest=True) == everything[::-1]


def test_a_shard_with_nine_tenths_of_all(tool):
    everything = sorted(fill(tool, 2700, [7]) + fill(tool, 300, SHARDS))
    assert find(tool) == everything
    assert find(tool, newest=True, limit=1000) == everything[::-1][:1000]


def test_some_shards(tool):
    everything = fill(tool, 500)
    assert find(tool, shards="3,9-11") == [e for e in everything if shard_of(e[0]) in (3, 9, 10)]
    assert find(tool, shards="3") == [e for e in everything if shard_of(e[0]) == 3]
    assert find(tool, shards="9-17") == [e for e in everything if shard_of(e[0]) >= 9]


def test_many_shards_of_a_server_are_several_statements(many_shards):
    everything = fill(many_shards, 2000, list(range(0, 220)))
    assert find(many_shards) == everything
    assert find(many_shards, newest=True, limit=50) == everything[::-1][:50]
    assert find(many_shards, shards="60-70,149-151") == [
        e for e in everything if shard_of(e[0]) in [*range(60, 70), 149, 150]
    ]


def test_conditions(tool):
    everything = fill(tool, 700)
    assert find(tool, kinds=[1]) == [e for e in everything if e[1] == 1]
    assert find(tool, kinds=[2, 0], equal={"user": "3"}, newest=True) == [
        e for e in everything[::-1] if e[1] != 1 and e[2]["user"] == "3"
    ]
    some = find(tool, one_of={"user": ["3", "5"]}, exists=["n"], lacks=["x"], limit=90)
    assert some == [e for e in everything if e[2]["user"] in "35"][:90]
    assert find(tool, has={"user": "1", "n": "1"}) == [e for e in everything if e[2]["n"] == "1"]
    assert find(tool, lacks=["n"]) == []


def test_chosen_attributes_only(tool):
    everything = fill(tool, 300)
    assert find(tool, only=["user", "absent"]) == [
        [key, kind, {"user": body["user"]}] for key, kind, body in everything
    ]
    assert find(tool, only=[], limit=10) == [[key, kind, {}] for key, kind, _ in everything[:10]]


def test_keys_from_and_until(tool):
    everything = fill(tool, 600)
    keys = [e[0] for e in everything]
    assert find(tool, **{"from": keys[100], "until": keys[400]}) == everything[100:400]
    assert find(tool, **{"from": keys[100], "until": keys[100]}) == []
    assert find(tool, **{"from": keys[100], "until": keys[100] + 1}) == everything[100:101]
    assert find(tool, until=keys[7], newest=True) == everything[:7][::-1]
    tool.main.find({"from": keys[1], "until": keys[0]}).gives("HV_INVALID")


@pytest.mark.parametrize("size", [1, 7, 100])
def test_the_last_key_is_the_token_of_the_next_page(tool, size):
    everything = fill(tool, 3 * size + size // 2)
    for newest in (False, True):
        pages, after = [], {}
        while page := find(tool, limit=size, newest=newest, **after):
            pages += page
            after = {"after": page[-1][0]}
        assert pages == everything[:: -1 if newest else 1]


def test_the_greatest_and_the_least_key(tool, servers):
    least, greatest = 1 << 10, 2**63 - 1 - (8191 - 16 << 10)
    assert (shard_of(least), shard_of(greatest)) == (1, 16)
    servers[ONE].sql(f"INSERT INTO shard0001.entities VALUES ({least}, 1, '')")
    servers[TWO].sql(f"INSERT INTO shard0016.entities VALUES ({greatest}, 2, '')")
    both = [[least, 1, {}], [greatest, 2, {}]]
    assert find(tool) == both
    assert find(tool, newest=True) == both[::-1]
    assert find(tool, after=greatest) == find(tool, after=least, newest=True) == []


def test_random_selections_against_a_model(tool, servers):
    everything = fill(tool, 1500)
    for number in range(150):
        rng = random.Random(number)
        wanted, model = {}, everything
        if rng.random() < 0.4:
            begin = rng.randint(1, 15)
            end = rng.randint(begin + 1, 17)
            wanted["shards"] = f"{begin}-{end}"
            model = [e for e in model if begin <= shard_of(e[0]) < end]
        if rng.random() < 0.4:
            wanted["kinds"] = rng.sample([0, 1, 2], rng.randint(1, 2))
            model = [e for e in model if e[1] in wanted["kinds"]]
        if rng.random() < 0.4:
            wanted["equal"] = {"user": str(rng.randint(0, 7))}
            model = [e for e in model if e[2]["user"] == wanted["equal"]["user"]]
        if rng.random() < 0.5:
            low, high = sorted(rng.choices(everything, k=2))
            wanted.update({"from": low[0], "until": high[0]})
            model = [e for e in model if low[0] <= e[0] < high[0]]
        wanted["newest"] = rng.random() < 0.5
        if wanted["newest"]:
            model = model[::-1]
        if rng.random() < 0.3:
            after = rng.choice(everything)[0]
            wanted["after"] = after
            model = [e for e in model if (e[0] < after if wanted["newest"] else e[0] > after)]
        if rng.random() < 0.5:
            wanted["limit"] = rng.choice([1, 10, 64, 300, 1000])
            model = model[: wanted["limit"]]
        assert find(tool, **wanted) == model, wanted


def test_what_changes_meanwhile(make_tool, store):
    """Each at most once, and none that was there all the time is missing."""
    tool = make_tool(store, pool_max=4)
    everything = fill(tool, 3000)
    deleted = {e[0] for e in everything[1::2]}
    writer = tool.threads("writer")[0]
    tool.main.find({}).ok()
    found = tool.main.next(10).ok().items
    going = [writer.begin.delete(key) for key in sorted(deleted)[::-1]]
    added = [writer.begin.put(1 + i % 16, 1, {"new": "1"}) for i in range(200)]
    while not going[-1].done:
        found += tool.main.next(100).items
    found += tool.main.next().gives("HV_NOT_FOUND").items
    keys = [e[0] for e in found]
    assert keys == sorted(set(keys))
    assert {e[0] for e in everything} - deleted <= set(keys)
    new = {put.reply().ok().key for put in added}
    assert set(keys) <= {e[0] for e in everything} | new


# ---- using a reader ----


def test_several_readers_at_once(tool):
    everything = fill(tool, 2000)
    for name in "abc":
        tool.main.find({"newest": name == "b"}, reader=name).ok()
    found = {name: [] for name in "abc"}
    for _ in range(20):
        for name in "abc":
            found[name] += tool.main.next(100, reader=name).ok().items
    assert found == {"a": everything, "b": everything[::-1], "c": everything}


def test_it_may_be_closed_at_any_time(tool):
    everything = fill(tool, 3000)
    opened = [tool.stats(server).opened for server in (ONE, TWO)]
    for count in (0, 1, 200, 257, 1000):
        tool.main.find({}).ok()
        if count > 0:
            assert tool.main.next(count).ok().items == everything[:count]
        tool.main.reader_close().ok()
    assert [tool.stats(server).lent for server in (ONE, TWO)] == [0, 0]
    # Pages that were on their way were received.
    assert [tool.stats(server).opened for server in (ONE, TWO)] == opened


def test_at_its_end_it_stays(tool):
    fill(tool, 5)
    tool.main.find({}).ok()
    assert len(tool.main.next().gives("HV_NOT_FOUND").items) == 5
    tool.main.next().gives("HV_NOT_FOUND")
    assert tool.main.missing().items == []


def test_with_one_connection_the_loop_may_use_it(make_tool, store):
    """Nothing is asked for ahead where it could take the last connection."""
    tool = make_tool(store, pool_max=1, pool_block_timeout="2s")
    everything = fill(tool, 2000)
    tool.main.find({}).ok()
    for entity in everything:
        assert tool.main.next(1).ok().items == [entity]
        assert tool.main.get(entity[0]).ok().dict == entity[2]
        other = everything[hash(entity[0]) % len(everything)]  # most likely another server's
        assert tool.main.get(other[0]).ok().dict == other[2]


def test_at_its_end_a_reader_has_no_connection(make_tool, store):
    tool = make_tool(store, pool_max=4)
    fill(tool, 3000)
    for limit in (10, 300, 700, 5000):
        tool.main.find({"limit": limit}).ok()
        tool.main.next().gives("HV_NOT_FOUND")
        assert [tool.stats(server).lent for server in (ONE, TWO)] == [0, 0]


def test_asking_ahead_leaves_half_of_the_connections(make_tool, store):
    tool = make_tool(store, pool_max=4)
    fill(tool, 4000)
    for name in "abcdef":
        tool.main.find({}, reader=name).ok()
        tool.main.next(300, reader=name).ok()
    assert all(tool.stats(server).lent <= 2 for server in (ONE, TWO))


def test_without_waiting(tool):
    everything = fill(tool, 3000)
    tool.main.find({}).ok()
    found, status = [], "HV_TIMEOUT"
    while status == "HV_TIMEOUT":
        reply = tool.main.next(timeout=0)
        found += reply.items
        status = reply.status
        assert reply.message is None
        if status == "HV_TIMEOUT":
            assert tool.main.reader_poll(10_000).ready == 1
    assert (status, found) == ("HV_NOT_FOUND", everything)


def test_a_slow_loop_is_not_late(make_tool, store):
    """The time that the caller takes for an entity is not that of the server."""
    tool = make_tool(store, operation_timeout="2s", pool_max=8)
    everything = fill(tool, 3000)
    tool.main.find({}).ok()
    time.sleep(2.5)
    found = tool.main.next(100).ok().items  # the next pages are asked for
    time.sleep(2.5)
    found += tool.main.next(150).ok().items
    time.sleep(2.5)
    assert found + tool.main.next().gives("HV_NOT_FOUND").items == everything


# ---- memory ----

MEGABYTE = 1024  # kB

# Attributes in SQL, and how many entities have them.
SMALL = ("hstore('a', repeat('x', 100))", 20_000)
LARGE = "(SELECT hstore('a', string_agg(md5(i::text), '')) FROM generate_series(1, {}) i)"
SIZES = {
    "large": [(LARGE.format(160_000), 8)],  # 5 MB
    "compressed": [("hstore('a', repeat('x', 10000000))", 60)],
    "growing": [SMALL, (LARGE.format(6250), 250)],  # 200 kB
    "first": [(LARGE.format(6250), 250), SMALL],
}


def peak(tool):
    status = pathlib.Path(f"/proc/{tool.process.pid}/status").read_text(encoding="utf-8")
    return int(re.search(r"VmHWM:\s+(\d+) kB", status).group(1))


@pytest.mark.parametrize("sizes", SIZES)
def test_memory_is_bounded_whatever_the_sizes_are(tool, servers, sizes):
    if sanitizers():
        pytest.skip("memory of a program with a sanitizer says nothing")
    expected, time = [], 1
    for body, count in SIZES[sizes]:
        for shard in (3, 5):
            servers[ONE].sql(
                f"INSERT INTO shard{shard:04}.entities"
                f" SELECT (n << 23) + ({shard} << 10), 1, b FROM (SELECT {body} AS b) AS body,"
                f" generate_series({time}::bigint, {time + count - 1}) AS n"
            )
            expected += [n << 23 | shard << 10 for n in range(time, time + count)]
        time += count
    tool.main.find({}).ok()
    assert tool.main.next(bare=True).gives("HV_NOT_FOUND").items == sorted(expected)
    assert peak(tool) < 64 * MEGABYTE


def test_attributes_that_are_chosen_make_small_rows(tool, servers):
    for shard in (3, 12):
        servers[shard // 9].sql(
            f"INSERT INTO shard{shard:04}.entities SELECT (n << 23) + ({shard} << 10), 1,"
            " hstore(ARRAY['a', repeat('x', 3000000), 'n', n::text])"
            " FROM generate_series(1::bigint, 40) n"
        )
    found = find(tool, only=["n"])
    assert [e[2] for e in found] == [{"n": str(n)} for n in range(1, 41) for _ in (3, 12)]


def test_entities_without_attributes_are_found_after_large_ones(tool, servers):
    for n, body in enumerate(("repeat('x', 2000000)", "NULL", "repeat('x', 2000000)"), 1):
        servers[ONE].sql(
            f"INSERT INTO shard0003.entities VALUES ({n << 23 | 3 << 10}, 1,"
            f" coalesce(hstore('a', {body}), ''))"
        )
    servers[ONE].sql(f"INSERT INTO shard0003.entities VALUES ({4 << 23 | 3 << 10}, 1, '')")
    assert [e[0] >> 23 for e in find(tool)] == [1, 2, 3, 4]


@pytest.mark.parametrize("large", [0.5, 0.02, 0.002])
def test_entities_of_all_sizes_are_found_in_order(tool, servers, large):
    """So many of them are large: pages end before and after those in all possible ways."""
    chosen = random.Random(large)
    many = "(SELECT string_agg(md5(i::text), '') FROM generate_series(1, 3000) AS i)"
    bodies = ("repeat('x', 5000)", many, "repeat('x', 1950)", "'y'")
    rows = {ONE: [], TWO: []}
    for n in range(1, 3001):
        shard = chosen.choice((3, 3, 3, 5, 12))
        body = chosen.choice(bodies[:3]) if chosen.random() < large else bodies[3]
        rows[shard // 9].append((n << 23 | shard << 10, shard, body))
    for number, server in ((ONE, servers[ONE]), (TWO, servers[TWO])):
        server.sql(
            ";".join(
                f"INSERT INTO shard{shard:04}.entities SELECT {key}, 1, hstore('a', {body})"
                for key, shard, body in rows[number]
            )
        )
    keys = sorted(key for one in rows.values() for key, _, _ in one)
    found = find(tool)
    assert [e[0] for e in found] == keys
    assert all(e[2]["a"] for e in found)
    assert [e[0] for e in find(tool, newest=True)] == keys[::-1]
    assert [e[0] for e in find(tool, limit=1500)] == keys[:1500]
    assert [e[0] for e in find(tool, after=keys[700], limit=300)] == keys[701:1001]
