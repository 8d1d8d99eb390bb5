"""The pool and servers that end connections, refuse them, fall silent, restart or are full."""

import contextlib
import time

import psycopg2
import pytest

from harness import eventually, hv, store_config
from harness.store_tool import make_tool, relayed_store  # noqa: F401

pytestmark = pytest.mark.threads

ONE, TWO = 0, 1
AT_ONCE = 5000  # milliseconds, on a busy machine: less than any time-out of these stores
PATIENT = {"pool_block_timeout": "1min"}
# Milliseconds that a wait may end after its deadline, on a busy machine: less than any time-out here,
# so that to wait for one twice is seen.
SLACK = 2500


def returned_pid(thread, shard=3):
    """The server process of the connection that would be lent next."""
    pid = thread.acquire(shard).ok().pid
    thread.release().ok()
    return pid


# ---- connections that end ----


def test_a_connection_that_the_server_ended_while_idle_is_replaced_unseen(
    make_tool, store, servers
):
    tool = make_tool(store)
    ann = tool.threads("ann")[0]
    for name in ("a", "b", "c"):
        ann.acquire(3, conn=name).ok()
    for name in ("a", "b", "c"):
        ann.release(name).ok()
    assert servers[ONE].terminate_clients() == 3
    key = ann.put(3, 1, {"a": "b"}).ok().key
    assert ann.get(key).ok().dict == {"a": "b"}
    now = tool.stats()
    assert (now.opened, now.closed) == (4, 3)
    assert now.opened - now.closed == now.open


def test_a_connection_reset_by_the_network_while_idle_is_replaced_unseen(make_tool, relayed_store):
    config, between = relayed_store
    tool = make_tool(config)
    ann = tool.threads("ann")[0]
    key = ann.put(3, 1, {"a": "b"}).ok().key
    assert between.cut() == 1
    assert ann.get(key).ok().dict == {"a": "b"}


def test_a_read_survives_the_loss_of_all_connections_that_were_just_used(make_tool, relayed_store):
    """They are not checked before they are lent to a read: only the first may be in vain."""
    config, between = relayed_store
    tool = make_tool(config)
    ann, bob = tool.threads("ann", "bob")
    key = ann.put(3, 1, {"a": "b"}).ok().key

    def read(*threads):
        """How many bytes of answers."""
        before = between.bytes["to_client"]
        for reading in [each.begin.get(key) for each in threads]:
            reading.reply().ok()
        return between.bytes["to_client"] - before

    read(ann)
    one = read(ann)
    for _ in range(10):
        eventually(lambda: read(ann, bob) == 2 * one and between.open == 2)
        between.end_all_in("to_client", 2 * one)
        read(ann, bob)
        eventually(lambda: between.open == 0)
        ann.get(key).ok()


def test_a_connection_with_unread_bytes_is_not_lent(make_tool, store, servers):
    tool = make_tool(store)
    ann = tool.threads("ann")[0]
    first = ann.acquire(3).ok().pid
    ann.sql("LISTEN news").ok()
    ann.release().ok()
    assert returned_pid(ann) == first
    servers[ONE].sql("NOTIFY news")
    eventually(lambda: returned_pid(ann) != first)


def test_a_borrowers_connection_that_broke_is_not_lent_again(make_tool, store, servers):
    tool = make_tool(store, pool_max=1)
    ann, bob = tool.threads("ann", "bob")
    ann.acquire(3).ok()
    servers[ONE].terminate_clients()
    waiting = bob.begin.acquire(3)
    tool.await_stats(waiting=1)
    assert ann.sql("SELECT 1").status == "PGRES_FATAL_ERROR"
    ann.release().ok()
    waiting.reply().ok()
    bob.sql("SELECT 1").ok()


def test_a_borrower_may_return_a_connection_without_having_seen_that_it_broke(
    make_tool, store, servers
):
    tool = make_tool(store, pool_max=1)
    ann, bob = tool.threads("ann", "bob")
    ann.acquire(3).ok()
    waiting = bob.begin.acquire(3)
    tool.await_stats(waiting=1)
    servers[ONE].terminate_clients()
    ann.release().ok()
    waiting.reply().ok()
    bob.sql("SELECT 1").ok()


# ---- servers that refuse ----


