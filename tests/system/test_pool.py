"""The pool of one server: the number of connections, who gets them and when, and how long callers
wait."""

import re
import threading
import time

import pytest

from harness import eventually
from harness.store_tool import make_tool, relayed_store  # noqa: F401

pytestmark = [pytest.mark.threads, pytest.mark.races]

ONE, TWO = 0, 1  # the store's servers; shards 1-8 and 9-16
# Milliseconds that a wait may end after its deadline, on a busy machine: less than any time-out here,
# so that to wait for one twice is seen.
SLACK = 2500


# ---- how many ----


def test_connections_are_opened_only_when_needed(make_tool, store, servers):
    tool = make_tool(store)
    assert servers[ONE].clients() == []
    assert tool.main.put(3, 1, {"a": "b"}).ok().key
    assert [client[2] for client in servers[ONE].clients()] == ["hypervault"]
    assert servers[TWO].clients() == []
    assert tool.stats(ONE).opened == 1
    assert tool.stats(TWO).opened == 0


def test_one_connection_serves_one_thread_after_another(make_tool, store):
    tool = make_tool(store)
    for thread in tool.threads("ann", "bob", "cid") * 5:
        thread.put(3, 1, {}).ok()
    assert tool.stats().opened == 1


def test_no_more_than_pool_max_are_lent_and_the_rest_wait(make_tool, store, servers):
    tool = make_tool(store, pool_max=3, pool_block_timeout="1min")
    borrowers = tool.threads(*(f"t{number}" for number in range(16)))
    pending = {borrower: borrower.begin.acquire(3) for borrower in borrowers}
    tool.await_stats(lent=3, waiting=13, open=3, idle=0)
    assert len(servers[ONE].clients()) == 3

    def has_one():
        return next((one for one in pending if pending[one].done), None)

    while pending:
        borrower = eventually(has_one)
        pending.pop(borrower).reply().ok()
        borrower.release().ok()
    tool.await_stats(lent=0, waiting=0, open=3, idle=3, opened=3, loans=16, waits=13)


def test_no_more_than_pool_max_exist_under_traffic(make_tool, store, servers):
    tool = make_tool(store, pool_max=3, pool_block_timeout="1min")
    threads = tool.threads(*(f"t{number}" for number in range(16)))
    pending = [thread.begin.put(3, 1, {"n": str(n)}) for n in range(50) for thread in threads]
    most = 0
    while not all(one.done for one in pending):
        most = max(most, len(servers[ONE].clients()))
    for one in pending:
        one.reply().ok()
    most = max(most, len(servers[ONE].clients()))  # they may all have been done at the first look
    assert 1 <= most <= 3
    assert tool.stats().opened <= 3


def test_another_connection_is_opened_only_after_the_old_one_is_closed(make_tool, store):
    tool = make_tool(store, connector=True, pool_max=4, pool_block_timeout="1min")
    ann, bob, cid = tool.threads("ann", "bob", "cid")
    for name in ("a", "b", "c"):
        ann.acquire(3, conn=name).ok()
    ann.acquire(3).ok()
    ann.enter_pipeline()  # so that it cannot be kept
    waiting = bob.begin.acquire(3)
    tool.await_stats(waiting=1)
    tool.main.hold("disconnect", True)
    releasing = ann.begin.release()
    eventually(lambda: tool.main.hold("disconnect", True).waiting == 1)
    # Time enough for an open: as long as four of them take.
    for name in ("d", "e", "f", "g"):
        cid.acquire(9, conn=name).ok()
    assert not waiting.done
    assert tool.stats().open == 4
    tool.main.hold("disconnect", False)
    releasing.reply().ok()
    waiting.reply().ok()


# ---- which one ----


def test_the_connection_returned_last_is_lent_first(make_tool, store):
    tool = make_tool(store)
    ann = tool.threads("ann")[0]
    pids = {name: ann.acquire(3, conn=name).ok().pid for name in ("a", "b", "c")}
    for name in ("b", "a", "c"):
        ann.release(name).ok()
    lent = [ann.acquire(3, conn=name).ok().pid for name in ("x", "y", "z")]
    assert lent == [pids["c"], pids["a"], pids["b"]]


# ---- waiting ----


def test_waiters_are_served_in_the_order_they_came(make_tool, store):
    tool = make_tool(store, pool_max=1, pool_block_timeout="1min")
    ann = tool.threads("ann")[0]
    ann.acquire(3).ok()
    waiters = tool.threads("bob", "cid", "dan", "eve", "fay")
    pending = []
    for waiter in waiters:
        pending.append(waiter.begin.acquire(3))
        tool.await_stats(waiting=len(pending))
    holder = ann
    for number, waiter in enumerate(waiters):
        assert not any(one.done for one in pending[number:])
        holder.release().ok()
        pending[number].reply().ok()
        holder = waiter


