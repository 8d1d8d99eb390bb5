"""Planning and rebalancing from Python."""

import asyncio
import os
import signal
import threading
import time

import pytest

from harness import eventually, python
from harness.moving import (
    assert_nothing_left,
    fill,
    has_shard,
    leftovers,
    moving_servers,
    moving_store,
    shared_moving_servers,
)

python.provide()

from hv import aio
from hv.datastore import BalanceMove, BalanceServer, Datastore, DatastoreError

FIXTURES = (moving_servers, moving_store, shared_moving_servers)


@pytest.fixture
def db(moving_store):
    with Datastore.from_config(moving_store) as db:
        yield db


def moves_of(plan):
    return [(move.shard, move.source, move.target) for move in plan.moves]


DRAINED = [(shard, "two", "one") for shard in (5, 6, 7)]


def test_a_plan_has_moves_and_servers_and_changes_nothing(db, moving_servers):
    _, two = moving_servers
    fill(two, 6, 1000)
    plan = db.plan("rows", drain="two", weight={"one": 2.5})
    assert plan.by == "rows" and sorted(moves_of(plan)) == DRAINED
    assert all(isinstance(move, BalanceMove) for move in plan.moves)
    assert all(isinstance(server, BalanceServer) for server in plan.servers)
    first = plan.moves[0]
    assert first.shard == 6 and first.bytes > 0 and first.seconds > 0 and first.wal_bytes >= 0
    eventually(lambda: db.plan("rows", drain="two").moves[0].rows == 1000)  # it is not analysed yet
    one, two_ = plan.servers
    assert (one.server, one.weight, one.drained) == ("one", 2.5, False)
    assert (one.shards_before, one.shards_after) == (3, 6) and one.bytes_after > one.bytes_before
    assert (two_.server, two_.drained, two_.shards_after, two_.load_after) == ("two", True, 0, 0)
    assert has_shard(two, 6) and db.moves() == ()
    assert len(db.plan("count", drain=["two"], max_moves=1).moves) == 1
    assert db.plan("count").moves == ()


def test_the_moves_of_a_plan_are_made(db, moving_servers):
    one, two = moving_servers
    fill(two, 5, 200)
    key = db.put(5, 1, n="1")
    seen = []
    ended = db.rebalance("count", drain="two", jobs=2, keep_undo="1h", observer=seen.append)
    assert [(each.shard, each.source, each.target) for each in ended] == DRAINED
    assert {each.phase for each in ended} == {"kept"}
    assert ended[0].rows >= 201 and ended[0].pause_ms > 0
    assert {each.shard for each in seen} == {5, 6, 7}
    assert all(has_shard(one, shard) for shard in (5, 6, 7))
    assert db.get(key)["body"]["n"] == "1"
    assert db.rebalance("count", drain="two") == []
    for shard in (5, 6, 7):
        assert db.move_clean(shard).wait().phase == "done"
    assert_nothing_left(one, two)


def test_a_move_that_fails_does_not_keep_the_others_from_being_made(db, moving_servers):
    one, two = moving_servers
    two.sql("CREATE TABLE shard0006.log (line text)")  # without a key
    five, six, seven = db.rebalance("count", drain="two", return_errors=True)
    assert five.phase == seven.phase == "done"
    assert isinstance(six, DatastoreError) and "log" in str(six)
    assert has_shard(one, 5) and has_shard(two, 6) and has_shard(one, 7)
    with pytest.raises(DatastoreError, match="log") as raised:
        db.rebalance("count", drain="two", jobs=2)
    assert raised.value.results == [raised.value]
    assert_nothing_left(one, two)


def test_mistakes_are_errors_before_the_servers_are_asked(moving_store, moving_servers):
    for wrong, text in (
        (dict(by="zzz"), 'option "by": "zzz"'),
        (dict(weight={"one": -1}), 'option "weight": "one=-1"'),
        (dict(weight={"one": "x"}), 'option "weight": "one=x"'),
        (dict(max_moves=-1), 'option "max_moves": "-1"'),
        (dict(drain="onne"), 'no server "onne"'),
        (dict(drain=["one", "two"]), "no server is left"),
        (dict(drain="two\0"), "NUL"),
    ):
        with Datastore.from_config(moving_store) as db:
            for call in (db.plan, db.rebalance):
                with pytest.raises(DatastoreError) as raised:
                    call(**wrong)
                assert raised.value.status == "HV_INVALID" and text in str(raised.value), wrong
    with Datastore.from_config(moving_store) as db:
        for wrong, text in (
            (dict(keep_undo="soon"), "keep_undo"),
            (dict(keep_undo="1h\0"), "NUL"),
            (dict(no_such=1), "no_such"),
            (dict(jobs=0), "jobs"),
            (dict(jobs=65), "1 to 64"),
        ):
            with pytest.raises(DatastoreError) as raised:
                db.rebalance("count", drain="two", **wrong)
            assert raised.value.status == "HV_INVALID" and text in str(raised.value), wrong
        for wrong in (dict(jobs="2"), dict(jobs=True), dict(weight="one=2"), dict(drain=5)):
            with pytest.raises(TypeError):
                db.rebalance("count", **wrong)
        assert db.moves() == ()
    assert_nothing_left(*moving_servers)


