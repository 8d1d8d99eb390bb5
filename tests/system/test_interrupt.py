"""Waits that end because the program's interrupt hook ends them: a signal came, and its handler has
set a flag. Each type of wait ends soon, with a true outcome, and the store goes on."""

import contextlib
import socket
import time

import pytest

from harness import eventually, store_config
from harness.store_tool import make_tool, step  # noqa: F401

pytestmark = pytest.mark.threads

ONE = 0
BODY = {"a": "b"}
NOBODY = 1 << 23 | 3 << 10  # a key of shard 3 that has no entity
SOON = 5000  # milliseconds, on a busy machine; the time-outs are a minute
PATIENT = {"pool_block_timeout": "1min", "operation_timeout": "1min", "interrupts": True}


@contextlib.contextmanager
def locked(database, shard):
    with database.connect() as blocker:
        blocker.autocommit = False
        blocker.cursor().execute(f"LOCK TABLE shard{shard:04}.entities")
        yield
        blocker.rollback()


def await_locked_out(database, count=1):
    """Wait until this many statements of the store wait for a lock."""
    query = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = %s AND application_name = 'hypervault' AND wait_event_type = 'Lock'"
    )
    eventually(lambda: database.value(query, database.dbname) == count)


def stored(database, shard):
    return database.value(f"SELECT count(*) FROM shard{shard:04}.entities")


def assert_works(tool, thread):
    """The store works, and no connection is missing."""
    key = thread.put(3, 1, BODY).ok().key
    assert thread.get(key).ok().dict == BODY
    now = tool.await_stats(lent=0, waiting=0)
    assert now.open == now.idle == now.opened - now.closed


# ---- for a connection ----


@pytest.mark.parametrize("quietly", [False, True], ids=["signal", "flag alone"])
@pytest.mark.parametrize(
    "begin",
    [
        lambda thread: thread.begin.acquire(3),
        lambda thread: thread.begin.put(3, 1, BODY),
        lambda thread: thread.begin.get(NOBODY),
        lambda thread: thread.begin.reserve(3, 5),
    ],
    ids=["acquire", "put", "get", "reserve"],
)
def test_the_wait_for_a_connection_ends(make_tool, store, servers, begin, quietly):
    tool = make_tool(store, pool_max=1, **PATIENT)
    ann, bob, cid = tool.threads("ann", "bob", "cid")
    ann.acquire(3).ok()
    waiting = begin(bob)
    tool.await_stats(waiting=1)
    other = cid.begin.acquire(3)
    tool.await_stats(waiting=2)
    tool.interrupt(bob, quietly)
    given_up = waiting.reply().gives("HV_TIMEOUT")
    assert given_up.message == 'interrupted while waiting for a connection to server "one"'
    assert given_up.retriable and given_up.ms < SOON
    tool.await_stats(waiting=1, lent=1)  # other operations are not disturbed
    assert not other.done
    ann.release().ok()
    other.reply().ok()
    cid.release().ok()
    assert_works(tool, bob)
    assert stored(servers[ONE], 3) == 1


def test_the_wait_for_a_lane_ends(make_tool, store, servers):
    tool = make_tool(store, pool_max=1, lanes=1, **PATIENT)
    ann, bob = tool.threads("ann", "bob")
    with locked(servers[ONE], 3):
        holder = ann.begin.put(3, 1, BODY)
        await_locked_out(servers[ONE])
        already = tool.sleepers()
        waiting = bob.begin.put(4, 1, BODY)
        eventually(lambda: tool.sleepers() == already + 1)
        tool.interrupt(bob)
        given_up = waiting.reply().gives("HV_TIMEOUT")
    assert given_up.message == 'interrupted while waiting for a lane to server "one"'
    assert given_up.ms < SOON
    holder.reply().ok()
    assert_works(tool, bob)
    assert stored(servers[ONE], 4) == 0


