"""Whatever a signal's handler raises, and whenever: it comes out, and nothing else has happened.

A task queue's soft time limit is such a thing: an ordinary Exception, between any two byte codes.
"""

import json
import os

from harness import python
from harness.python import connections, databases  # noqa: F401

python.provide()

COMMON = """
import asyncio, random, warnings
import hv.datastore, psycopg2.extras
from hv import aio
from hv.entity import key_bound

class Late(Exception):
    pass

class Worse(BaseException):
    pass

raised = None  # what the handler raised last
kind = Late

def handle(*_):
    global raised
    raised = kind("late")
    raise raised

def forget_raised():
    # Its traceback has all that was under way.
    global raised
    raised = None

signal.signal(signal.SIGUSR1, handle)
signal.signal(signal.SIGALRM, handle)

# ---- what must stay untouched ----

TEXT = b"mine alone, every byte of it\\n" * 3
folder = os.environ["HV_TEST_FOLDER"]

def own_file(number):
    file = open(os.path.join(folder, str(number)), "w+b", buffering=0)
    file.write(TEXT)
    return file

def check_files(files):
    for number, file in enumerate(files):
        assert os.path.samestat(os.fstat(file.fileno()), os.stat(file.name)), "another file"
        file.seek(0)
        assert file.read() == TEXT, (number, file.read())

files = [own_file(number) for number in range(300)]
complaints = []
sys.unraisablehook = lambda one: complaints.append(repr(one.exc_value))

class Others:
    \"\"\"Threads at work that are never interrupted: one in a store of its own, one with files.\"\"\"

    def __enter__(self):
        self._ending = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(act,)) for act in (self._store, self._files)
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._ending.set()
        for thread in self._threads:
            thread.join()

    def _run(self, act):
        try:
            act()
        except BaseException as error:
            complaints.append(f"another thread: {error!r}")

    def _store(self):
        with Datastore(connections) as other:
            while not self._ending.wait(0.001):
                assert other.get(other.put(12, 1, a="b"))["body"] == {"a": "b"}
                other.disconnect()

    def _files(self):
        number = 1000
        while not self._ending.wait(0.0002):
            mine = [own_file(number + each) for each in range(5)]
            os.sched_yield()
            check_files(mine)
            for file in mine:
                os.unlink(file.name)
                file.close()
            number += 5

def descriptors():
    return sorted(os.listdir("/proc/self/fd"), key=int)

def settle(db):
    wait_for(lambda: db.pool_stats()["lent"] == 0)

def check_left_over(db, before):
    db.disconnect()
    wait_for(lambda: threading.active_count() == 1 and len(os.listdir("/proc/self/task")) == 1)
    gc.collect()
    wait_for(lambda: len(descriptors()) == len(before))
    check_files(files)
    assert not complaints, complaints
    stats = db.pool_stats()
    assert (stats["open"], stats["lent"], stats["waiting"]) == (0, 0, 0), stats

# ---- what can be done with a store ----

def put(db):
    db.put(3, 1, a="b")

def put_key(db):
    db.put_key(db.reserve(3)[0], 1, {"a": "b"})

def get(db):
    assert db.get(key)["body"] == {"a": "b"}

def changes(db):
    key = db.put(3, 1, {"n": 1})
    assert db.merge(key, {"a": "b"}, ["c"], if_={"n": 1}) and db.increment(key, "n") == 2
    assert db.get(key, only=["n"])["body"] == {"n": "2"}
    assert db.replace(key, 2, if_version=db.get(key, version=True).version)
    try:
        db.delete(key, if_={"a": "c"})
        raise AssertionError("it was deleted")
    except ChangedError as error:
        assert error.present["type"] == 2
    assert db.delete(key, if_absent={"n"})

def change_many(db):
    keys = db.put_many([(3, 1, {}), (12, 1, {})])
    assert db.increment_many([(each, "n") for each in keys], if_absent=["m"]) == [1, 1]
    changes = [Change.delete(keys[0]), Change.merge(keys[1], {"a": "b"}), Change.delete(keys[1])]
    assert db.change_many(changes) == [True] * 3

def in_transactions(db):
    key = db.put(3, 1, {"n": 1})

    def work(tx):
        with tx.cursor() as cursor:
            cursor.execute("SELECT 1")
        return tx.increment(key, "n")

    assert db.run_transaction(3, work) == 2
    with db.transaction(3, isolation="serializable") as tx:
        assert work(tx) == 3
        tx.delete(key)

def with_cursor(db):
    for each in (db.cursor(3), db.cursor_server("two")):
        with each as cursor:
            cursor.execute("SELECT 1")
            assert cursor.fetchone()[0] == 1

def borrow(db):
    db.put_connection(db.get_connection(3))

def borrow_and_spoil(db):
    lent = db.get_connection(3)
    lent.autocommit = False
    db.put_connection(lent)

def borrow_and_close(db):
    db.get_connection(3).close()

def put_many(db):
    assert len(db.put_many([(3, 1, {}), (12, 1, {}), (99, 1, {})], return_errors=True)) == 3

def get_many(db):
    db.get_many([key] * 3)

def streams(db):
    for position, result in db.put_stream((3, 1, {}) for _ in range(5)):
        assert result.shard_id == 3
    for position, row in db.get_stream([key] * 2):
        assert row["body"] == {"a": "b"}

def scan(db):
    with db.scan(3, start=key, stop=int(key) + 1) as rows:
        assert len(list(rows)) == 1

def finds(db):
    with db.find([3, 12], from_key=key, until_key=int(key) + 1) as rows:
        assert len(list(rows)) == 1
    assert db.count(shards=3, from_key=key, until_key=int(key) + 1) == 1
    assert list(db.count("day", zone="Europe/Berlin", until_key=int(key) + 1).values())[-1] >= 1
    assert len(db.explain(3)) == 1

def feeds(db):
    rows = db.feed(from_key=key, until_key=int(key) + 1, delay=0)
    assert len(list(rows)) == 1

def loads(db):
    with db.load("one", "a load") as load:
        load.add(3, 1, {"a": "b"})
        load.send()
        load.commit(load.position + 1)
    db.loads("one", "a")

def look(db):
    db.servers, db.shards(), db.server_of(3), db.pool_stats(), key_bound(key.created)
    db.inspect("one")
    db.create_shards(progress=lambda server, done, total: None)

def begin_anew(db):
    db.reinstantiate()
    db.disconnect()

def open_and_close(db):
    with Datastore(connections, check_servers=True, operation_timeout=30) as other:
        other.put(3, 1)

def open_and_drop(db):
    other = Datastore(connections, logger=Log())
    other.put(3, 1)

def log(db):
    with Datastore(connections, logger=Log()) as other:
        other.put(3, 1, a="b")
        with other.cursor(3) as cursor:
            cursor.execute("SELECT 1")

async def in_transaction(session, key):
    async with session.transaction(3) as tx:
        return await tx.increment(key, "n")

async def number_of(rows):
    return len([row async for row in rows])

def loop(db):
    # asyncio drops what is raised in a callback; then all that was asked for must still come.
    async def many():
        async with aio.Session(db) as session:
            stored = await asyncio.wait_for(session.put_many([(3, 1, {}), (12, 1, {})]), 30)
            assert len(stored) == 2
            assert await asyncio.wait_for(session.merge(stored[0], {"n": 1}), 30)
            assert await asyncio.wait_for(in_transaction(session, stored[0]), 30) == 2
            assert await asyncio.wait_for(session.delete_many(stored), 30) == [True, True]
            bounds = {"from_key": key, "until_key": int(key) + 1}
            assert await asyncio.wait_for(number_of(session.find(3, **bounds)), 30) == 1
            assert await asyncio.wait_for(session.count(**bounds), 30) == 1
            assert (await asyncio.wait_for(session.get(key), 30))["body"] == {"a": "b"}

    asyncio.run(many())

class Log:
    def write(self, text):
        len(text)

ACTS = [put, put_key, get, with_cursor, borrow, borrow_and_spoil, borrow_and_close, put_many,
        get_many, streams, changes, change_many, in_transactions, scan, finds, feeds, loads, look, begin_anew,
        open_and_close, open_and_drop, log]

for number, each in enumerate(connections):
    each["name"] = ("one", "two")[number]
db = Datastore(connections, pool_max=2, pool_block_timeout=30)
key = db.put(3, 1, a="b")
"""