def test_attempts_that_fail_leave_every_slot_free(make_tool, relayed_store):
    config, between = relayed_store
    tool = make_tool(config, pool_max=2, **PATIENT)
    ann, bob = tool.threads("ann", "bob")
    between.refuse()
    for _ in range(20):
        refused = ann.acquire(3).gives("HV_UNAVAILABLE")
        assert refused.message == 'could not connect to server "one"'
        assert refused.server == "one" and refused.retriable
        assert refused.ms < AT_ONCE
    now = tool.stats()
    assert (now.open, now.lent, now.idle, now.opened) == (0, 0, 0, 0)
    assert now.fields["failed"] >= 1
    between.refuse(False)

    def works():
        return ann.acquire(3).status == "HV_OK"

    eventually(works)
    bob.acquire(3).ok()
    tool.await_stats(open=2, lent=2)


def test_while_a_server_is_down_callers_fail_at_once_and_it_is_left_alone(
    make_tool, relayed_store
):
    config, between = relayed_store
    tool = make_tool(config, **PATIENT)
    threads = tool.threads(*(f"t{number}" for number in range(16)))
    between.refuse()
    start = time.monotonic()
    pending = [thread.begin.put(3, 1, {}) for _ in range(25) for thread in threads]
    for one in pending:
        assert one.reply().gives("HV_UNAVAILABLE").ms < AT_ONCE
    took = time.monotonic() - start
    # Several of the first threads may find out together; after that there is one attempt each 200
    # ms.
    assert between.connections <= 16 + 1 + took / 0.2


def test_a_wrong_password_is_reported_with_its_sqlstate_and_not_worth_repeating(
    make_tool, tmp_path, servers
):
    wrong = {**servers[TWO].params(), "password": "wrong"}
    config = store_config(tmp_path / "c", {"two": (wrong, "1-9")})
    refused = make_tool(config).main.put(3, 1, {}).gives("HV_UNAVAILABLE")
    assert refused.sqlstate == "28P01"
    assert "password authentication failed" in refused.detail
    assert "wrong" not in str(refused.fields)
    assert refused.hint.startswith("Check user and password")
    assert refused.retriable is False


def test_a_missing_database_is_reported(make_tool, tmp_path, servers):
    missing = {**servers[ONE].params(), "dbname": "nowhere"}
    config = store_config(tmp_path / "c", {"one": (missing, "1-9")})
    refused = make_tool(config).main.put(3, 1, {}).gives("HV_UNAVAILABLE")
    assert refused.sqlstate == "3D000"
    assert refused.hint == 'Create the database, or correct "dbname".'


# ---- servers that are silent ----


def test_a_silent_server_is_given_up_at_the_deadline(make_tool, relayed_store):
    config, between = relayed_store
    tool = make_tool(config, pool_block_timeout="3s")
    between.stall()
    late = tool.main.put(3, 1, {}).gives("HV_TIMEOUT")
    assert late.message == 'could not connect to server "one" in time'
    assert 3000 <= late.ms < 3000 + SLACK
    assert late.retriable
    assert tool.stats().open == 0
    between.resume()
    eventually(lambda: tool.main.put(3, 1, {}).status == "HV_OK")


def test_a_server_that_falls_silent_after_the_login_is_given_up_at_the_deadline(
    make_tool, relayed_store
):
    config, between = relayed_store
    tool = make_tool(config, pool_block_timeout="3s")
    # After the login the store sets the time zone and looks at the layout: be silent from then on.
    before = between.bytes["to_client"]
    tool.main.acquire(3).ok()
    carried = between.bytes["to_client"] - before
    tool.main.release().ok()
    tool.main.disconnect()
    between.stall_in("to_client", carried - 10)
    late = tool.main.put(3, 1, {}).gives("HV_TIMEOUT")
    assert 3000 <= late.ms < 3000 + SLACK
    assert "operation_timeout" not in (late.hint or "")
    between.resume()


