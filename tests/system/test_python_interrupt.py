"""Ctrl-C while the package waits: KeyboardInterrupt comes at once, and the store stays usable."""

import time

import pytest

from harness import eventually, python
from harness.python import connections, databases  # noqa: F401

python.provide()

PROMPT = 3  # seconds; a fraction of one unless the machine is busy

BEGIN = """
db = Datastore(connections, pool_max=1, pool_block_timeout=60, operation_timeout=60)
(reserved,) = db.reserve(3)

def interrupted(act):
    say("ready")
    sys.stdin.readline()
    say("waiting")
    try:
        act()
    except KeyboardInterrupt:
        say("interrupted")
    else:
        say("nothing came")
    sys.stdin.readline()

def check_usable():
    for shard in (3, 12):
        assert db.get(db.put(shard, 1, a="b"))["body"] == {"a": "b"}
        assert len(db.get_many(db.put_many([(shard, 1, {})] * 3))) == 3
        assert db.increment(db.put(shard, 1), "n") == 1
        with db.cursor(shard) as cursor:
            cursor.execute("SELECT 1")
            assert cursor.fetchone() == [1]
    wait_for(lambda: db.pool_stats()["lent"] == 0)
    assert db.pool_stats()["open"] <= 2
    db.close()
    say("usable")
"""


def begin(process, before=lambda: None):
    """Let it enter interrupted(), after something else was done."""
    assert process.read() == "ready"
    before()
    process.write("")
    assert process.read() == "waiting"


def interrupt(process):
    """Interrupt it, and check that it notices soon."""
    since = time.monotonic()
    process.interrupt()
    assert process.read() == "interrupted"
    assert time.monotonic() - since < PROMPT


def finish(process):
    process.write("")
    assert process.read() == "usable"
    assert process.end() == (0, "", "")


@pytest.mark.parametrize(
    "act",
    [
        "db.get_connection(3)",
        "db.put(3, 1)",
        "db.get(Key(3 << 10 | 1))",
        "db.cursor(3).__enter__()",
        "db.put_many([(3, 1, {})])",
        "db.get_many([Key(3 << 10 | 1)])",
        "next(db.scan(3))",
        "next(db.find(3))",
        "db.count(shards=3)",
        "db.explain(3)",
        "db.reserve(3)",
        "db.merge(reserved, {'a': 'b'})",
        "db.delete_many([reserved])",
        "db.get(reserved, only=['a'])",
        "db.get_connection_server(0)",
        "db.cursor_server(0).__enter__()",
    ],
)
def test_while_it_waits_for_a_connection(connections, act):
    code = f"""
{BEGIN}
lent = db.get_connection(3)
interrupted(lambda: {act})
db.put_connection(lent)
check_usable()
"""
    with python.Process(code, connections) as process:
        begin(process)
        process.sleeps()
        interrupt(process)
        finish(process)


@pytest.mark.parametrize(
    "act",
    [
        "db.put(3, 1)",
        "db.put_key(reserved, 1)",
        "db.get(Key(3 << 10 | 1))",
        "db.put_many((3, 1, {}) for _ in range(10000))",
        "db.get_many([Key(3 << 10 | 1)] * 10000)",
        "list(db.put_stream((3, 1, {}) for _ in range(10000)))",
        "list(db.scan(3))",
        "list(db.find())",
        "db.count()",
        "db.replace(reserved, 1, {'a': 'b'})",
        "db.merge(reserved, {'a': 'b'}, if_absent=['a'])",
        "db.increment(reserved, 'a')",
        "db.delete(reserved)",
        "db.change_many(Change.increment(reserved, 'a') for _ in range(10000))",
        "list(db.delete_stream([reserved] * 10000))",
    ],
)
def test_while_it_waits_behind_a_lock(databases, connections, act):
    code = f"""
{BEGIN}
interrupted(lambda: {act})
check_usable()
"""
    with databases[0].connect() as other, python.Process(code, connections) as process:
        other.autocommit = False
        begin(process, lambda: other.cursor().execute("LOCK shard0003.entities"))
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        eventually(lambda: databases[0].value(waiting) >= 1)
        process.sleeps()
        interrupt(process)
        other.rollback()
        finish(process)


