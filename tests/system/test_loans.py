"""Loans that must begin at once, and loans whose connection must not be lent again."""

import threading

import pytest

from harness import eventually
from harness.store_tool import make_tool  # noqa: F401

pytestmark = [pytest.mark.threads, pytest.mark.races]

ONE = 0
BODY = {"a": "b"}
AT_ONCE = 4000  # milliseconds, on a busy machine; waits that are meant last 5 s


@pytest.fixture
def ann(make_tool, store):
    """A thread that borrows from a pool of one connection."""
    tool = make_tool(store, pool_max=1)
    thread = tool.threads("ann")[0]
    thread.tool = tool
    return thread


# ---- connections that are not to be lent again ----


def test_a_connection_that_its_borrower_discards_is_closed(ann, servers):
    first = ann.acquire(3).ok().pid
    ann.sql("CREATE TEMP TABLE left_behind (n int)").ok()
    ann.discard().ok()
    now = ann.tool.stats()
    assert (now.open, now.idle, now.lent, now.opened, now.closed) == (0, 0, 0, 1, 1)
    eventually(lambda: servers[ONE].clients() == [])
    assert ann.acquire(3).ok().pid != first
    assert ann.sql("SELECT to_regclass('left_behind')").value is None


@pytest.mark.parametrize(
    "leave",
    [
        lambda ann: ann.sql("COPY shard0003.entities FROM STDIN"),
        lambda ann: ann.sql("BEGIN; INSERT INTO shard0003.entities (type, body) VALUES (1, '')"),
        lambda ann: ann.enter_pipeline(),
        lambda ann: ann.send("SELECT pg_sleep(30)"),
    ],
    ids=["copy", "transaction", "pipeline", "busy"],
)
def test_to_discard_a_connection_waits_for_nothing(ann, servers, leave):
    ann.acquire(3).ok()
    leave(ann)
    assert ann.discard().ok().ms < AT_ONCE
    assert ann.tool.stats().open == 0
    ann.put(3, 1, BODY).ok()
    assert servers[ONE].value("SELECT count(*) FROM shard0003.entities") == 1


def test_who_waits_opens_another_connection_for_one_that_is_discarded(make_tool, store):
    tool = make_tool(store, pool_max=1, pool_block_timeout="1min")
    ann, bob = tool.threads("ann", "bob")
    first = ann.acquire(3).ok().pid
    waiting = bob.begin.acquire(3)
    tool.await_stats(waiting=1)
    ann.discard().ok()
    assert waiting.reply().ok().pid != first


def test_what_is_discarded_is_nobodys_any_more(ann):
    ann.acquire(3).ok()
    ann.discard().ok()
    ann.discard().gives("HV_INVALID")
    ann.release().gives("HV_INVALID")
    ann.acquire(3).ok()
    ann.release().ok()
    ann.discard().gives("HV_INVALID")
    assert ann.tool.stats().idle == 1


# ---- without waiting ----


def test_an_idle_connection_is_lent_without_waiting(ann):
    first = ann.acquire(3).ok().pid
    ann.release().ok()
    assert ann.try_acquire(3).ok().pid == first
    assert ann.sql("SELECT 1").ok().value == "1"
    ann.release().ok()
    now = ann.tool.stats()
    assert (now.opened, now.loans, now.waits, now.idle) == (1, 2, 0, 1)


def test_what_would_have_to_be_waited_for_is_not_lent(make_tool, store):
    tool = make_tool(store, pool_max=1, connector=True)
    ann, bob = tool.threads("ann", "bob")
    ann.try_acquire(3).gives("HV_TIMEOUT")  # it would have to be opened
    assert tool.main.connector().opened == 0
    ann.acquire(3).ok()
    late = bob.try_acquire(3).gives("HV_TIMEOUT")
    assert late.message is None and late.ms < AT_ONCE
    now = tool.stats()
    assert (now.lent, now.waits, now.timeouts) == (1, 0, 0)


def test_who_does_not_wait_does_not_overtake_who_does(make_tool, store):
    tool = make_tool(store, pool_max=1, pool_block_timeout="1min")
    ann, bob = tool.threads("ann", "bob")
    ann.acquire(3).ok()
    waiting = bob.begin.acquire(3)
    tool.await_stats(waiting=1)
    # All in one thread: it returns the connection and wants it again at once.
    ann.begin.release()
    ann.try_acquire(3).gives("HV_TIMEOUT")
    waiting.reply().ok()


def test_a_connection_that_is_gone_is_not_lent_without_waiting(ann, servers):
    ann.put(3, 1, BODY).ok()
    servers[ONE].terminate_clients()
    eventually(lambda: ann.try_acquire(3).status == "HV_TIMEOUT" or ann.release().ok() and False)
    assert ann.tool.stats().open == 1  # finding out what to do about it is not its job
    ann.acquire(3).ok()
    ann.sql("SELECT 1").ok()
    now = ann.tool.stats()
    assert (now.open, now.opened, now.closed) == (1, 2, 1)


def test_a_connection_past_its_time_is_not_lent_without_waiting(make_tool, store):
    tool = make_tool(store, idle_timeout="100ms", max_lifetime="1h")
    ann = tool.threads("ann")[0]
    first = ann.acquire(3).ok().pid
    ann.release().ok()
    expired = threading.Event()
    threading.Timer(0.3, expired.set).start()
    assert expired.wait(10)
    ann.try_acquire(3).gives("HV_TIMEOUT")
    assert ann.acquire(3).ok().pid != first


def test_there_is_nothing_to_try_where_there_is_no_shard(ann):
    assert ann.try_acquire(17).gives("HV_NO_SERVER").shard == 17
    ann.try_acquire(8192).gives("HV_INVALID")
