"""Queues: operations that are begun and done without waiting, with one descriptor to watch."""

import time

import pytest

from harness import eventually
from harness.store_tool import make_tool, relayed_store, step  # noqa: F401

pytestmark = pytest.mark.threads

ONE, TWO = 0, 1


def put(number, shard=3):
    return {"shard": shard, "kind": 1, "dict": {"n": str(number)}}


def stored(database, shard=3):
    return dict(database.query(f"SELECT id, (body -> 'n')::int FROM shard{shard:04}.entities"))


@pytest.fixture
def make_queue(make_tool):
    """A function that makes a tool with a queue, which is freed at the end."""
    tools = []

    def make(config, **options):
        tool = make_tool(config, **options)
        tool.main.queue_new().ok()
        tools.append(tool)
        return tool

    yield make
    for tool in tools:
        tool.main.queue_free()


@pytest.fixture
def tool(make_queue, store):
    return make_queue(store)


def add(tool, *operations):
    for item in tool.main.queue_add(list(operations)).items:
        assert item["status"] == "HV_OK", item


def all_done(tool):
    """{tag: the result} of all pending operations."""
    items = tool.main.queue_advance(-1, True).items
    assert len({item["tag"] for item in items}) == len(items)
    return {item["tag"]: item for item in items}


def drive(tool, until, timeout=60):
    """As an event loop does: wait for the descriptor alone, and never in the queue."""
    done = []
    deadline = time.monotonic() + timeout
    while not until(done):
        assert time.monotonic() < deadline, done
        if tool.main.queue_poll(1000).ready:
            done += tool.main.queue_advance(0).items
    return done


def test_each_operation_is_reported_once_with_its_tag(tool, servers):
    add(tool, *(put(i, 1 + i % 16) for i in range(3000)))
    done = all_done(tool)
    assert sorted(done) == list(range(3000))
    assert {item["status"] for item in done.values()} == {"HV_OK"}
    keys = [done[i]["key"] for i in range(3000)]
    add(tool, *({"key": key} for key in keys), {"key": 5 << 23 | 3 << 10}, put(-1))
    again = all_done(tool)
    assert [again[i]["dict"]["n"] for i in range(3000)] == [str(i) for i in range(3000)]
    assert (again[3000]["status"], again[3001]["status"]) == ("HV_NOT_FOUND", "HV_OK")


def test_the_descriptor_asks_for_the_queue_when_there_is_something_to_do(tool):
    assert tool.main.queue_poll(0).ready == 0
    add(tool, put(1))
    assert tool.main.queue_poll(0).ready == 1  # to send it
    (done,) = drive(tool, len)
    assert done["status"] == "HV_OK"
    assert tool.main.queue_poll(100).ready == 0
    assert tool.main.queue_advance(0).items == []


def test_to_advance_an_empty_queue_does_not_wait(tool):
    assert tool.main.queue_advance(-1).ms < 10_000


def test_a_connector_in_steps_is_not_waited_for(make_queue, store):
    tool = make_queue(store, connector="steps", pool_block_timeout="1min")
    tool.main.hold("connect", True)
    add(tool, put(1))
    eventually(lambda: tool.main.queue_advance(0).pending and tool.main.hold("connect", True).waiting)
    assert not tool.main.queue_poll(50).ready
    tool.main.hold("connect", False)
    assert all_done(tool)[0]["status"] == "HV_OK"


def test_to_advance_waits_no_longer_than_its_timeout(make_queue, relayed_store):
    config, between = relayed_store
    tool = make_queue(config)
    between.stall()
    add(tool, put(1))
    result = tool.main.queue_advance(200)
    assert (result.items, result.pending) == ([], 1)
    assert 190 < result.ms < 5000
    between.resume()
    assert all_done(tool)[0]["status"] == "HV_OK"


def test_what_is_wrong_is_refused_at_once_and_not_pending(tool):
    wrong = [put(1, 20), {"key": -5}, {"shard": 3, "kind": 99999, "dict": {}}]
    statuses = [item["status"] for item in tool.main.queue_add(wrong).items]
    assert statuses == ["HV_NO_SERVER", "HV_INVALID", "HV_INVALID"]
    assert tool.main.queue_advance(0).pending == 0


