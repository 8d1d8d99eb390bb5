"""A hundred thousand operations leave nothing behind: no reference, no memory, no connection."""

import pytest

from harness import eventually, python
from harness.python import connections, databases  # noqa: F401

python.provide()

pytestmark = pytest.mark.plain  # sanitizers watch memory themselves, and take long

COMMON = """
import ctypes, resource
from decimal import Decimal

# Or a thread that opens a connection, while another is about to end, has its memory in a new arena.
ctypes.CDLL(None).mallopt(-8, 1)  # M_ARENA_MAX

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()

def descriptors():
    return len(os.listdir("/proc/self/fd"))

def threads():
    return len(os.listdir("/proc/self/task"))

NAME, VALUE, MAPPING = "name-" + str(os.getpid()), "value" * 20, {"a": None}
MAPPING[NAME] = VALUE
ODDS = 10**6 + 7

def references():
    used = (NAME, VALUE, MAPPING, None, Key, DatastoreError, ConnectionError, True, dict)
    return [sys.getrefcount(each) for each in used]

def settle():
    # A thread that has opened a connection is still closing its pipe while others use that already.
    wait_for(lambda: threads() == 1)
    gc.collect()

def check(act, times, warm_up=300, leeway=1 << 20):
    act(warm_up)
    settle()
    before, memory, open_before = references(), resident(), descriptors()
    objects = len(gc.get_objects())
    act(times)
    settle()
    after = references()
    # Python's own caches hold some more or some fewer from time to time.
    assert all(abs(b - a) < max(300, times // 20) for a, b in zip(before, after)), (before, after)
    assert abs(len(gc.get_objects()) - objects) < 100, len(gc.get_objects()) - objects
    assert resident() - memory < leeway, resident() - memory
    assert descriptors() <= open_before, (descriptors(), open_before)
"""


def run(code, connections):
    # Not python.run(): its debugging allocator keeps memory.
    result = python.run(COMMON + code, connections, development=False)
    assert (result.code, result.err) == (0, ""), str(result)
    return result.lines


def test_a_hundred_thousand_operations_leave_nothing_behind(databases, connections):
    lines = run(
        """
def act(times):
    for n in range(times // 10):
        key = db.put(3, 1, MAPPING, b=n)
        db.put(3, 1, **MAPPING)
        row = db.get(key)
        assert row[2][NAME] == VALUE
        assert db.get(absent) is None
        with db.cursor(3) as cursor:
            pass
        db.put_connection(db.get_connection(3))
        Key(ODDS + n).created, repr(key), hash(key), key == row
    for n in range(times // 50):
        key = db.put(3, 1, MAPPING, b=n)
        assert db.merge(key, MAPPING, ["b", "c"], if_={"b": n}, if_absent=["c"]) is True
        assert db.increment(key, "n", ODDS) == ODDS
        assert db.get(key, only=[NAME]).version
        assert db.replace(key, 2, MAPPING, if_kind=1) is True
        assert db.delete(key, if_={NAME: VALUE}) is True and db.delete(key) is False
        with db.cursor_server(0) as cursor:
            pass
    for n in range(times // 1000):
        keys = db.put_many([(3, 1, MAPPING)] * 200)
        rows = db.get_many(keys)
        assert rows[-1][2] == MAPPING
        assert all(db.merge_many([(each, MAPPING, ["b"]) for each in keys], if_kind=1))
        assert db.increment_many((each, "n", "0.5") for each in keys)[-1] == Decimal("0.5")
        changes = [Change.delete(each, if_={NAME: VALUE}) for each in keys] * 2
        assert db.change_many(changes) == [True] * 200 + [False] * 200

with Datastore(connections, pool_max=3) as db:
    absent = Key(3 << 10 | 1)
    check(act, 100_000, warm_up=3000)
    say(db.pool_stats()["opened"])
""",
        connections,
    )
    assert int(lines[0]) <= 3


