"""Shards that have moved: operations follow them, whatever the configuration says.

The shards are moved by hand, see harness/moved.py.
"""

import time

import pytest

from harness import eventually
from harness.moved import Moving, is_there, moved, row
from harness.store_tool import make_tool  # noqa: F401
from harness.stress import pause, stress  # noqa: F401

SHARD, OTHER = 3, 4


@pytest.fixture
def tool(make_tool, store):
    return make_tool(store, log=True, operation_timeout="5s")


def reports(tool):
    return [event.log for event in tool.log if event.status == "HV_MOVED"]


def questions(tool):
    return [event for event in tool.log if "shard_locations" in event.log]


def stored(database, shard=SHARD):
    return {
        key: int(n)
        for key, n in database.query(f"SELECT id, body -> 'n' FROM shard{shard:04}.entities")
    }


# ---- one operation ----


def test_each_verb_follows_in_the_same_call(make_tool, store, servers):
    one, two = servers
    key = make_tool(store).main.put(SHARD, 1, {"n": "1"}).ok().key
    moved(SHARD, one, two)
    for move in [
        lambda main: main.get(key).ok(),
        lambda main: main.get_only(key, ["n"]).ok(),
        lambda main: main.exists(key).ok(),
        lambda main: main.put(SHARD, 1, {"n": "2"}).ok(),
        lambda main: main.put_key(main.reserve(SHARD, 1).ok().keys[0], 1, {"n": "3"}).ok(),
        lambda main: main.reserve(SHARD, 3).ok(),
        lambda main: main.replace(key, 1, {"n": "4"}, {"has": {"n": "1"}}).ok(),
        lambda main: main.merge(key, {"m": "5"}, ["o"]).ok(),
        lambda main: main.increment(key, "n", "1").ok(),
        lambda main: main.where(SHARD).ok(),
        lambda main: main.delete(key).ok(),
    ]:
        move(make_tool(store, exactly_once="on").main)
    assert sorted(stored(two).values()) == [2, 3]


def test_it_is_reported_once_and_then_remembered(tool, servers):
    one, two = servers
    key = tool.main.put(SHARD, 1, {"n": "1"}).ok().key
    moved(SHARD, one, two)
    for _ in range(3):
        assert tool.main.get(key).ok().dict == {"n": "1"}
    assert reports(tool) == [
        '-- shard 3 has moved from server "one" to server "two" (generation 1)'
    ]
    assert len(questions(tool)) == 1
    tool.main.acquire(SHARD).ok()
    assert tool.main.sql("SELECT current_database()").ok().value == two.dbname
    tool.main.release().ok()


def test_shards_that_have_not_moved_are_asked_nothing(tool, servers):
    one, two = servers
    moved(SHARD, one, two)
    for shard in (OTHER, 9):
        tool.main.put(shard, 1, {"n": "1"}).ok()
    assert questions(tool) == [] and reports(tool) == []


def test_a_server_that_is_down_is_an_error_as_ever(make_tool, own_store, own_servers):
    one, two = own_servers
    moved(SHARD, one, two)
    one.server.stop()
    tool = make_tool(own_store)
    tool.main.put(SHARD, 1, {}).gives("HV_UNAVAILABLE")
    tool.main.put(9, 1, {}).ok()
    one.server.start()
    eventually(lambda: tool.main.put(SHARD, 1, {}).status == "HV_OK")
    one.server.stop()
    tool.main.put(SHARD, 1, {}).ok()
    two.server.stop()
    tool.main.put(SHARD, 1, {}).gives("HV_UNAVAILABLE")


def test_a_key_that_was_reserved_before_is_put_afterwards(make_tool, store, servers):
    one, two = servers
    tool = make_tool(store, exactly_once="on")
    keys = tool.main.reserve(SHARD, 2).ok().keys
    tool.main.put(SHARD, 1, {"n": "0"}).ok()  # the next key comes with it
    moved(SHARD, one, two)
    tool.main.put(SHARD, 1, {"n": "1"}).ok()
    for n, key in enumerate(keys, 2):
        tool.main.put_key(key, 1, {"n": str(n)}).ok()
    assert sorted(stored(two).values()) == [0, 1, 2, 3]


