"""Following what is put, in Python: all shards in the order of their keys, and nothing missed."""

import asyncio
import datetime
import itertools
import os
import threading
import time

import psycopg2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import finding
from finding import in_thread, lent
from harness import eventually, python
from harness.python import connections, databases, db, own_connections  # noqa: F401
from test_python_aio import run, until

python.provide()

from hv import aio
from hv.datastore import Datastore, DatastoreError, PoolError
from hv.entity import Key

LONG = 60  # seconds; a few at most unless the machine is busy


def put_first(db):
    """An entity whose key is smaller than all later ones, even those of the same millisecond."""
    return db.put(1, 1)


def follow(db, **how):
    """A feed of what is put from now on."""
    return db.feed(put_first(db), follow=True, delay=0, **how)


class OpenPut:
    """A transaction that has put an entity: it stays open until the `with` block ends."""

    def __init__(self, database, shard):
        self._database = database
        self._table = f"shard{shard:04d}.entities"

    def __enter__(self):
        self._connection = psycopg2.connect(**self._database.params())
        cursor = self._connection.cursor()
        cursor.execute(f"INSERT INTO {self._table} (type, body) VALUES (1, '') RETURNING id")
        self.key = cursor.fetchone()[0]
        self.process = self._connection.info.backend_pid
        return self

    def __exit__(self, *exc):
        self._connection.commit()
        self._connection.close()


# ---- to the present ----


@settings(
    max_examples=int(os.environ.get("HV_TEST_EXAMPLES", "40")),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.data())
def test_without_follow_it_is_a_find_of_all_that_was_put(db, data):  # noqa: F811
    model = finding.Model()
    put = st.tuples(st.integers(1, 16), st.sampled_from(finding.KINDS), finding.bodies)
    start = int(put_first(db))
    model.put(db, data.draw(st.lists(put, min_size=1, max_size=30), "entities"))
    which = data.draw(finding.selections(sorted(model.entities)), "selection")
    which = {name: which[name] for name in which if name in ("shards", "kind", "exists")}
    feed = db.feed(Key(start), delay=0, **which)
    assert [list(row) for row in feed] == model.find(**finding.for_model(which))
    assert feed.ended and feed.position > max(model.entities)
    assert feed.holder is None
    assert list(db.feed(from_key=feed.position, delay=0)) == []


def test_a_datetime_is_included_and_a_key_is_not(db):  # noqa: F811
    keys = [db.put(shard, 1) for shard in (3, 12, 5)]
    since = keys[0].created
    expected = [int(key) for key in sorted(keys)]

    def ids(*args, **how):
        return [row["id"] for row in db.feed(*args, delay=0, **how)]

    assert ids(since)[-3:] == expected
    assert ids(since.replace(tzinfo=datetime.timezone.utc))[-3:] == expected
    for start in (min(keys), int(min(keys))):
        assert ids(start) == expected[1:]
        assert ids(from_key=start) == expected
    assert ids(since, limit=1) == expected[:1]
    assert ids(min(keys), shards=12) == [int(keys[1])][: keys[1] > min(keys)]


@pytest.mark.parametrize("start", ["2020-01-01", 1.5, datetime.date(2020, 1, 1)])
def test_a_start_of_another_type_is_refused(db, start):  # noqa: F811
    with pytest.raises(TypeError):
        db.feed(start)


@pytest.mark.parametrize("how", [dict(start=0), dict(delay=-1), dict(delay=float("inf"))])
def test_a_start_or_delay_that_cannot_be_is_refused(db, how):  # noqa: F811
    with pytest.raises(DatastoreError) as caught:
        db.feed(**how)
    assert caught.value.status == "HV_INVALID"
    assert db.pool_stats()["opened"] == 0


# ---- on and on ----


def test_it_returns_what_threads_put_in_the_order_of_keys(db):  # noqa: F811
    feed = follow(db)
    put = []

    def work(number):
        for n in range(100):
            put.append(int(db.put(1 + (number + n) % 16, 1, n=n)))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for each in threads:
        each.start()
    found = [row["id"] for row in itertools.islice(feed, 400)]
    for each in threads:
        each.join()
    assert found == sorted(put)
    assert feed.position > found[-1] or feed.poll() is None
    feed.close()