def test_ten_thousand_errors_leave_nothing_behind(connections):
    run(
        """
def fails(kind, act):
    try:
        act()
    except kind:
        return
    raise AssertionError("no error")

def bad():
    yield 3, 1, {}
    raise KeyError("bad")

def bad_changes():
    yield Change.merge(taken, {"n": 1})
    raise KeyError("bad")

def act(times):
    for n in range(times // 10):
        fails(DatastoreError, lambda: db.put(99, 1, MAPPING))
        fails(DatastoreError, lambda: db.put(3, 99999, MAPPING))
        fails(TypeError, lambda: db.put(3, 1, a=object()))
        fails(TypeError, lambda: db.put(3, 1, {NAME: VALUE, 1: VALUE}))
        fails(DatastoreError, lambda: db.put(3, 1, {NAME: "\\0"}))
        fails(DatastoreError, lambda: db.put(3, 1, {NAME: "\\ud800"}))
        fails(DatastoreError, lambda: db.get(n))
        fails(TypeError, lambda: db.put(3))
        fails(ChangedError, lambda: db.merge(taken, MAPPING, if_={NAME: VALUE}))
        fails(TypeError, lambda: db.merge(taken, MAPPING, ["a", 5]))
        fails(DatastoreError, lambda: db.merge(taken, MAPPING, [NAME, VALUE, "\\0"]))
        fails(TypeError, lambda: db.delete(taken, if_=MAPPING, if_absent=["b"], if_version=5))
        fails(TypeError, lambda: db.increment(taken, NAME, 0.5))
        fails(DatastoreError, lambda: db.increment(taken, NAME, VALUE))
        fails(DatastoreError, lambda: Change.delete(taken, if_=MAPPING, if_absent=[NAME]))
        fails(TypeError, lambda: db.get(taken, only=[NAME, 5]))
        fails(DatastoreError, lambda: db.get_connection_server("three"))
        fails(ValueError, lambda: Key(-n))
        fails(DatastoreError, lambda: db.put_connection(None) if n % 2 else db.get_connection(99))
        if n % 20 == 0:
            fails(KeyError, lambda: db.put_many(bad()))
            fails(DatastoreError, lambda: db.put_many([(99, 1, MAPPING)] * 10))
            fails(DatastoreError, lambda: db.put_key(taken, 2, MAPPING))
            fails(ChangedError, lambda: db.delete_many([taken] * 10, if_={NAME: VALUE}))
            fails(KeyError, lambda: db.change_many(bad_changes()))

with Datastore(connections) as db:
    taken = db.put(3, 1)
    check(act, 10_000)
""",
        connections,
    )


def test_stores_that_come_and_go_leave_nothing_behind(databases, connections):
    run(
        """
def act(times):
    for n in range(times):
        db = Datastore(connections, lanes=1, logger=(None, logging.getLogger("x"))[n % 2])
        key = db.put(3, 1, MAPPING)
        db.get(key)
        with db.cursor(3) as cursor:
            cursor.execute("SELECT 1")
        if n % 3 == 0:
            db.disconnect()
        if n % 3 == 1:
            db.close()
        if n % 5 == 0:
            with Datastore(connections) as other:
                db = other.get_connection(3)
                db.close()
        del db

check(act, 400, warm_up=400)
""",
        connections,
    )
    eventually(lambda: not databases[0].clients())