def test_a_silent_server_does_not_slow_the_others_down(make_tool, relayed_store):
    config, between = relayed_store
    tool = make_tool(config, pool_block_timeout="8s")
    ann, bob = tool.threads("ann", "bob")
    ann.put(9, 1, {}).ok()
    between.stall()
    hanging = bob.begin.put(3, 1, {})
    tool.await_stats(open=1)
    for one in [ann.begin.put(9, 1, {}) for _ in range(50)]:
        assert one.reply().ok().ms < AT_ONCE
    assert not hanging.done
    hanging.reply().gives("HV_TIMEOUT")

    def fails_at_once():
        """Once that is known, no caller waits for it; but 200 ms later one tries again."""
        return bob.put(3, 1, {}).gives("HV_TIMEOUT").ms < AT_ONCE

    eventually(fails_at_once)


def test_a_refusing_server_does_not_slow_the_others_down(make_tool, relayed_store):
    config, between = relayed_store
    tool = make_tool(config, **PATIENT)
    between.close()
    for _ in range(20):
        assert tool.main.put(3, 1, {}).gives("HV_UNAVAILABLE").ms < AT_ONCE
        assert tool.main.put(9, 1, {}).ok().ms < AT_ONCE


def test_a_connection_that_is_out_does_not_keep_others_waiting_for_a_server_that_is_back(
    make_tool, relayed_store
):
    config, between = relayed_store
    tool = make_tool(config, pool_max=3, **PATIENT)
    ann, bob = tool.threads("ann", "bob")
    ann.acquire(3).ok()

    def waited_and_got_it():
        before = tool.stats().waits
        between.refuse()
        failing, waiting = bob.begin.acquire(3), bob.begin.acquire(3)  # in the pause after a failure
        failing.reply().gives("HV_UNAVAILABLE")
        between.refuse(False)
        got = waiting.reply()
        if got.status == "HV_UNAVAILABLE":  # the server was not back when the pause ended
            return False
        assert got.ok().ms < 20_000
        bob.discard().ok()
        return tool.stats().waits > before  # and not only after the pause

    eventually(waited_and_got_it)


def test_waiters_learn_why_when_the_last_connection_is_gone_and_no_other_can_be_had(
    make_tool, relayed_store
):
    config, between = relayed_store
    tool = make_tool(config, pool_max=1, **PATIENT)
    ann, *others = tool.threads("ann", "bob", "cid", "dan")
    ann.acquire(3).ok()
    waiting = [other.begin.acquire(3) for other in others]
    tool.await_stats(waiting=3)
    between.refuse()
    between.cut()
    ann.release().ok()
    for one in waiting:
        assert one.reply().gives("HV_UNAVAILABLE").ms < 20_000


def test_a_caller_in_a_hurry_does_not_spoil_it_for_the_others(make_tool, relayed_store):
    """Its time ran out while it opened a connection: that proves nothing about the server."""
    config, between = relayed_store
    tool = make_tool(config, pool_max=1, pool_block_timeout="8s")
    ann, bob, cid = tool.threads("ann", "bob", "cid")
    ann.acquire(3).ok()
    ann.enter_pipeline()  # so that it cannot be kept
    between.delay = 0.05  # an open takes at least 0.6 s
    hurried = bob.begin.acquire(3)
    tool.await_stats(waiting=1)
    start = time.monotonic()
    eventually(lambda: time.monotonic() - start > 4)
    patient = cid.begin.acquire(3)
    tool.await_stats(waiting=2)
    eventually(lambda: time.monotonic() - start > 7.7)
    ann.release().ok()
    hurried.reply().gives("HV_TIMEOUT")
    patient.reply().ok()


# ---- restarts ----


def test_the_pool_survives_a_restart_and_works_within_a_second(make_tool, own_store, own_servers):
    tool = make_tool(own_store)
    threads = tool.threads("ann", "bob", "cid", "dan")
    key = threads[0].put(3, 1, {"a": "b"}).ok().key
    server = own_servers[ONE].server

    def restart():
        for one in [thread.begin.get(key) for thread in threads]:
            one.reply().ok()
        server.stop()
        threads[0].get(key).gives("HV_UNAVAILABLE")
        server.start()
        back = time.monotonic()
        eventually(lambda: threads[0].get(key).status == "HV_OK")
        for thread in threads[1:]:
            assert thread.get(key).ok().dict == {"a": "b"}
        return time.monotonic() - back

    # A busy machine may be slow about it once or twice.
    assert min(restart() for _ in range(5)) < 1