def test_it_waits_for_a_transaction_that_is_open_and_names_it(db, databases):  # noqa: F811
    feed = follow(db)
    with OpenPut(databases[1], 12) as late:
        early = [int(db.put(3, 1)), int(db.put(12, 1))]
        came, thread = in_thread(lambda: [row["id"] for row in itertools.islice(feed, 3)])
        eventually(lambda: feed.holder is not None, timeout=LONG)
        assert came == []
        holder = feed.holder
        assert isinstance(holder, DatastoreError) and holder.server == "server 2"
        assert str(late.process) in str(holder)
        assert feed.behind >= 1
        assert feed.position <= late.key
    thread.join(LONG)
    assert came == [sorted([late.key, *early])]
    feed.close()


def test_it_goes_on_exactly_where_it_ended(db):  # noqa: F811
    feed = follow(db)
    put, found = [], []
    for round in range(10):
        put += [int(db.put(1 + n % 16, 1)) for n in range(5)]
        found += [next(feed)["id"] for _ in range(3 if round % 2 else 5)]
        by_position = round % 3 == 0
        if by_position:  # what it has at hand is not below its position
            start = {"from_key": feed.position or found[-1] + 1}
            assert start["from_key"] > found[-1]
        else:
            start = {"start": found[-1]}
        feed.close()
        feed = db.feed(follow=True, delay=0, **start)
    found += [next(feed)["id"] for _ in range(len(put) - len(found))]
    feed.close()
    assert found == sorted(put)


def test_its_position_advances_while_nothing_is_put(db):  # noqa: F811
    feed = follow(db)
    seen = set()

    def advances():
        assert feed.poll(0.05) is None
        seen.add(feed.position)
        return len(seen) > 5

    eventually(advances, timeout=LONG)
    assert sorted(seen)[-1] <= int(db.put(3, 1))
    feed.close()


def test_another_thread_closes_it(db):  # noqa: F811
    feed = follow(db)
    came, thread = in_thread(lambda: next(feed))
    eventually(lambda: feed.position > 0)
    feed.close()
    thread.join(LONG)
    assert isinstance(came[0], PoolError) and came[0].status == "HV_CLOSED"
    eventually(lambda: lent(db) == 0)


def test_the_store_is_closed_under_it(connections):  # noqa: F811
    db = Datastore(connections)
    feed = follow(db)
    came, thread = in_thread(lambda: next(feed))
    eventually(lambda: feed.position > 0)
    since = time.monotonic()
    db.close()
    assert time.monotonic() - since < 5
    thread.join(LONG)
    assert isinstance(came[0], PoolError) and came[0].status == "HV_CLOSED"


def test_with_one_connection_for_each_server_the_loop_can_get_and_put(connections):  # noqa: F811
    with Datastore(connections, pool_max=1, pool_block_timeout=LONG) as db:
        feed = follow(db)
        keys = [db.put(3, 1, n=0)]
        for row in feed:
            assert db.get(Key(row["id"])) == row
            if len(keys) == 50:
                break
            keys.append(db.put(1 + len(keys) % 16, 1, n=len(keys)))
        assert row["id"] == int(keys[-1])
        del feed


def test_a_server_that_is_down_holds_it(own_servers, own_connections):  # noqa: F811
    with Datastore(own_connections) as db:
        feed = follow(db)
        put = [int(db.put(12, 1))]
        assert next(feed)["id"] == put[0]
        own_servers[0].server.stop("immediate")
        put.append(int(db.put(12, 1)))

        def is_held():
            assert feed.poll(0.05) is None
            return feed.holder is not None and feed.holder.server == "server 1"

        eventually(is_held, timeout=LONG)
        skipping = db.feed(put[0], follow=True, delay=0, skip="server 1")
        assert next(skipping)["id"] == put[1]
        assert [error.server for error in skipping.missing] == ["server 1"]
        skipping.close()
        own_servers[0].server.start()
        assert next(feed)["id"] == put[1]
        feed.close()