class HeldUp:
    """A transaction on a server, which the slot of a move waits for."""

    def __init__(self, database):
        self._database = database

    def __enter__(self):
        self._context = self._database.connect()
        self._cursor = self._context.__enter__().cursor()
        self._cursor.execute("BEGIN; SELECT pg_current_xact_id()")

    def __exit__(self, *_):
        self._cursor.close()
        self._context.__exit__(None, None, None)


def slots(database):
    return [name for name in leftovers(database) if name.startswith("slot ")]


def take_back(db, *databases):
    for move in db.moves():
        assert not move.running, move
        assert db.move_abort(move.shard).wait().phase == "aborted"
    assert_nothing_left(*databases)


@pytest.mark.parametrize("jobs", [1, 2])
def test_ctrl_c_leaves_the_moves_in_the_journals(db, moving_servers, jobs):
    one, two = moving_servers

    def interrupt():
        eventually(lambda: len(slots(two)) == jobs)
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    other = threading.Thread(target=interrupt)
    try:
        other.start()
        with HeldUp(two):
            with pytest.raises(KeyboardInterrupt):
                db.rebalance("count", drain="two", jobs=jobs)
    finally:
        signal.signal(signal.SIGINT, before)
        other.join()
    assert len(db.moves()) == jobs
    take_back(db, one, two)


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_observers_error_ends_the_moves_and_is_no_result_of_one(db, moving_servers, jobs):
    one, two = moving_servers

    def observe(_):
        db.put(4711, 1, n="1")  # there is no such shard

    with HeldUp(two), pytest.raises(DatastoreError, match="4711") as raised:
        db.rebalance("count", drain="two", jobs=jobs, observer=observe)
    assert not hasattr(raised.value, "results")
    take_back(db, one, two)


def test_event_loops_plan_and_rebalance(db, moving_servers):
    one, two = moving_servers

    async def run():
        seen = []
        async with aio.Session(db) as session:
            plan = await session.plan("count", drain="two", max_moves=2)
            assert moves_of(plan) == DRAINED[:2]
            ended = await session.rebalance("count", drain="two", jobs=3, observer=seen.append)
            assert [each.phase for each in ended] == ["done"] * 3 and seen
            with pytest.raises(DatastoreError, match="no_such"):
                await session.rebalance("count", no_such=1)
            two.sql("CREATE SCHEMA shard0001")
            errors = await session.rebalance("count", drain="one", max_moves=1, return_errors=True)
            assert [type(error) for error in errors] == [DatastoreError]
            two.sql("DROP SCHEMA shard0001")

            def fail(_):
                raise ZeroDivisionError

            with HeldUp(one), pytest.raises(ZeroDivisionError):
                await session.rebalance("count", drain="one", max_moves=1, observer=fail)

    asyncio.run(run())
    take_back(db, one, two)


def test_a_cancelled_rebalance_leaves_its_moves_in_the_journals(db, moving_servers):
    one, two = moving_servers

    async def run():
        async with aio.Session(db) as session:
            task = asyncio.ensure_future(session.rebalance("count", drain="two", jobs=2))
            while len(slots(two)) < 2:
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    with HeldUp(two):
        asyncio.run(run())
    assert len(db.moves()) == 2
    take_back(db, one, two)


SLOW = """
    CREATE FUNCTION shard0003.slow(n bigint) RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS $$
    BEGIN
        IF current_setting('port') = '{port}' THEN PERFORM pg_sleep(60); END IF;
        RETURN n;
    END $$;
    CREATE INDEX slow ON shard0003.entities (shard0003.slow(id))
"""


def test_a_cancelled_move_does_not_wait_for_an_index(db, moving_servers):
    one, two = moving_servers
    db.put(3, 1, n="1")
    one.sql(SLOW.format(port=two.value("SHOW port")))
    sleepers = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"

    async def run():
        async with aio.Session(db) as session:
            task = asyncio.ensure_future(session.move(3, "two"))
            while two.value(sleepers) == 0 and not task.done():
                await asyncio.sleep(0.01)
            since = time.monotonic()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert time.monotonic() - since < 20

    asyncio.run(run())
    eventually(lambda: two.value(sleepers) == 0)
    take_back(db, one, two)


def test_a_move_without_a_server_and_one_that_is_closed(db):
    with pytest.raises(DatastoreError, match="no server None"):
        db.move(3, None)
    with pytest.raises(DatastoreError, match="three") as raised:
        db.move(3, "three")
    assert raised.value.hint == "The servers are 'one' and 'two'."
    move = db.move(3, "two")
    assert repr(move).startswith("<Move: shard 3 ")
    move.close()
    assert repr(move) == "<Move>"