# ---- many ----


def test_operations_of_a_batch_part_where_only_some_shards_have_moved(make_tool, store, servers):
    one, two = servers
    tool = make_tool(store)
    puts = [{"shard": 1 + n % 16, "kind": 1, "dict": {"n": str(n)}} for n in range(320)]
    keys = [item["key"] for item in tool.main.put_many(puts).ok().items]
    moved(SHARD, one, two)
    moved(9, two, one)
    again = make_tool(store).main
    assert [item["dict"]["n"] for item in again.get_many(keys).ok().items] == [
        str(n) for n in range(320)
    ]
    again.put_many(puts).ok()
    again.change_many(
        [{"change": "merge", "key": key, "dict": {"m": "1"}} for key in keys]
    ).ok()
    assert len(stored(two, SHARD)) == len(stored(one, 9)) == len(stored(one, 2)) == 40


def test_operations_on_a_key_keep_their_order_in_a_queue(make_tool, store, servers):
    """Those that are added after the store has learned of the move do not overtake the others."""
    one, two = servers
    tool = make_tool(store)
    keys = tool.main.reserve(SHARD, 200).ok().keys
    tool.main.queue_new().ok()
    moved(SHARD, one, two)
    (bystander,) = tool.threads("bystander")
    for at, key in enumerate(keys):
        operations = [
            {"key": key, "kind": 1, "dict": {"n": "0"}, "tag": 10 * at},
            {"change": "increment", "key": key, "attribute": "n", "amount": "1", "tag": 10 * at + 1},
            {"key": key, "tag": 10 * at + 2},
        ]
        for number, each in enumerate(operations):
            (item,) = tool.main.queue_add([each]).items
            assert item["status"] == "HV_OK"
            tool.main.queue_advance(0)
            if (at, number) == (0, 0):
                bystander.exists(keys[1])
    done = tool.main.queue_advance(-1, True).items
    assert {item["status"] for item in done} <= {"HV_OK"}
    tool.main.queue_free().ok()
    assert set(stored(two).values()) == {1} and len(stored(two)) == 200


def test_operations_that_pause_in_a_queue_do_not_wake_each_other(make_tool, store, servers):
    """A shard can be on record a moment before it is seen. Each operation comes again a number of
    times, with growing pauses; the first pauses of later ones must not make those shorter."""
    one, two = servers
    main = make_tool(store).main
    key = main.put(SHARD, 1, {"n": "1"}).ok().key
    moved(SHARD, one, two)
    main.get(key).ok()
    main.queue_new().ok()
    added, done = 0, []
    two.sql(f"ALTER SCHEMA shard{SHARD:04} RENAME TO aside")
    until = time.monotonic() + 0.12
    while time.monotonic() < until:
        main.queue_add([{"key": key, "tag": added}])
        added += 1
        done += main.queue_advance(2).items
    assert done == []
    two.sql(f"ALTER SCHEMA aside RENAME TO shard{SHARD:04}")
    while len(done) < added:
        done += main.queue_advance(-1).items
    assert [item["status"] for item in done] == ["HV_OK"] * added and added > 10
    main.queue_free().ok()


def test_a_stream_goes_on_while_shards_move(make_tool, store, servers):
    one, two = servers
    tool = make_tool(store)
    streaming = tool.main.begin.stream(80_000, list(range(1, 17)), 10, True)
    for shard in (1, 2, 3):
        Moving(shard, one, two).copy().arrive().switch()
    answer = streaming.reply().ok()
    assert answer.statuses == answer.get_statuses == {"HV_OK": 80_000}
    assert is_there(two, 1)


# ---- while it moves ----