# ---- signals and forks ----


def test_ctrl_c_interrupts_it_and_it_goes_on(connections):  # noqa: F811
    code = """
db = Datastore(connections)
feed = db.feed(db.put(1, 1), follow=True, delay=0)
for number in range(3):
    say("waiting")
    try:
        next(feed)
    except KeyboardInterrupt:
        say("interrupted")
key = db.put(12, 1)
say(next(feed)["id"] == int(key))
feed.close()
db.close()
"""
    with python.Process(code, connections) as process:
        for _ in range(3):
            assert process.read() == "waiting"
            process.sleeps()
            since = time.monotonic()
            process.interrupt()
            assert process.read() == "interrupted"
            assert time.monotonic() - since < 3
        assert process.read() == "True"
        assert process.end() == (0, "", "")


def test_a_child_can_only_close_its_parents_feed(connections):  # noqa: F811
    result = python.run(
        """
db = Datastore(connections)
feed, rows = db.feed(db.put(1, 1), follow=True, delay=0), db.find()
feed.poll(0.1)
next(rows)
child = os.fork()
if child == 0:
    for each in (feed, rows):
        try:
            next(each)
        except DatastoreError as error:
            assert "another process" in error.message, error
        else:
            say("it goes on in the child")
    feed.close()
    del rows
    db.get(db.put(3, 1))
    say("child is well")
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
key = db.put(12, 1)
assert [next(feed)["type"], next(feed)["id"]] == [1, int(key)]
assert len(list(rows)) >= 0
del feed, rows
db.close()
say("parent is well")
""",
        connections,
    )
    assert (result.code, result.err) == (0, ""), str(result)
    assert result.lines == ["child is well", "parent is well"]


# ---- event loops ----


def test_tasks_put_and_another_follows(db):  # noqa: F811
    async def work():
        async with aio.Session(db) as session:
            feed = session.feed(await session.put(1, 1), follow=True, delay=0)

            async def read():
                found = []
                async for row in feed:
                    found.append(row["id"])
                    if len(found) == 200:
                        return found

            reading = asyncio.ensure_future(read())
            put = await asyncio.gather(*(session.put(1 + n % 16, 1, n=n) for n in range(200)))
            assert await reading == sorted(int(key) for key in put)
            assert feed.position > 0
            feed.close()

    run(work)
    eventually(lambda: lent(db) == 0)


def test_a_feed_to_the_present_ends(db):  # noqa: F811
    async def work():
        async with aio.Session(db) as session:
            start = await session.put(1, 1)
            keys = await session.put_many([(n, 1, {}) for n in range(1, 17)])
            feed = session.feed(start, delay=0)
            found = [row["id"] async for row in feed]
            assert found == sorted(int(key) for key in keys) and feed.ended

    run(work)


@pytest.mark.parametrize("how", ["cancel", "close", "session"])
def test_a_task_that_follows_is_ended(db, how):  # noqa: F811
    async def work():
        async with aio.Session(db) as session:
            feed = session.feed(follow=True, start=await session.put(1, 1), delay=0)
            task = asyncio.ensure_future(feed.__anext__())
            await until(lambda: feed.position > 0)
            if how == "cancel":
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                key = await session.put(12, 1)
                assert (await feed.__anext__())["id"] == int(key)
            else:
                await session.close() if how == "session" else feed.close()
                with pytest.raises(PoolError):
                    await task

    run(work)
    eventually(lambda: lent(db) == 0)


def test_a_holder_is_seen_while_the_loop_goes_on(db, databases):  # noqa: F811
    async def work():
        async with aio.Session(db) as session:
            feed = session.feed(await session.put(1, 1), follow=True, delay=0)
            with OpenPut(databases[1], 12) as late:
                task = asyncio.ensure_future(feed.__anext__())
                await until(lambda: feed.holder is not None)
                assert feed.behind >= 1 and not task.done()
            assert (await task)["id"] == late.key

    run(work)
