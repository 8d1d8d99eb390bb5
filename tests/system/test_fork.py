"""Stores across fork(): the child makes connections of its own and leaves its parent's alone."""

import pytest

from harness import eventually
from harness.marks import forks_beside_busy_threads
from harness.store_tool import make_tool, step  # noqa: F401

pytestmark = [pytest.mark.threads, pytest.mark.races]

ONE = 0
BODY = {"a": "b"}


def forked(thread, *commands, exit=False):
    """Do the commands in a child process of the tool and return their replies."""
    fork = thread.fork(list(commands), exit).ok()
    assert fork.exit_status == 0, f"the child ended with {fork.exit_status}"
    assert len(fork.child) == len(commands)
    return fork.child


@pytest.mark.parametrize("exit", [False, True], ids=["_exit", "exit"])
def test_a_child_works_with_its_own_connections_and_the_parents_go_on(
    make_tool, store, servers, exit
):
    # Memory to which only the other threads' stacks refer looks lost in the child.
    tool = make_tool(store, env={"LSAN_OPTIONS": "detect_leaks=0"} if exit else None)
    ann = tool.threads("ann")[0]
    key = ann.put(3, 1, BODY).ok().key
    pid = ann.acquire(3).ok().pid
    ann.release().ok()
    before, put, get, acquire, release, after = forked(
        ann,
        step("stats"),
        step("put", 3, 2, {"c": "d"}),
        step("get", key),
        step("acquire", 3),
        step("release"),
        step("stats"),
        exit=exit,
    )
    assert (before.open, before.opened, before.loans) == (0, 0, 0)
    assert get.ok().dict == BODY
    assert acquire.ok().pid != pid
    release.ok()
    assert (after.open, after.opened, after.lent) == (1, 1, 0)
    # The parent's connection was not affected.
    assert ann.get(put.ok().key).ok().dict == {"c": "d"}
    assert ann.acquire(3).ok().pid == pid
    assert ann.sql("SELECT 1").ok().value == "1"
    assert tool.stats().opened == 1
    eventually(lambda: [client[0] for client in servers[ONE].clients()] == [pid])


def test_a_child_may_close_the_store(make_tool, store, servers):
    tool = make_tool(store)
    ann = tool.threads("ann")[0]
    pid = ann.acquire(3).ok().pid
    ann.release().ok()
    ann.put(9, 1, BODY).ok()
    put, close = forked(ann, step("put", 3, 1, BODY), step("close", 0))
    put.ok()
    close.ok()
    assert ann.acquire(3).ok().pid == pid
    ann.sql("SELECT 1").ok()
    ann.put(9, 1, BODY).ok()
    assert tool.stats(1).opened == 1


def test_a_child_may_close_the_store_at_once(make_tool, store):
    tool = make_tool(store)
    ann = tool.threads("ann")[0]
    ann.acquire(3).ok()
    ann.put(3, 1, BODY).ok()
    forked(ann, step("close", 0))[0].ok()
    ann.sql("SELECT 1").ok()
    ann.release().ok()
    ann.put(3, 1, BODY).ok()
    assert tool.stats().opened == 2


@pytest.mark.parametrize("give_back", ["release", "discard"])
def test_a_child_returns_what_it_inherited_and_nobody_notices(make_tool, store, give_back):
    tool = make_tool(store, pool_max=1)
    ann = tool.threads("ann")[0]
    pid = ann.acquire(3).ok().pid
    ann.sql("BEGIN").ok()
    attempt, returned, again, acquire, stats = forked(
        ann,
        step("try_acquire", 3, conn="another"),
        step(give_back),
        step(give_back),
        step("acquire", 3),
        step("stats"),
    )
    attempt.gives("HV_TIMEOUT")
    returned.ok()
    again.gives("HV_INVALID")
    assert acquire.ok().pid != pid
    assert (stats.open, stats.lent, stats.opened) == (1, 1, 1)
    # Still in the same transaction.
    ann.sql("SAVEPOINT s").ok()
    ann.sql("COMMIT").ok()
    ann.release().ok()
    assert ann.acquire(3).ok().pid == pid


def test_a_child_has_every_slot_to_itself(make_tool, store):
    tool = make_tool(store, pool_max=1, pool_block_timeout="1min")
    ann, bob, cid = tool.threads("ann", "bob", "cid")
    ann.acquire(3).ok()
    waiting = bob.begin.acquire(3)
    tool.await_stats(waiting=1)
    before, put = forked(cid, step("stats"), step("put", 3, 1, BODY))
    assert (before.waiting, before.lent, before.open) == (0, 0, 0)
    put.ok()
    assert not waiting.done
    ann.release().ok()
    waiting.reply().ok()


def test_a_child_of_a_child_works_too(make_tool, store):
    tool = make_tool(store)
    ann = tool.threads("ann")[0]
    ann.put(3, 1, BODY).ok()
    inner = step("fork", [step("put", 3, 1, BODY), step("close", 0)])
    replies = ann.fork([step("put", 3, 1, BODY), inner, step("put", 3, 1, BODY)]).ok().child
    assert [reply.status for reply in replies] == ["HV_OK", "HV_OK", "HV_OK", None, "HV_OK"]
    assert replies[3].exit_status == 0
    ann.put(3, 1, BODY).ok()
    assert tool.stats().opened == 1


def test_a_child_tries_a_server_that_its_parent_found_down(make_tool, own_store, own_servers):
    tool = make_tool(own_store)
    ann = tool.threads("ann")[0]
    own_servers[ONE].server.stop()
    ann.put(3, 1, BODY).gives("HV_UNAVAILABLE")
    own_servers[ONE].server.start()
    forked(ann, step("put", 3, 1, BODY))[0].ok()


@forks_beside_busy_threads
def test_forks_while_other_threads_borrow_and_put(make_tool, store, servers):
    tool = make_tool(store, pool_max=4, pool_block_timeout="1min")
    forker, *others = tool.threads("forker", *(f"t{number}" for number in range(8)))
    rounds = []
    for number in range(60):
        for thread in others[:5]:
            rounds.append(thread.begin.put(3, number, BODY))
        for thread in others[5:]:
            rounds.append(thread.begin.acquire(3))
            rounds.append(thread.begin.sql("SELECT 1"))
            rounds.append(thread.begin.release())
    for number in range(15):
        put, get, close = forked(
            forker, step("put", 3, 7, BODY), step("get", 1 << 23 | 3 << 10), step("close", 0)
        )
        put.ok()
        get.gives("HV_NOT_FOUND")
        close.ok()
    for one in rounds:
        one.reply().ok()
    assert servers[ONE].value("SELECT count(*) FROM shard0003.entities") == 15 + 60 * 5
    now = tool.stats()
    assert now.opened <= 4 and now.fields["failed"] == 0