SWEEP = """
OURS = (os.path.dirname(hv.datastore.__file__), psycopg2.extras.__file__)

class AtStep:
    \"\"\"A signal arrives before the nth byte code of the package's, in this thread.\"\"\"

    def __init__(self, n):
        self.left = n

    def __call__(self, frame, event, _):
        if not frame.f_code.co_filename.startswith(OURS):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            self.left -= 1
            if self.left == 0:
                self.where = f"{frame.f_code.co_qualname}:{frame.f_lineno}"
                signal.raise_signal(signal.SIGUSR1)
                for _ in range(10):
                    pass  # the handler runs here at the latest
        return self

logging.disable()  # what asyncio says of what it drops
warnings.simplefilter("ignore")  # sessions and coroutines that a handler has ended

def byte_codes(act):
    step = AtStep(0)
    sys.settrace(step)
    try:
        act(db)
    finally:
        sys.settrace(None)
    return -step.left

def steps(act, stride):
    n = 0
    # An attempt runs everything up to its own byte code: at each one, the work grows by the square.
    stride = max(stride, byte_codes(act) // most | 1)
    while True:
        n += stride
        if n % 3 == 0:
            db.disconnect()  # so that it has to connect
        step = AtStep(n)
        caught = None
        sys.settrace(step)
        try:
            act(db)
        except kind as error:
            caught = error
        finally:
            sys.settrace(None)
        if step.left > 0:
            return n - stride
        dropped = act is loop and caught is None
        if dropped and complaints and complaints[-1] == repr(raised):
            del complaints[-1]  # it came in a session's __del__(), where Python drops it
        assert dropped or caught is raised, (act, step.where, caught, raised, complaints)
        forget_raised()
        del caught
        if act is loop:
            gc.collect()  # so that no session is left for the next act to end
        settle(db)
        # Nothing is in the way of the next call, and nothing was said about the server.
        assert db.get(key)["body"] == {"a": "b"}

db.disconnect()
wait_for(lambda: len(os.listdir("/proc/self/task")) == 1)
before = descriptors()
with Others():
    stride = int(os.environ.get("HV_TEST_STRIDE", 3))  # 1: at every one
    most = 10**9 if "HV_TEST_STRIDE" in os.environ else 200
    for kind, stride in ((Late, stride), (Worse, 4 * stride - 1)):
        say(json.dumps({act.__name__: steps(act, stride) for act in ACTS + [loop]}))
check_left_over(db, before)
say(db.pool_stats()["failed"])
db.close()
"""


