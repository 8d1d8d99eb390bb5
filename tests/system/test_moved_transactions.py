"""Transactions and borrowers whose shard has moved.

The shards are moved by hand, see harness/moved.py.
"""

import threading

import pytest

from harness import eventually
from harness.moved import Moving, moved
from harness.store_tool import make_tool, step  # noqa: F401
from transacting import run, sql

SHARD = 3


@pytest.fixture
def tool(make_tool, store):
    return make_tool(store, log=True, operation_timeout="5s")


def stored(database, shard=SHARD):
    return {
        key: int(n)
        for key, n in database.query(f"SELECT id, body -> 'n' FROM shard{shard:04}.entities")
    }


# ---- transactions ----


def test_a_function_is_called_again_on_the_new_server(tool, servers):
    one, two = servers
    key = tool.main.put(SHARD, 1, {"n": "1"}).ok().key
    Moving(SHARD, one, two).copy().arrive().switch()
    done = run(tool.main, step("get", key), step("put", SHARD, 1, {"n": "2"})).ok()
    assert done.calls == 2
    assert sorted(stored(two).values()) == [1, 2]


def test_so_it_is_if_its_own_statement_has_not_found_the_shard(tool, servers):
    one, two = servers
    moved(SHARD, one, two)
    done = run(tool.main, sql("INSERT INTO shard0003.entities (type, body) VALUES (1, 'n=>1')")).ok()
    assert done.calls == 2
    assert list(stored(two).values()) == [1]


def test_a_switch_waits_for_a_transaction_in_the_middle(tool, servers):
    one, two = servers
    tool.main.tx_begin(SHARD).ok()
    tool.main.put(SHARD, 1, {"n": "1"}).ok()
    moving = Moving(SHARD, one, two).copy().arrive()
    switching = threading.Thread(target=moving.switch)
    switching.start()
    eventually(lambda: one.value("SELECT count(*) FROM pg_locks WHERE NOT granted"))
    tool.main.put(SHARD, 1, {"n": "2"}).ok()
    tool.main.tx_commit().ok()
    switching.join()
    assert tool.main.where(SHARD).ok().server == 1
    assert sorted(stored(two).values()) == [1, 2]


@pytest.mark.parametrize("pool_max", [1, 4])
def test_in_steps_the_operation_fails_and_the_next_transaction_is_there(
    make_tool, store, servers, pool_max
):
    one, two = servers
    tool = make_tool(store, pool_max=pool_max)
    tool.main.tx_begin(SHARD).ok()
    Moving(SHARD, one, two).copy().arrive().switch()
    failed = tool.main.put(SHARD, 1, {"n": "1"}).gives("HV_MOVED")
    assert failed.message == 'shard 3 has moved to server "two"' and failed.retriable
    tool.main.tx_commit().gives("HV_MOVED")
    for _ in range(2):  # the shard is not published before the first of them
        tool.main.tx_begin(SHARD).ok()
        again = tool.main.put(SHARD, 1, {"n": "1"})
        status = tool.main.tx_commit().status
        if again.status == "HV_OK":
            break
        assert again.status == status == "HV_MOVED"
    assert status == "HV_OK"
    assert list(stored(two).values()) == [1]


def test_in_steps_while_the_shard_is_on_its_way_back(tool, servers):
    """The configuration is right again only when the move is over."""
    one, two = servers
    moved(SHARD, one, two)
    Moving(SHARD, two, one).copy().arrive()
    tool.main.tx_begin(SHARD).ok()
    failed = tool.main.put(SHARD, 1, {"n": "1"}).gives("HV_MOVED")
    assert failed.message == 'shard 3 has moved to server "two"'
    tool.main.tx_commit().gives("HV_MOVED")
    tool.main.tx_begin(SHARD).ok()
    tool.main.put(SHARD, 1, {"n": "1"}).ok()
    tool.main.tx_commit().ok()
    assert list(stored(two).values()) == [1]


def test_a_table_of_the_callers_own_that_is_missing_is_no_move(tool):
    failed = run(tool.main, sql("SELECT * FROM nowhere"))
    assert failed.status == "HV_REFUSED" and failed.sqlstate == "42P01" and failed.calls == 1


def test_a_transaction_on_a_shard_that_is_nowhere(tool, servers):
    servers[0].sql("DROP SCHEMA shard0003 CASCADE")
    failed = run(tool.main, step("put", SHARD, 1, {}))
    assert failed.status == "HV_NOT_INITIALIZED" and failed.calls == 1


@pytest.mark.parametrize("how", ["function", "steps"])
def test_one_that_others_publish_meanwhile_is_begun_again(tool, servers, how):
    """The transaction finds the shard missing on its new server, and is told that it is there."""
    one, two = servers
    key = tool.main.put(SHARD, 1, {"n": "1"}).ok().key
    moving = Moving(SHARD, one, two).copy().arrive().switch()
    ann, bob = tool.threads("ann", "bob")
    with two.connect() as publisher, publisher.cursor() as cursor:

        def await_waiting(count):
            waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
            eventually(lambda: two.value(waiting) == count)

        cursor.execute("BEGIN; LOCK TABLE hypervault.shard_locations IN ACCESS EXCLUSIVE MODE")
        first = ann.begin.get(key)  # by which the store knows where it has gone
        await_waiting(1)
        if how == "steps":
            bob.tx_begin(SHARD).ok()
            put = bob.begin.put(SHARD, 1, {"n": "2"})
        else:
            put = bob.begin.transaction(SHARD, [step("put", SHARD, 1, {"n": "2"})])
        await_waiting(2)
        cursor.execute("SELECT hypervault.publish_shard(%s, %s)", [SHARD, moving.generation])
        cursor.execute("COMMIT")
    first.reply().ok()
    if how == "steps":
        put.reply().gives("HV_MOVED")
        bob.tx_rollback()
    else:
        assert put.reply().ok().calls == 2
        assert sorted(stored(two).values()) == [1, 2]


def test_one_that_is_said_to_be_there_and_is_not(tool, servers):
    """The server's record is wrong: that is an error, and not for ever a reason to begin again."""
    one, two = servers
    moved(SHARD, one, two)
    assert tool.main.where(SHARD).ok().server == 1
    two.sql("DROP SCHEMA shard0003 CASCADE")
    failed = run(tool.main, step("put", SHARD, 1, {}))
    assert failed.status == "HV_NOT_INITIALIZED" and failed.calls == 1


# ---- borrowers ----


def test_a_borrower_asks_where_the_shard_is(tool, servers):
    one, two = servers
    assert tool.main.where(SHARD).ok().server == 0
    Moving(SHARD, one, two).copy().arrive().switch()
    assert tool.main.where(SHARD).ok().server == 1
    tool.main.acquire(SHARD).ok()
    tool.main.sql("INSERT INTO shard0003.entities (type, body) VALUES (1, 'n=>1')").ok()
    tool.main.release().ok()
    assert list(stored(two).values()) == [1]
    tool.main.where(8000).gives("HV_NO_SERVER")