def test_deadlines_are_kept_by_who_watches_the_descriptor_alone(make_queue, relayed_store):
    config, between = relayed_store
    tool = make_queue(config, operation_timeout="5s")
    add(tool, put(1), put(2, 9))
    all_done(tool)
    between.stall()
    add(tool, put(3), {"key": 5 << 23 | 3 << 10}, put(4, 9))
    start = time.monotonic()
    done = {item["tag"]: item for item in drive(tool, lambda done: len(done) == 3)}
    assert 4.8 < time.monotonic() - start < 9.5
    assert done[0]["status"] == "HV_OUTCOME_UNKNOWN"
    assert done[1]["status"] in ("HV_TIMEOUT", "HV_NOT_FOUND")
    assert done[2]["status"] == "HV_OK"
    between.resume()
    eventually(lambda: (add(tool, put(5)), all_done(tool)[0]["status"] == "HV_OK")[1])


def test_the_descriptor_becomes_ready_when_a_connection_is_not_opened_in_time(
    make_queue, relayed_store
):
    config, between = relayed_store
    tool = make_queue(config, pool_block_timeout="4s")
    between.stall()
    add(tool, put(1), put(2, 9))
    done = {item["tag"]: item for item in drive(tool, lambda done: len(done) == 2)}
    assert (done[0]["status"], done[1]["status"]) == ("HV_TIMEOUT", "HV_OK")
    assert done[0]["message"] == 'could not connect to server "one" in time'
    between.resume()


def test_the_descriptor_becomes_ready_at_its_turn_in_the_pools_line(make_queue, store):
    tool = make_queue(store, pool_max=1, pool_block_timeout="1min")
    (ann,) = tool.threads("ann")
    ann.acquire(3).ok()
    add(tool, put(1))
    tool.main.queue_advance(0)
    assert tool.stats().waiting == 1
    assert tool.main.queue_poll(100).ready == 0
    ann.release().ok()
    (done,) = drive(tool, len)
    assert done["status"] == "HV_OK"


def test_an_operation_that_was_tried_again_ends_at_its_own_deadline(make_queue, store, servers):
    """It waits before those that were added after it, not behind them: their deadlines are later."""
    servers[0].sql(
        "CREATE FUNCTION public.hang_up() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NEW; END $$;"
        " CREATE TRIGGER hang_up BEFORE INSERT ON shard0003.entities"
        " FOR EACH ROW EXECUTE FUNCTION public.hang_up()"
    )
    options = dict(pool_max=1, operation_timeout="2s", pool_block_timeout="1min")
    tool = make_queue(store, exactly_once="on", **options)
    add(tool, put(1))
    assert tool.main.queue_advance(1000).items == []

    def pauses():
        assert tool.main.queue_advance(1).items == []
        return tool.stats().open == 0

    eventually(pauses, interval=0.001)
    tool.main.acquire(3).ok()
    later = 5 << 23 | 3 << 10
    add(tool, {"key": later})  # a second after the put
    first = tool.main.queue_advance(-1)
    assert [item["key"] for item in first.items] == [0]
    assert first.items[0]["status"] == "HV_OUTCOME_UNKNOWN"
    assert first.pending == 1
    assert [item["key"] for item in tool.main.queue_advance(-1).items] == [later]
    tool.main.release().ok()


def test_a_server_that_went_and_came_back_works_again(make_queue, own_store, own_servers):
    tool = make_queue(own_store)
    add(tool, put(1), put(2, 9))
    all_done(tool)
    own_servers[ONE].server.kill9()
    add(tool, *(put(i, 1 + i % 16) for i in range(100)))
    done = all_done(tool)
    for i in range(100):
        assert done[i]["status"] == ("HV_OK" if i % 16 >= 8 else "HV_UNAVAILABLE"), done[i]
    own_servers[ONE].server.start()
    eventually(lambda: (add(tool, put(5)), all_done(tool)[0]["status"] == "HV_OK")[1])


def test_an_operation_that_finds_a_server_gone_is_reported_at_once_while_another_tries(
    make_queue, relayed_store
):
    """Once the server is known not to answer, one caller tries, and the others need not wait for
    that."""
    config, between = relayed_store
    tool = make_queue(config, pool_block_timeout="6s")
    between.stall()
    add(tool, put(1))
    assert all_done(tool)[0]["status"] == "HV_TIMEOUT"

    def fails_at_once():
        add(tool, put(2))
        tool.main.queue_advance(0)
        add(tool, put(3))
        start = time.monotonic()
        first = tool.main.queue_advance(-1).items
        took = time.monotonic() - start
        all_done(tool)
        return took < 0.5 and first

    eventually(fails_at_once)
    between.resume()