def test_the_wait_for_a_server_that_says_nothing_ends(make_tool, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        where = {"host": "127.0.0.1", "port": silent.getsockname()[1], "dbname": "x"}
        config = store_config(tmp_path / "silent.conf", {"one": (where, "1-9")})
        tool = make_tool(config, **PATIENT)
        ann, bob = tool.threads("ann", "bob")
        opening = [ann.begin.put(3, 1, BODY), bob.begin.acquire(3)]
        connections = [silent.accept()[0] for _ in opening]
        for thread, one in zip((ann, bob), opening):
            tool.interrupt(thread)
            given_up = one.reply().gives("HV_TIMEOUT")
            assert given_up.message == 'interrupted while connecting to server "one"'
            assert given_up.ms < SOON
        now = tool.stats()
        assert (now.open, now.opened, now.failed) == (0, 0, 2)
        # It proves nothing about the server: the next caller tries.
        opening = ann.begin.acquire(3)
        connections.append(silent.accept()[0])
        tool.interrupt(ann)
        opening.reply().gives("HV_TIMEOUT")
        for connection in connections:
            connection.close()


# ---- for an answer ----


@pytest.mark.parametrize("lanes", [0, 2])
def test_the_wait_for_a_puts_answer_ends_with_an_unknown_outcome(make_tool, store, servers, lanes):
    tool = make_tool(store, lanes=lanes, **PATIENT)
    ann = tool.threads("ann")[0]
    with locked(servers[ONE], 3):
        putting = ann.begin.put(3, 1, BODY)
        await_locked_out(servers[ONE])
        tool.interrupt(ann)
        unknown = putting.reply().gives("HV_OUTCOME_UNKNOWN")
        assert unknown.message == 'interrupted before server "one" answered to a write'
        assert unknown.outcome_unknown and not unknown.retriable and unknown.ms < SOON
        assert tool.stats().open == 0
    await_locked_out(servers[ONE], 0)
    assert_works(tool, ann)
    assert stored(servers[ONE], 3) in (1, 2)  # as the server decided


def test_a_put_that_is_to_happen_once_is_not_repeated_when_it_is_interrupted(
    make_tool, store, servers
):
    tool = make_tool(store, exactly_once="on", **PATIENT)
    ann = tool.threads("ann")[0]
    ann.put(3, 1, BODY).ok()  # has brought the next key
    with locked(servers[ONE], 3):
        putting = ann.begin.put(3, 1, BODY)
        await_locked_out(servers[ONE])
        tool.interrupt(ann)
        unknown = putting.reply().gives("HV_OUTCOME_UNKNOWN")
    assert unknown.message.startswith("interrupted before a put under the key ")
    assert unknown.ms < SOON
    assert_works(tool, ann)
    assert stored(servers[ONE], 3) in (2, 3)


def test_the_pause_between_two_tries_ends(make_tool, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        where = {"host": "127.0.0.1", "port": closed.getsockname()[1], "dbname": "x"}
    config = store_config(tmp_path / "closed.conf", {"one": (where, "1-9")})
    tool = make_tool(config, exactly_once="on", **PATIENT)
    ann = tool.threads("ann")[0]
    putting = ann.begin.put(3, 1, BODY)
    eventually(lambda: tool.stats().failed >= 2)
    tool.interrupt(ann)
    given_up = putting.reply().gives("HV_TIMEOUT")
    assert given_up.message == 'interrupted while waiting for a connection to server "one"'
    assert given_up.detail.startswith("Last: ")


@pytest.mark.parametrize("quietly", [False, True], ids=["signal", "flag alone"])
def test_the_wait_for_a_gets_answer_ends(make_tool, store, servers, quietly):
    tool = make_tool(store, **PATIENT)
    ann = tool.threads("ann")[0]
    with locked(servers[ONE], 3):
        getting = ann.begin.get(NOBODY)
        await_locked_out(servers[ONE])
        tool.interrupt(ann, quietly)
        given_up = getting.reply().gives("HV_TIMEOUT")
    assert given_up.message == 'interrupted before server "one" answered'
    assert given_up.hint is None and given_up.retriable and given_up.ms < SOON
    assert_works(tool, ann)


# ---- in a batch ----


@pytest.fixture
def batch(make_tool, store, servers):
    """Two threads of a tool that wait in one batch, which has run into a locked table: the one that
    leads it, with a get, and the one that follows, with a put; their operations; a function that
    unlocks the table."""
    tool = make_tool(store, pool_max=1, lanes=1, **PATIENT)
    holder, leader, follower = tool.threads("holder", "leader", "follower")
    with contextlib.ExitStack() as second:
        with locked(servers[ONE], 3):
            holding = holder.begin.put(3, 1, BODY)
            await_locked_out(servers[ONE])
            second.enter_context(locked(servers[ONE], 4))
            already = tool.sleepers()
            getting = leader.begin.get(1 << 23 | 4 << 10)
            eventually(lambda: tool.sleepers() == already + 1)
            putting = follower.begin.put(4, 1, BODY)
            eventually(lambda: tool.sleepers() == already + 2)
        holding.reply().ok()
        await_locked_out(servers[ONE])
        yield tool, leader, follower, getting, putting, second.close
    assert_works(tool, holder)


def test_a_leader_goes_on_for_those_who_follow(batch, servers):
    tool, leader, follower, getting, putting, unlock = batch
    tool.interrupt(leader)
    time.sleep(0.6)  # longer than between two looks at the hook
    assert not getting.done
    unlock()
    getting.reply().gives("HV_NOT_FOUND")
    putting.reply().ok()
    assert stored(servers[ONE], 4) == 1


def test_who_follows_does_not_wait_for_the_batch_and_the_leader_goes_on(batch):
    tool, leader, follower, getting, putting, unlock = batch
    tool.interrupt(follower)
    unknown = putting.reply().gives("HV_OUTCOME_UNKNOWN")
    assert unknown.message == 'interrupted before server "one" answered to a write'
    assert unknown.ms < SOON
    assert not getting.done
    unlock()
    getting.reply().gives("HV_NOT_FOUND")


def test_a_leader_without_followers_any_more_ends_too(batch):
    tool, leader, follower, getting, putting, unlock = batch
    tool.interrupt(leader)
    tool.interrupt(follower)
    putting.reply().gives("HV_OUTCOME_UNKNOWN")
    given_up = getting.reply().gives("HV_TIMEOUT")
    assert given_up.message == 'interrupted before server "one" answered'
    assert given_up.ms < SOON
    unlock()


# ---- many ----


def test_putting_many_ends_with_a_status_for_each(make_tool, store, servers):
    tool = make_tool(store, pool_max=2, **PATIENT)
    ann = tool.threads("ann")[0]
    operations = [{"shard": 3, "kind": 1, "dict": {}} for _ in range(5000)]
    with locked(servers[ONE], 3):
        putting = ann.begin.put_many(operations)
        await_locked_out(servers[ONE], 2)
        tool.interrupt(ann)
        reply = putting.reply()
    assert reply.status in ("HV_OUTCOME_UNKNOWN", "HV_TIMEOUT") and "interrupted" in reply.message
    assert reply.ms < SOON
    statuses = [item["status"] for item in reply.items]
    assert set(statuses) == {"HV_OUTCOME_UNKNOWN", "HV_TIMEOUT"}
    assert all("interrupted" in item["message"] for item in reply.items)
    assert [item["key"] for item in reply.items] == [0] * 5000
    await_locked_out(servers[ONE], 0)
    eventually(lambda: stored(servers[ONE], 3) <= statuses.count("HV_OUTCOME_UNKNOWN"))
    ann.put_many(operations[:100]).ok()
    assert_works(tool, ann)


@pytest.mark.parametrize("exactly_once", ["on", "off"])
def test_putting_many_ends_while_no_connection_is_free(make_tool, store, servers, exactly_once):
    tool = make_tool(store, pool_max=1, exactly_once=exactly_once, **PATIENT)
    ann, bob = tool.threads("ann", "bob")
    bob.acquire(3).ok()
    putting = ann.begin.put_many([{"shard": 3, "kind": 1, "dict": {}} for _ in range(10)])
    tool.await_stats(waiting=1)
    tool.interrupt(ann)
    given_up = putting.reply().gives("HV_TIMEOUT")
    assert {item["status"] for item in given_up.items} == {"HV_TIMEOUT"}
    assert all("interrupted" in item["message"] for item in given_up.items)
    assert given_up.ms < SOON
    bob.release().ok()
    assert_works(tool, ann)
    assert stored(servers[ONE], 3) == 1


@pytest.mark.parametrize("exactly_once", ["on", "off"])
def test_getting_and_putting_many_ends_while_a_connection_is_opened(
    make_tool, tmp_path, exactly_once
):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        where = {"host": "127.0.0.1", "port": silent.getsockname()[1], "dbname": "x"}
        config = store_config(tmp_path / "silent.conf", {"one": (where, "1-9")})
        tool = make_tool(config, exactly_once=exactly_once, **PATIENT)
        ann = tool.threads("ann")[0]
        for operation in (
            step("put_many", [{"shard": 3, "kind": 1, "dict": {}}] * 3),
            step("get_many", [NOBODY] * 3),
        ):
            pending = tool.send(ann.name, operation)
            with silent.accept()[0]:
                tool.interrupt(ann)
                given_up = pending.reply().gives("HV_TIMEOUT")
            assert [item["status"] for item in given_up.items] == ["HV_TIMEOUT"] * 3
            assert given_up.ms < SOON
            assert tool.stats().open == 0


def test_a_stream_takes_up_nothing_more(make_tool, store, servers):
    tool = make_tool(store, **PATIENT)
    ann = tool.threads("ann")[0]
    with locked(servers[ONE], 3):
        streaming = ann.begin.stream(100_000, [3], 10)
        await_locked_out(servers[ONE], 2)
        tool.interrupt(ann)
        given_up = streaming.reply()
    assert given_up.ms < SOON
    assert "interrupted" in given_up.message
    assert_works(tool, ann)


# ---- and otherwise nothing happens ----


def test_an_operation_that_does_not_wait_asks_nobody(make_tool, store):
    tool = make_tool(store, **PATIENT)
    ann = tool.threads("ann")[0]
    key = ann.put(3, 1, BODY).ok().key
    assert min(ann.get(key).ok().asked for _ in range(20)) == 0
    ann.acquire(3).ok()
    assert ann.release().ok().asked == 0


def test_the_next_operation_starts_afresh(make_tool, store):
    tool = make_tool(store, pool_max=1, **PATIENT)
    ann, bob = tool.threads("ann", "bob")
    ann.acquire(3).ok()
    for _ in range(3):
        waiting = bob.begin.acquire(3)
        tool.await_stats(waiting=1)
        tool.interrupt(bob)
        waiting.reply().gives("HV_TIMEOUT")
    waiting = bob.begin.acquire(3)
    tool.await_stats(waiting=1)
    ann.release().ok()
    waiting.reply().ok()


def test_closing_a_store_in_use_ends(make_tool, store):
    tool = make_tool(store, **PATIENT)
    ann, bob = tool.threads("ann", "bob")
    ann.acquire(3).ok()
    closing = bob.begin.close(-1)
    eventually(lambda: ann.try_acquire(3, conn="x").status == "HV_CLOSED")
    tool.interrupt(bob)
    closing.reply().gives("HV_BUSY")
    ann.release().ok()
    bob.close(0).ok()


def test_without_a_hook_a_signal_ends_no_wait(make_tool, store, servers):
    tool = make_tool(store, pool_max=1, pool_block_timeout="1min")
    ann, bob = tool.threads("ann", "bob")
    ann.acquire(3).ok()
    waiting = bob.begin.acquire(3)
    tool.await_stats(waiting=1)
    for _ in range(3):
        tool.interrupt(bob)
    ann.release().ok()
    assert waiting.reply().ok().asked == 0
    bob.release().ok()
    with locked(servers[ONE], 3):
        putting = ann.begin.put(3, 1, BODY)
        await_locked_out(servers[ONE])
        for _ in range(3):
            tool.interrupt(ann)
    assert putting.reply().ok().asked == 0