def test_a_newcomer_does_not_overtake_those_who_wait(make_tool, store):
    tool = make_tool(store, pool_max=1, pool_block_timeout="1min")
    ann, bob = tool.threads("ann", "bob")
    ann.acquire(3).ok()
    waiting = bob.begin.acquire(3)
    tool.await_stats(waiting=1)
    # All in one thread: it returns the connection and wants it again at once.
    returned, again = ann.begin.release(), ann.begin.acquire(3)
    returned.reply().ok()
    waiting.reply().ok()
    tool.await_stats(waiting=1)
    assert not again.done
    bob.release().ok()
    again.reply().ok()


def test_each_waiter_has_its_own_deadline(make_tool, store):
    tool = make_tool(store, pool_max=1, pool_block_timeout="6s")
    ann, bob, cid, dan = tool.threads("ann", "bob", "cid", "dan")
    ann.acquire(3).ok()
    first = bob.begin.acquire(3)
    tool.await_stats(waiting=1)
    reached = threading.Event()
    threading.Timer(3, reached.set).start()
    assert reached.wait(30)
    second = cid.begin.acquire(3)
    tool.await_stats(waiting=2)
    assert 6000 <= first.reply().gives("HV_TIMEOUT").ms < 6000 + SLACK
    assert not second.done
    assert 6000 <= second.reply().gives("HV_TIMEOUT").ms < 6000 + SLACK
    # Their giving up leaves no trace in the line.
    third = dan.begin.acquire(3)
    tool.await_stats(waiting=1, timeouts=2)
    ann.release().ok()
    third.reply().ok()


def test_a_time_out_says_how_long_for_what_and_what_to_do(make_tool, store):
    tool = make_tool(store, pool_max=2, pool_block_timeout="3s")
    ann, bob = tool.threads("ann", "bob")
    ann.acquire(3, conn="a").ok()
    ann.acquire(3, conn="b").ok()
    late = bob.put(3, 1, {}).gives("HV_TIMEOUT")
    assert late.message == 'no connection to server "one" came free in time'
    assert re.fullmatch(r"All 2 connections were in use for [345]\d\d\d ms\.", late.detail)
    assert late.hint == (
        'Return connections sooner, or raise "pool_max" or "pool_block_timeout".'
    )
    assert (late.server, late.shard, late.sqlstate) == ("one", 3, None)
    assert late.retriable and not late.outcome_unknown
    assert 3000 <= late.ms < 3000 + SLACK


def test_an_operation_waits_no_longer_than_its_own_time_out(make_tool, store):
    tool = make_tool(store, pool_max=1, pool_block_timeout="1min", operation_timeout="100ms")
    ann, bob = tool.threads("ann", "bob")
    ann.acquire(3).ok()
    assert 100 <= bob.put(3, 1, {}).gives("HV_TIMEOUT").ms < 5000
    assert 100 <= bob.get(1 << 23 | 3 << 10).gives("HV_TIMEOUT").ms < 5000


def test_servers_have_pools_of_their_own(make_tool, store):
    tool = make_tool(store, pool_max=1, pool_block_timeout="3s")
    ann, bob = tool.threads("ann", "bob")
    ann.acquire(3).ok()
    bob.put(3, 1, {}).gives("HV_TIMEOUT")
    bob.put(9, 1, {}).ok()


# ---- how long they live ----


def test_a_connection_past_its_lifetime_is_replaced(make_tool, store):
    tool = make_tool(store, max_lifetime="300ms")
    ann = tool.threads("ann")[0]
    first = ann.acquire(3).ok().pid
    ann.release().ok()

    def another():
        pid = ann.acquire(3).ok().pid
        ann.release().ok()
        return pid != first

    eventually(another)
    now = tool.stats()
    assert now.opened == now.closed + now.open >= 2


def test_a_connection_lent_past_its_lifetime_is_closed_when_it_is_returned(make_tool, store):
    tool = make_tool(store, max_lifetime="100ms")
    ann = tool.threads("ann")[0]
    ann.acquire(3).ok()
    ann.sql("SELECT pg_sleep(0.2)").ok()
    ann.release().ok()
    now = tool.stats()
    assert (now.closed, now.open, now.idle) == (1, 0, 0)