def content(databases, shard):
    """[(key, kind, writer, number)] of the shard, wherever it is; it is on one server only."""
    (place,) = [database for database in databases if is_there(database, shard)]
    return place.query(
        "SELECT id, type, (body->'writer')::int, (body->'number')::int"
        f" FROM shard{shard:04}.entities"
    )


def check_puts(puts, databases):
    """Every put was acknowledged, and is there once."""
    assert {put.status for put in puts} == {"HV_OK"}
    there = {}
    for shard in range(1, 17):
        for key, _, writer, number in content(databases, shard):
            assert (writer, number) not in there, "stored twice"
            there[writer, number] = (shard, key)
    for put in puts:
        assert (put.shard, put.key) == there.pop((put.writer, put.number)), put
    assert not there


@pytest.mark.threads
@pytest.mark.parametrize("ways", ["put,key", "many,queue"])
@pytest.mark.parametrize("publishes", ["the mover", "a store"])
def test_nobody_of_64_threads_notices(stress, store, servers, ways, publishes):
    one, two = servers
    # A queue keeps connections while its thread does something else.
    how = {"threads": 8, "pool_max": 20} if "queue" in ways else {"threads": 64}
    run = stress(store, ways=ways, **how)
    run.flows(servers, 0, 64)
    for turn in range(2):
        for shard in (3, 5):
            moving = Moving(shard, one, two) if turn == 0 else Moving(shard, two, one)
            moving.copy().arrive().switch()
            if publishes == "the mover":
                moving.publish()
            eventually(lambda: is_there(moving.target, shard))
            pause(0.1)
    check_puts(run.finish(), servers)


@pytest.mark.threads
def test_a_move_that_is_undone_before_its_commit_delays_only(stress, store, servers):
    one, two = servers
    run = stress(store, ways="put")
    run.flows(servers, 0, 64)
    for _ in range(3):
        Moving(3, one, two).copy().arrive().switch(commit=False)
    check_puts(run.finish(), servers)
    assert row(one, 3) is None


# ---- questions about many shards ----


def find_keys(tool, **selection):
    tool.main.find(selection).ok()
    return tool.main.next(bare=True).gives("HV_NOT_FOUND").items


def test_finds_and_counts_of_all_shards(make_tool, store, servers):
    one, two = servers
    tool = make_tool(store)
    puts = [{"shard": 1 + n % 16, "kind": 1, "dict": {"n": str(n)}} for n in range(320)]
    keys = sorted(item["key"] for item in tool.main.put_many(puts).ok().items)
    moved(SHARD, one, two)
    Moving(9, two, one).copy().arrive().switch()
    for _ in range(2):
        fresh = make_tool(store)
        assert find_keys(fresh) == keys
        assert find_keys(fresh) == keys
    assert make_tool(store).main.count({}).ok().total == 320
    assert make_tool(store).main.count({"shards": "3"}).ok().total == 20


def test_a_find_goes_on_where_the_shard_is_in_the_middle(make_tool, store, servers):
    one, two = servers
    tool = make_tool(store)
    puts = [{"shard": 1 + n % 4, "kind": 1, "dict": {"n": str(n)}} for n in range(4000)]
    keys = sorted(item["key"] for item in tool.main.put_many(puts).ok().items)
    tool.main.find({}).ok()
    found = tool.main.next(10, bare=True).ok().items
    moved(SHARD, one, two)
    found += tool.main.next(bare=True).gives("HV_NOT_FOUND").items
    assert found == keys


def test_a_partial_find_lacks_only_the_shard_whose_new_server_is_down(
    make_tool, own_store, own_servers
):
    one, two = own_servers
    puts = [{"shard": 1 + n % 8, "kind": 1, "dict": {"n": str(n)}} for n in range(80)]
    keys = {item["key"] for item in make_tool(own_store).main.put_many(puts).ok().items}
    moved(SHARD, one, two)
    two.server.stop()
    tool = make_tool(own_store)
    found = set(find_keys(tool, shards="1-9", partial=True))
    assert found == {key for key in keys if key >> 10 & 8191 != SHARD}