def test_connections_are_given_back_between_batches(make_queue, store):
    tool = make_queue(store)
    add(tool, *(put(i) for i in range(100)))
    all_done(tool)
    assert tool.stats().lent == 0
    assert tool.stats().open <= 2


def test_a_store_with_a_queue_is_in_use_and_what_is_pending_is_reported(make_queue, relayed_store):
    config, between = relayed_store
    tool = make_queue(config)
    add(tool, put(1))
    all_done(tool)
    tool.main.close(0).gives("HV_BUSY")
    (refused,) = tool.main.queue_add([put(2)]).items
    assert refused["status"] == "HV_CLOSED"


def test_closing_fails_what_waits_for_a_connection(make_queue, store):
    tool = make_queue(store, pool_max=1)
    (ann,) = tool.threads("ann")
    ann.acquire(3).ok()
    add(tool, put(1))
    tool.main.queue_advance(0)
    tool.main.close(0).gives("HV_BUSY")
    (done,) = drive(tool, len)
    assert done["status"] == "HV_CLOSED"
    ann.release().ok()


@pytest.mark.parametrize("when", ["waiting", "opening", "running", "in line"])
def test_a_queue_may_be_freed_with_anything_pending(make_tool, relayed_store, own_servers, when):
    config, between = relayed_store
    tool = make_tool(config, pool_max=1, pool_block_timeout="1min")
    tool.main.queue_new().ok()
    if when == "running":
        add(tool, put(1))
        all_done(tool)
    if when in ("running", "opening"):
        between.stall()
    if when == "in line":
        (ann,) = tool.threads("ann")
        ann.acquire(3).ok()
    add(tool, *(put(i) for i in range(2, 1000)), {"key": 5 << 23 | 3 << 10})
    if when != "waiting":
        tool.main.queue_advance(0)
    assert tool.main.queue_free().ms < 3000
    between.resume()
    if when == "in line":
        ann.release().ok()
    assert tool.stats().lent == tool.stats().waiting == 0
    tool.main.put(3, 1, {}).ok()


def test_in_a_forked_child_a_queue_is_of_no_use_and_does_no_harm(make_queue, store, servers):
    tool = make_queue(store)
    add(tool, *(put(i) for i in range(500)))
    tool.main.queue_advance(0)
    child = tool.main.fork(
        [
            step("queue_advance", -1),
            step("queue_add", [put(-1)]),
            step("queue_free"),
            step("put", 3, 1, {"n": "-2"}),
            step("close", 0),
        ]
    ).ok()
    assert child.exit_status == 0
    advanced, added, _, single, closed = child.child
    assert (advanced.items, advanced.pending) == ([], 0)
    assert added.items[0]["status"] == "HV_INVALID"
    single.ok()
    closed.ok()
    done = all_done(tool)
    assert {item["status"] for item in done.values()} <= {"HV_OK"}
    assert eventually(lambda: len(stored(servers[ONE])) == 501)


def test_a_put_that_must_happen_once_is_repeated_over_a_broken_connection(
    make_queue, relayed_store, own_servers
):
    config, between = relayed_store
    tool = make_queue(config, exactly_once="on")
    add(tool, put(0))
    all_done(tool)
    between.cut_in("to_client", 30)
    add(tool, *(put(i) for i in range(1, 50)))
    done = all_done(tool)
    assert {item["status"] for item in done.values()} == {"HV_OK"}
    assert sorted(stored(own_servers[ONE]).values()) == list(range(50))


def test_a_put_that_must_happen_once_gives_up_in_the_end(make_queue, own_store, own_servers):
    tool = make_queue(own_store, exactly_once="on", operation_timeout="3s")
    add(tool, put(0))
    all_done(tool)
    own_servers[ONE].server.kill9()
    add(tool, put(1))
    (done,) = all_done(tool).values()
    assert done["status"] in ("HV_UNAVAILABLE", "HV_OUTCOME_UNKNOWN")
    own_servers[ONE].server.start()


def test_operations_that_are_done_may_lead_to_others(tool):
    """The example event_loop does so; here, many small advances."""
    add(tool, put(0))
    key = all_done(tool)[0]["key"]
    for _ in range(50):
        add(tool, {"key": key}, put(1))
        assert {item["status"] for item in all_done(tool).values()} == {"HV_OK"}
