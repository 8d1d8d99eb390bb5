"""The interpreter ends while a connection is being opened, or while TLS is in use: it ends well.

The clean-up of OpenSSL, which exit(3) does, would otherwise come while a thread is in its midst.
"""

import json
import os
import time

import pytest

from harness import PostgresServer, make_shards, python, store_config

python.provide()


@pytest.fixture(scope="module")
def tcp_connections(tmp_path_factory):
    """Datastore()'s argument for a server that wants a password, without TLS and with it."""
    with PostgresServer("exit", tcp=True) as server:
        server.encrypt()
        database = server.create_database("test")
        place = tmp_path_factory.mktemp("exit") / "hypervault.conf"
        make_shards(store_config(place, {"one": (database, "1-9")}), database)
        yield {
            mode: [dict(shards="1-9", **database.params(sslmode=mode))]
            for mode in ("disable", "require")
        }


ENDS = int(os.environ.get("HV_TEST_ENDS", 60))

# A process that has imported all and forks, since to start Python takes a hundred times as long as
# what is looked at.
MANY_ENDS = """
import random

class Late(Exception):
    pass

at_work = False

def late(*_):
    if at_work:
        raise Late

def end(n):
    random.seed(n)
    signal.signal(signal.SIGALRM, late)
    db = Datastore(connections)
    {before}
    # Once more each second, for asyncio drops what is raised in a callback.
    signal.setitimer(signal.ITIMER_REAL, random.uniform(0.0005, 0.0095), 1)
    global at_work
    at_work = True
    try:
        while True:
            {act}
    except Late:
        at_work = False
    signal.setitimer(signal.ITIMER_REAL, 0)
    sys.exit(7)

signal.signal(signal.SIGALRM, signal.SIG_IGN)  # should it come after the end
ends = []
for n in range({ends}):
    child = os.fork()
    if child == 0:
        faulthandler.dump_traceback_later(100, exit=True)
        end(n)
    ends.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
say(json.dumps({{str(code): ends.count(code) for code in sorted(set(ends))}}))
"""

AT_WORK = """
    quiet_threads()
    logging.disable()
    def work():
        while True:
            db.get(db.put(3, 1, a="b"))
            db.put_many([(3, 1, {})] * 5)
    for _ in range(3):
        threading.Thread(target=work, daemon=True).start()
    wait_for(lambda: db.pool_stats()["loans"] > 5)
"""


@pytest.mark.parametrize("mode", ["disable", "require"])
@pytest.mark.parametrize(
    ("before", "act"),
    [
        ("", "db.put(3, 1); db.disconnect()"),
        ("", "db.put_many([(3, 1, {})]); db.disconnect()"),
        ("logging.disable()", "asyncio.run(many(db))"),
        (AT_WORK, "time.sleep(1)"),
    ],
    ids=["put", "put_many", "aio", "daemon threads"],
)
def test_at_any_moment(tcp_connections, mode, before, act):
    many = """
import asyncio
from hv import aio

async def many(db):
    async with aio.Session(db) as session:
        await session.put(3, 1)
    db.disconnect()
"""
    code = many + MANY_ENDS.format(before=before.lstrip(), act=act, ends=ENDS)
    result = python.run(code, tcp_connections[mode], development=False, timeout=600)
    assert result.code == 0 and list(json.loads(result.out)) == ["7"], str(result)


@pytest.mark.parametrize(
    "act",
    [
        "quiet_threads(); threading.Thread(target=db.put, args=(3, 1), daemon=True).start()",
        "quiet_threads();"
        "threading.Thread(target=db.get_connection, args=(3,), daemon=True).start()",
        "signal.signal(signal.SIGALRM, late); signal.setitimer(signal.ITIMER_REAL, 0.2); db.put(3, 1)",
    ],
    ids=["put", "get_connection", "interrupted"],
)
def test_while_a_server_accepts_and_says_nothing(act):
    """psycopg2.connect() cannot be ended, and is not waited for to its end."""
    since = time.monotonic()
    result = python.run(
        f"""
        import socket

        listener = socket.create_server(("127.0.0.1", 0))
        silent = dict(shards="1-9", host="127.0.0.1", port=str(listener.getsockname()[1]), user="x",
                      dbname="x")
        db = Datastore([silent], pool_block_timeout=3600, operation_timeout=3600)

        def late(*_):
            sys.exit(7)

        {act}
        listener.accept()
        sys.exit(7)
        """,
        development=False,
        timeout=60,
    )
    assert (result.code, result.err) == (7, ""), str(result)
    assert time.monotonic() - since < 20  # a second or two, unless the machine is busy