def test_transactions_leave_nothing_behind(connections):
    run(
        """
class Mine(Exception):
    pass

FAIL = "DO $$ BEGIN RAISE EXCEPTION 'again' USING ERRCODE = '40001'; END $$"
LATE = (
    "CREATE FUNCTION pg_temp.fail() RETURNS trigger LANGUAGE plpgsql AS "
    "$$ BEGIN RAISE EXCEPTION 'again' USING ERRCODE = '40001'; END $$;"
    "CREATE TEMP TABLE late (n int) ON COMMIT DROP;"
    "CREATE CONSTRAINT TRIGGER late AFTER INSERT ON late INITIALLY DEFERRED"
    " FOR EACH ROW EXECUTE FUNCTION pg_temp.fail(); INSERT INTO late VALUES (1)"
)

def fails(kind, act, *args):
    try:
        act(*args)
    except kind:
        return
    raise AssertionError("no error")

def work(tx):
    assert tx.increment(key, "n") and tx.merge(key, MAPPING, ["b"]) and tx.get(key)[2][NAME] == VALUE
    with tx.cursor() as cursor:
        cursor.execute("SELECT %s", [VALUE])
        return cursor.fetchone()[0], dict(MAPPING)

def again(statement):
    def act(tx):
        if tx.call < 3:
            with tx.cursor() as cursor:
                cursor.execute(statement)
        return dict(MAPPING)  # also when COMMIT will fail

    return act

def leave(tx):
    tx.cursor()
    raise Mine

def in_with(act):
    with db.transaction(3) as tx:
        return act(tx)

def forget():
    tx = db.transaction(3)
    tx.__enter__()
    tx.put(3, 1)

def act(times):
    for n in range(times):
        for form in (in_with, lambda act: db.run_transaction(3, act)):
            assert form(work) == (VALUE, MAPPING)
            fails(Mine, form, leave)
            fails(DatastoreError, form, lambda tx: tx.put(12, 1))
            fails(TypeError, form, lambda tx: tx.put(3))
            fails(DatastoreError, form, lambda tx: db.transaction(3).__enter__())
        for statement in (FAIL, LATE) if n % 10 == 0 else ():
            assert db.run_transaction(3, again(statement)) == MAPPING
            fails(DatastoreError, in_with, again(statement))
        fails(DatastoreError, lambda: db.transaction(99).__enter__())
        fails(DatastoreError, db.run_transaction, 99, work)
        fails(TypeError, db.run_transaction, 3, 3)
        db.transaction(3)
        forget()

with Datastore(connections, pool_max=2) as db:
    key = db.put(3, 1)
    check(act, 2000, warm_up=300)
    assert db.pool_stats()["lent"] == 0
""",
        connections,
    )


def test_finding_counting_and_following_leave_nothing_behind(connections):
    run(
        """
import asyncio, math
from hv import aio

def fails(kind, act):
    try:
        act()
    except kind:
        return
    raise AssertionError("no error")

SELECTION = dict(where=MAPPING, one_of={NAME: [VALUE, None, 5]}, exists=["a", NAME], lacks=["b"],
                 kind=[1, 2], shards=[3, "12"], partial=True, timeout=math.inf)

async def loop():
    async with aio.Session(db) as session:
        async for row in session.find(newest=3, **SELECTION):
            assert row[2][NAME] == VALUE
        async for row in session.find():
            break
        assert await session.count(**SELECTION) >= 1
        feed = session.feed(key, follow=True, delay=0)
        task = asyncio.ensure_future(feed.__anext__())
        await asyncio.sleep(0)
        task.cancel()

def act(times):
    for n in range(times):
        for row in db.find(**SELECTION, only=[NAME, "c"], after=1, limit=5):
            assert row[2] == {NAME: VALUE}
        for row in db.find(newest=True):
            break
        rows = db.find(skip="server 1")
        next(rows)
        rows.missing, rows.position, rows.holder, rows.behind, rows.fileno()
        if n % 2:
            rows.close()
        with db.find(12, has=MAPPING, since=key.created, until_key=key) as rows:
            list(rows), rows.missing
        assert db.count(**SELECTION) >= 1 and db.count("kind", skip="server 1").missing
        db.count("day", zone="Europe/Berlin"), db.count("server"), db.count(estimate=True)
        fails(DatastoreError, lambda: db.find(where=MAPPING, lacks=[NAME]))
        fails(DatastoreError, lambda: db.find(one_of={NAME: [VALUE, "\\0"]}))
        fails(TypeError, lambda: db.find(one_of={NAME: [VALUE, object()]}))
        fails(TypeError, lambda: db.find(**SELECTION, only=[NAME, 5]))
        fails(TypeError, lambda: db.count(5))
        fails(DatastoreError, lambda: db.count("day", zone=VALUE))
        fails(DatastoreError, lambda: db.feed(NAME and 0))
        db.explain(**SELECTION)
        if n % 10 == 0:
            feed = db.feed(key, follow=n % 20 == 0, delay=0)
            feed.poll(0.02)
            asyncio.run(loop())

with Datastore(connections, pool_max=2) as db:
    key = db.put(3, 1, MAPPING)
    db.put(12, 1, MAPPING)
    check(act, 400, warm_up=200)
    assert db.pool_stats()["lent"] == 0
""",
        connections,
    )