def test_connections_that_were_opened_at_once_do_not_end_at_once(make_tool, store, servers):
    """Each lives for nine tenths of max_lifetime to all of it."""
    count, longest = 20, 10
    tool = make_tool(store, max_lifetime=f"{longest}s", pool_max=count)
    names = [f"connection {number}" for number in range(count)]

    def use_all():
        """Every connection at once; returns {pid: a moment at which it was not there yet}."""
        pids = {}
        for name in names:
            before = time.monotonic()
            tool.main.acquire(3, conn=name).ok()
            pids[tool.main.sql("SELECT pg_backend_pid()", name).ok().value] = before
        for name in names:
            tool.main.release(name).ok()
        return pids

    born, ages, rounds = use_all(), {}, set()
    while len(ages) < count:
        now_there = use_all()
        for pid in born.keys() - now_there.keys() - ages.keys():
            ages[pid] = time.monotonic() - born[pid]
            rounds.add(time.monotonic() // 0.02)
    assert 0.9 * longest <= min(ages.values()) < longest
    assert len(rounds) > 2, ages


def test_an_unused_connection_is_closed_after_idle_timeout(make_tool, store, servers):
    tool = make_tool(store, idle_timeout="1s")
    ann = tool.threads("ann")[0]
    for name in ("a", "b", "c"):
        ann.acquire(3, conn=name).ok()
    for name in ("a", "b", "c"):
        ann.release(name).ok()

    def only_the_used_one_is_left():
        ann.put(3, 1, {}).ok()
        return tool.stats().open == 1

    eventually(only_the_used_one_is_left)
    now = tool.stats()
    assert now.closed >= 2  # more, if it was not used for a second either
    assert now.opened == now.closed + 1
    eventually(lambda: len(servers[ONE].clients()) == 1)


def test_the_only_connection_allowed_is_replaced_when_it_has_expired(make_tool, store):
    tool = make_tool(store, pool_max=1, idle_timeout="50ms", pool_block_timeout="20s")
    ann = tool.threads("ann")[0]
    first = ann.acquire(3).ok().pid
    ann.release().ok()
    expired = threading.Event()
    threading.Timer(0.2, expired.set).start()
    assert expired.wait(10)
    again = ann.acquire(3).ok()
    assert again.pid != first
    assert again.ms < 15_000  # it did not wait for a connection


# ---- numbers ----


def test_the_statistics_add_up(make_tool, store):
    tool = make_tool(store, pool_max=2, pool_block_timeout="3s")
    ann, bob = tool.threads("ann", "bob")
    ann.acquire(3, conn="a").ok()
    ann.acquire(3, conn="b").ok()
    bob.acquire(3).gives("HV_TIMEOUT")
    ann.release("a").ok()
    bob.put(3, 1, {}).ok()
    ann.enter_pipeline("b")
    ann.release("b").ok()
    now = tool.stats()
    assert (now.open, now.idle, now.lent, now.waiting) == (1, 1, 0, 0)
    assert (now.opened, now.closed, now.failed) == (2, 1, 0)
    assert (now.loans, now.waits, now.timeouts) == (3, 1, 1)
    assert 3_000_000 <= now.wait_us < (3000 + SLACK) * 1000
    assert now.opened - now.closed == now.open
    assert tool.stats(7).open == -1


def test_disconnect_closes_idle_connections_now_and_lent_ones_later(make_tool, store, servers):
    tool = make_tool(store)
    ann = tool.threads("ann")[0]
    ann.acquire(3, conn="a").ok()
    ann.acquire(3, conn="b").ok()
    ann.release("b").ok()
    tool.main.disconnect()
    eventually(lambda: len(servers[ONE].clients()) == 1)
    ann.sql("SELECT 1", "a").ok()
    ann.release("a").ok()
    eventually(lambda: servers[ONE].clients() == [])
    now = tool.stats()
    assert (now.open, now.opened, now.closed) == (0, 2, 2)
    ann.put(3, 1, {}).ok()


def test_disconnect_counts_also_for_a_connection_being_opened(make_tool, relayed_store):
    config, between = relayed_store
    tool = make_tool(config, pool_block_timeout="1min")
    ann = tool.threads("ann")[0]
    between.stall()
    opening = ann.begin.acquire(3)
    tool.await_stats(open=1)
    tool.main.disconnect()
    between.resume()
    opening.reply().ok()
    ann.release().ok()
    assert tool.stats().open == 0


def test_reinstantiate_starts_the_numbers_again(make_tool, store):
    tool = make_tool(store)
    ann = tool.threads("ann")[0]
    ann.put(3, 1, {}).ok()
    tool.main.reinstantiate()
    now = tool.stats()
    assert all(getattr(now, name) == 0 for name in ("open", "opened", "closed", "loans", "waits"))
    ann.put(3, 1, {}).ok()
    assert tool.stats().opened == 1