def run(code, connections, tmp_path):
    more = {name: value for name, value in os.environ.items() if name.startswith("HV_TEST_")}
    given = f"import os; os.environ.update({dict(more, HV_TEST_FOLDER=str(tmp_path))!r})\n"
    result = python.run(given + COMMON + code, connections, timeout=600)
    assert (result.code, result.err) == (0, ""), str(result)
    return result.lines


def test_at_the_byte_codes_of_the_package(connections, tmp_path):
    steps, _, failed = run(SWEEP, connections, tmp_path)
    assert sum(json.loads(steps).values()) > 1000
    assert failed == "0"


def test_at_any_moment(connections, tmp_path):
    run(
        """
random.seed(os.environ.get("HV_TEST_SEED", 1))
db.disconnect()
wait_for(lambda: len(os.listdir("/proc/self/task")) == 1)
before = descriptors()
came = 0
with Others():
    end = time.monotonic() + float(os.environ.get("HV_TEST_SECONDS", 10))
    while time.monotonic() < end:
        kind = random.choice((Late, Worse))
        act = random.choice(ACTS)
        if random.random() < 0.7:
            db.disconnect()
        raised = None
        try:
            signal.setitimer(signal.ITIMER_REAL, random.uniform(0.0001, 0.015))
            act(db)
            signal.setitimer(signal.ITIMER_REAL, 0)
        except (Late, Worse) as error:
            came += 1
            assert error is raised
        if complaints and complaints[-1] == repr(raised):
            del complaints[-1]  # it came in a weak reference's callback, where Python drops it
        forget_raised()
        settle(db)
        assert db.get(key)["body"] == {"a": "b"}
say(came > 20)
check_left_over(db, before)
db.close()
""",
        connections,
        tmp_path,
    )