def test_work_on_all_shards_leaves_nothing_behind(connections, tmp_path):
    (tmp_path / "0001_more.sql").write_text("CREATE TABLE more (id bigint);\n")
    run(
        f"""
import asyncio, math
from hv import aio

DIRECTORY = {str(tmp_path)!r}

def fails(kind, act, *args, **kwargs):
    try:
        act(*args, **kwargs)
    except kind:
        return
    raise AssertionError("no error")

def wrong(event):
    raise KeyError(NAME)

async def loop():
    async with aio.Session(db) as session:
        async for answer in session.each_shard("SELECT %s", [VALUE], shards=[3, 12]):
            assert answer.rows == [(VALUE,)]
        async for answer in session.each_shard("SELECT 1", observer=lambda event: None):
            break
        await session.schema_check(shards=[3, 12], observer=lambda event: None)
        task = asyncio.ensure_future(session.migrate(DIRECTORY, shards=3))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])

def act(times):
    for n in range(times):
        events = []
        each = db.each_shard("SELECT %(v)s, 'a=>1'::hstore, NULL::int", {{"v": NAME}},
                             shards=[3, "9-13"], max_wait=math.inf, observer=events.append)
        for answer in each:
            assert answer.rows[0] == (NAME, {{"a": "1"}}, None)
        assert len(each.summary.done) == 5 and events
        for answer in db.each_shard("SELECT 1", shards=3):
            break
        with db.each_shard("SELECT 1 / 0", max_failures="all", shards=[3, 4]) as each:
            next(each)
        for answer in each.summary.failed:
            str(answer.error), repr(answer)
        fails(DatastoreError, db.each_shard, "SELECT 'x")
        fails(DatastoreError, db.each_shard, "SELECT 1", once=NAME)
        fails(DatastoreError, db.each_shard, "SELECT 1", shards="x", skip=["one"])
        fails(TypeError, db.each_shard, "SELECT %s", 5, observer=events.append)
        fails(TypeError, db.each_shard, "SELECT 1", observer=5)
        fails(KeyError, list, db.each_shard("SELECT 1", observer=wrong, shards=3))
        fails(KeyError, db.schema_check, observer=wrong, shards=3)
        assert len(db.migrate(DIRECTORY, shards=[3, 12], observer=events.append)) == 2
        assert db.migrate_status(DIRECTORY, shards=[3, 4]).shards[0].complete
        db.migrate_plan(DIRECTORY, shards=[4])
        fails(DatastoreError, db.migrate, DIRECTORY + NAME)
        fails(DatastoreError, db.migrate)
        db.index_create(NAME, (VALUE[:20], "bigint"), kind=2, shards=[3], name=NAME)
        assert db.index_list(shards=[3, 4])[1].shards == 1
        db.index_drop(NAME, shards=3)
        fails(DatastoreError, db.index_create, (NAME, VALUE))
        fails(TypeError, db.index_create, (NAME, 5))
        assert len(db.schema_check(shards=[3, 4]).groups) == 2
        if n % 10 == 0:
            asyncio.run(loop())

with Datastore(connections, pool_max=4) as db:
    check(act, 40, warm_up=20)
    assert db.pool_stats()["lent"] == 0
    list(db.each_shard("DROP TABLE more; DROP TABLE hypervault_migrations", write=True, shards="3"))
""",
        connections,
    )
