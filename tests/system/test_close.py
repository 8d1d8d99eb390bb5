"""Closing a store: operations that are refused, waiters that are woken, loans that are waited for.
"""

import pytest

from harness import eventually
from harness.store_tool import make_tool, relayed_store  # noqa: F401

pytestmark = [pytest.mark.threads, pytest.mark.races]

ONE = 0
BODY = {"a": "b"}
AT_ONCE = 2000  # milliseconds, on a busy machine


def test_a_store_at_rest_is_closed_at_once(make_tool, store, servers):
    tool = make_tool(store)
    tool.main.put(3, 1, BODY).ok()
    tool.main.put(9, 1, BODY).ok()
    assert tool.main.close(0).ok().ms < AT_ONCE
    for database in servers:
        eventually(lambda: database.clients() == [])


def test_a_store_whose_connections_are_lent_is_busy_and_closed_for_new_work(make_tool, store):
    tool = make_tool(store)
    ann, bob = tool.threads("ann", "bob")
    ann.acquire(3, conn="a").ok()
    ann.acquire(9, conn="b").ok()
    busy = bob.close(0).gives("HV_BUSY")
    assert busy.message == "the store is still in use"
    assert busy.detail == "2 connections or operations are out."
    assert busy.hint == "Return every connection and end every transaction, then close again."
    assert busy.ms < AT_ONCE
    for refused in (
        bob.put(3, 1, BODY),
        bob.get(1 << 23 | 3 << 10),
        bob.acquire(3),
        bob.acquire(server=0),
        bob.try_acquire(3),
        bob.put(12, 1, BODY),
    ):
        assert refused.gives("HV_CLOSED").message == "the store is closed"
    # The borrower is not disturbed.
    ann.sql("SELECT 1", "a").ok()
    ann.release("a").ok()
    bob.close(0).gives("HV_BUSY")
    assert tool.stats().open == 0  # returned connections are closed
    ann.release("b").ok()
    bob.close(0).ok()


def test_a_stopped_store_is_closed_for_new_work_and_takes_back_what_is_lent(make_tool, store, servers):
    tool = make_tool(store, pool_max=2)
    ann, bob = tool.threads("ann", "bob")
    ann.put(3, 1, BODY).ok()
    ann.acquire(3).ok()
    ann.acquire(3, conn="b").ok()
    waiting = bob.begin.acquire(3)
    tool.await_stats(waiting=1)
    tool.main.stop().ok()
    waiting.reply().gives("HV_CLOSED")
    bob.put(3, 1, BODY).gives("HV_CLOSED")
    ann.sql("SELECT 1").ok()
    ann.release().ok()
    ann.release("b").ok()
    assert tool.stats().open == 0
    eventually(lambda: servers[ONE].clients() == [])
    tool.main.stop().ok()
    bob.close(0).ok()


def test_waiters_are_woken_when_the_store_is_closed(make_tool, store):
    tool = make_tool(store, pool_max=1, pool_block_timeout="1min", operation_timeout="1min")
    ann, bob, cid, dan = tool.threads("ann", "bob", "cid", "dan")
    ann.acquire(3).ok()
    waiting = [bob.begin.acquire(3), cid.begin.put(3, 1, BODY)]
    tool.await_stats(waiting=2)
    dan.close(0).gives("HV_BUSY")
    for one in waiting:
        assert one.reply().gives("HV_CLOSED").ms < 10000
    assert tool.stats().waiting == 0
    ann.release().ok()
    dan.close(0).ok()


def test_close_waits_for_what_is_lent_up_to_its_timeout(make_tool, store):
    tool = make_tool(store)
    ann, bob = tool.threads("ann", "bob")
    ann.acquire(3).ok()
    assert 200 <= bob.close(200).gives("HV_BUSY").ms < AT_ONCE
    closing = bob.begin.close(-1)
    ann.sql("SELECT pg_sleep(0.1)").ok()
    assert not closing.done
    ann.release().ok()
    assert closing.reply().ok().ms >= 100


def test_close_waits_for_operations_under_way_and_they_succeed(make_tool, store, servers):
    tool = make_tool(store)
    ann, bob = tool.threads("ann", "bob")
    with servers[ONE].connect() as blocker:
        blocker.autocommit = False
        blocker.cursor().execute("LOCK TABLE shard0003.entities")
        putting = ann.begin.put(3, 1, BODY)
        tool.await_stats(lent=1)
        closing = bob.begin.close(60000)
        eventually(lambda: tool.main.put(9, 1, BODY).status == "HV_CLOSED")  # it has begun
        assert not closing.done
        assert not putting.done
    putting.reply().ok()
    closing.reply().ok()
    assert servers[ONE].value("SELECT count(*) FROM shard0003.entities") == 1


def test_close_waits_for_connections_being_opened(make_tool, relayed_store, own_servers):
    config, between = relayed_store
    tool = make_tool(config, lanes=0, pool_max=5, pool_block_timeout="1min", operation_timeout="1min")
    threads = tool.threads(*(f"t{number}" for number in range(8)))
    between.stall()
    pending = [thread.begin.put(3, 1, BODY) for thread in threads]
    tool.await_stats(open=5, waiting=3)
    closing = tool.main.begin.close(-1)
    eventually(lambda: sum(one.done for one in pending) == 3)  # waiters fail
    assert not closing.done
    between.resume()
    statuses = [one.reply().status for one in pending]
    assert sorted(statuses) == ["HV_CLOSED"] * 3 + ["HV_OK"] * 5
    closing.reply().ok()
    eventually(lambda: own_servers[ONE].clients() == [])


def test_a_store_is_closed_while_its_threads_return_what_they_hold(make_tool, store):
    for _ in range(20):
        tool = make_tool(store)
        threads = tool.threads(*(f"t{number}" for number in range(4)))
        for thread in threads:
            thread.acquire(3).ok()
        closing = tool.main.begin.close(-1)
        returning = [thread.begin.release() for thread in threads]
        for one in [*returning, closing]:
            one.reply().ok()