@pytest.mark.parametrize(
    "act",
    [
        "db.put(3, 1)",
        "db.get_connection(3)",
        "db.put_many([(3, 1, {})])",
        "list(db.scan(3))",
        "list(db.find())",
        "db.count()",
        "list(db.feed())",
    ],
)
def test_while_it_connects_to_a_server_that_accepts_and_says_nothing(connections, act):
    code = f"""
import socket

listener = socket.create_server(("127.0.0.1", 0))
silent = dict(shards="1-9", host="127.0.0.1", port=str(listener.getsockname()[1]), user="x",
              dbname="x")
db = Datastore([silent, connections[1]], pool_block_timeout=60)
say("waiting")
try:
    {act}
except KeyboardInterrupt:
    say("interrupted")
assert db.get(db.put(12, 1, a="b"))["body"] == {{"a": "b"}}
listener.close()
try:
    db.put(3, 1)
except ConnectionError:
    say("refused")
assert db.pool_stats()["lent"] == 0
db.close()
"""
    with python.Process(code, connections) as process:
        assert process.read() == "waiting"
        process.sleeps()
        interrupt(process)
        assert process.read() == "refused"
        code, out, err = process.end()
        assert (code, out, err) == (0, "", "")


def test_in_the_middle_of_a_put_many(connections):
    code = f"""
{BEGIN}

def entities():
    for n in range(10**9):
        if n == 5000:
            say("under way")
        yield n % 16 + 1, 1, {{"n": str(n)}}

interrupted(lambda: db.put_many(entities()))
check_usable()
"""
    with python.Process(code, connections) as process:
        begin(process)
        assert process.read() == "under way"
        interrupt(process)
        finish(process)


def test_a_handler_that_does_not_raise_is_run_and_the_wait_goes_on(databases, connections):
    code = """
db = Datastore(connections, operation_timeout=60)
signal.signal(signal.SIGINT, lambda *_: os.write(1, b"handled\\n"))
say("waiting")
key = db.put(3, 1, a="b")
say("stored", key)
db.close()
"""
    with databases[0].connect() as other, python.Process(code, connections) as process:
        other.autocommit = False
        other.cursor().execute("LOCK shard0003.entities")
        assert process.read() == "waiting"
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        eventually(lambda: databases[0].value(waiting) == 1)
        for _ in range(3):
            process.interrupt()
            assert process.read() == "handled"
        other.rollback()
        assert process.read().startswith("stored ")
        assert process.end() == (0, "", "")


def test_again_and_again_at_any_moment(connections):
    """Interrupts at random moments leave the store whole."""
    code = f"""
{BEGIN}
import random
random.seed(1)
me = os.getpid()

def work():
    db.put(3, 1)
    db.get(reserved)
    with db.cursor(3) as cursor:
        cursor.execute("SELECT 1")
    db.put_many([(3, 1, {{}})] * 5)
    db.merge(reserved, {{"a": "b"}})
    db.delete_many([reserved] * 5)
    list(db.find(newest=10))
    db.count(shards=3)

handled = raised = 0

def handle(*_):
    global handled
    handled += 1
    raise KeyboardInterrupt

signal.signal(signal.SIGINT, handle)
for wanted in range(1, 151):
    timer = threading.Timer(random.uniform(0.001, 0.02), os.kill, (me, signal.SIGINT))
    try:
        timer.start()
        while handled < wanted:
            work()
    except KeyboardInterrupt:
        raised += 1
    timer.join()
say(raised > 140)  # Python drops what is raised in a weak reference's callback
try:
    gc.collect()
    db.put(3, 1)
except PoolError as error:
    say(error)
say(db.pool_stats()["lent"])
db.disconnect()
db.close()
"""
    with python.Process(code, connections) as process:
        assert process.read() == "True"
        assert process.read() == "0"