def test_a_server_that_was_killed_and_recovers_is_used_again(make_tool, own_store, own_servers):
    tool = make_tool(own_store)
    key = tool.main.put(3, 1, {"a": "b"}).ok().key
    server = own_servers[ONE].server
    server.kill9()
    server.start(wait=False)
    seen = set()

    def ready():
        seen.add(tool.main.get(key).status)
        return "HV_OK" in seen

    eventually(ready)
    assert seen <= {"HV_OK", "HV_UNAVAILABLE"}
    server.wait_ready()


# ---- full servers ----


@pytest.fixture
def small_server(make_server, tmp_path):
    """A server that takes five connections, its database, and a store on it."""
    server = make_server(
        "small",
        tcp=True,
        settings={
            "max_connections": "5",
            "superuser_reserved_connections": "0",
            "max_wal_senders": "0",
        },
    )
    database = server.create_database("test")
    config = store_config(tmp_path / "small.conf", {"small": (database, "1-9")})
    hv("init", config=config).ok()
    eventually(lambda: server.clients() == [])
    return database, config


@contextlib.contextmanager
def connections(database, count):
    """Take this many of the server's connections."""
    with contextlib.ExitStack() as stack:
        taken = []

        def have_all():
            with contextlib.suppress(psycopg2.OperationalError):  # one that was closed may linger
                taken.append(stack.enter_context(database.connect()))
            return len(taken) == count

        eventually(have_all)
        yield taken


def test_a_full_server_is_an_error_for_a_store_that_has_no_connection(make_tool, small_server):
    database, config = small_server
    tool = make_tool(config, **PATIENT)
    with connections(database, 5):
        full = tool.main.put(3, 1, {}).gives("HV_UNAVAILABLE")
        assert full.sqlstate == "53300"
        assert full.retriable
        assert full.ms < AT_ONCE
    eventually(lambda: tool.main.put(3, 1, {}).status == "HV_OK")


def test_on_a_full_server_callers_wait_for_one_of_the_stores_own(make_tool, small_server):
    database, config = small_server
    tool = make_tool(config, pool_max=10, pool_block_timeout="20s")
    ann, bob, cid = tool.threads("ann", "bob", "cid")
    ann.acquire(3, conn="a").ok()
    ann.acquire(3, conn="b").ok()
    with connections(database, 3):
        first = bob.begin.acquire(3)
        tool.await_stats(waiting=1)
        second = cid.begin.acquire(3)
        tool.await_stats(waiting=2)
        ann.release("a").ok()
        assert first.reply().ok().ms < 10000
        assert not second.done
        ann.release("b").ok()
        assert second.reply().ok().ms < 10000
    assert tool.stats().opened == 2


def test_on_a_server_that_was_full_callers_get_a_new_connection_when_there_is_room(
    make_tool, small_server
):
    database, config = small_server
    tool = make_tool(config, pool_max=10, pool_block_timeout="20s")
    ann, bob = tool.threads("ann", "bob")
    ann.acquire(3).ok()
    with connections(database, 4) as others:
        waiting = bob.begin.acquire(3)
        tool.await_stats(waiting=1)
        others[0].close()
        assert waiting.reply().ok().ms < 10000
    assert tool.stats().opened == 2


def test_a_wait_on_a_full_server_that_times_out_says_so(make_tool, small_server):
    database, config = small_server
    tool = make_tool(config, pool_max=10, pool_block_timeout="3s")
    ann, bob = tool.threads("ann", "bob")
    ann.acquire(3).ok()
    with connections(database, 4):
        late = bob.acquire(3).gives("HV_TIMEOUT")
        assert "too many clients" in late.detail
        assert "All 10" not in late.detail


def test_a_connection_returned_while_a_full_server_refuses_another_is_not_missed(
    make_tool, small_server, relay, tmp_path
):
    database, _ = small_server
    between = relay(database.server)
    config = store_config(tmp_path / "slow.conf", {"small": (between.params("test"), "1-9")})
    tool = make_tool(config, pool_max=10, pool_block_timeout="20s")
    ann, bob = tool.threads("ann", "bob")
    ann.acquire(3).ok()
    with connections(database, 4):
        between.delays["to_client"] = 0.5
        asking = bob.begin.acquire(3)
        tool.await_stats(open=2)
        ann.release().ok()  # while the server's refusal is on its way to bob
        tool.await_stats(idle=1)
        assert asking.reply().ok().ms < 10000
