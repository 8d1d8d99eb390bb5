"""The interpreter ends while a connection is being opened, or while TLS is in use: it ends well.

The clean-up of OpenSSL, which exit(3) does, would otherwise come while a thread is in its midst.
"""

import json

import pytest

from harness import PostgresServer, make_shards, python, store_config

python.provide()


@pytest.fixture(scope="module")
def tcp_connections(tmp_path_factory):
    """What Datastore() takes for a server that wants a password, without TLS and with it."""
    with PostgresServer("exit", tcp=True) as server:
        server.encrypt()
        database = server.create_database("test")
        place = tmp_path_factory.mktemp("exit") / "hypervault.conf"
        make_shards(store_config(place, {"one": (database, "1-9")}), database)
        yield {
            mode: [dict(shards="1-9", **database.params(sslmode=mode))]
            for mode in ("disable", "require")
        }


# A process that has imported all and forks, since to start Python takes a hundred times as long as
# what is looked at.
MANY_ENDS = """
import random

class Late(Exception):
    pass

def late(*_):
    raise Late

def end(n):
    random.seed(n)
    signal.signal(signal.SIGALRM, late)
    db = Datastore(connections)
    {before}
    signal.setitimer(signal.ITIMER_REAL, random.uniform(0.0005, 0.0095))
    try:
        while True:
            {act}
    except Late:
        pass
    sys.exit(7)

signal.signal(signal.SIGALRM, signal.SIG_IGN)  # should it come after the end
ends = []
for n in range(int(os.environ.get("HV_TEST_ENDS", 150))):
    child = os.fork()
    if child == 0:
        faulthandler.dump_traceback_later(100, exit=True)
        end(n)
    ends.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
say(json.dumps({{str(code): ends.count(code) for code in sorted(set(ends))}}))
"""

AT_WORK = """
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
    code = many + MANY_ENDS.format(before=before.lstrip(), act=act)
    result = python.run(code, tcp_connections[mode], development=False, timeout=600)
    assert result.code == 0 and list(json.loads(result.out)) == ["7"], str(result)
