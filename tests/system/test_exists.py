"""Is there an entity under a key? One, many, in a queue, in Python and in the command."""

import asyncio

import pytest

from harness import hv, python
from harness.python import connections, databases, db  # noqa: F401
from harness.store_tool import make_tool  # noqa: F401

python.provide()

from hv import aio
from hv.datastore import ConnectionError, Datastore
from hv.entity import Key

MISSING = 307821103844175872 & ~(8191 << 10) | 4 << 10  # of shard 4: nobody puts under it


@pytest.fixture
def tool(make_tool, store):
    return make_tool(store, log=True)


def statuses(reply):
    return {item["key"]: item["status"] for item in reply.items}


def test_what_was_put_exists_and_other_keys_do_not(tool):
    key = tool.main.put(3, 1, {"a": "b"}).ok().key
    assert tool.main.exists(key).ok().status == "HV_OK"
    assert tool.main.exists(MISSING).status == "HV_NOT_FOUND"
    assert tool.main.exists(0).status == "HV_INVALID"
    assert tool.main.exists((1 << 23) | (8000 << 10)).status == "HV_NO_SERVER"


def test_an_entity_is_never_missed_because_of_one_that_is_there_twice(tool, servers):
    """Which the primary key does not prevent where the table has children."""
    keys = [tool.main.put(3, 1, {}).ok().key for _ in range(3)]
    servers[0].sql(f"""
        CREATE TABLE child () INHERITS (shard0003.entities);
        INSERT INTO child SELECT * FROM ONLY shard0003.entities WHERE id = {keys[0]}""")
    for many in (tool.main.get_many(keys), tool.main.exists_many(keys)):
        assert {item["status"] for item in many.items} == {"HV_CORRUPT"}
    tool.main.exists(keys[0]).gives("HV_CORRUPT")
    assert set(statuses(tool.main.exists_many(keys[1:])).values()) == {"HV_OK"}


def test_the_statement_is_prepared_and_reads_no_attributes(tool, servers):
    key = tool.main.put(3, 1, {"a": "b"}).ok().key
    for _ in range(2):
        tool.main.exists(key).ok()
    events = [event.log for event in tool.log if "entities" in event.log][-2:]
    assert events == 2 * ["SELECT id FROM shard0003.entities WHERE id OPERATOR(pg_catalog.=) $1"]
    tool.main.acquire(3).ok()
    names = "SELECT string_agg(name, ' ') FROM pg_prepared_statements"
    assert "hv_exists_0003" in tool.main.sql(names).ok().value.split()
    tool.main.release().ok()


def test_many_keys_are_looked_for_at_once_a_key_may_occur_twice(tool):
    keys = [tool.main.put(shard, 1, {}).ok().key for shard in (1, 1, 9, 12)]
    for ask in (tool.main.exists_many, tool.main.exists_stream):
        reply = ask([*keys, MISSING, keys[0], MISSING + 1]).ok()
        assert len(reply.items) == 7
        assert statuses(reply) == {
            **{key: "HV_OK" for key in keys},
            MISSING: "HV_NOT_FOUND",
            MISSING + 1: "HV_NOT_FOUND",
        }


def test_of_many_each_has_its_own_outcome(tool, servers):
    key = tool.main.put(3, 1, {}).ok().key
    servers[0].sql("DROP TABLE shard0004.entities")
    reply = tool.main.exists_many([key, MISSING, -1])
    assert reply.status == "HV_NOT_INITIALIZED"
    assert [item["status"] for item in reply.items] == ["HV_OK", "HV_NOT_INITIALIZED", "HV_INVALID"]


def test_in_a_queue_it_stands_among_puts_and_gets(tool):
    key = tool.main.put(3, 1, {"n": "1"}).ok().key
    tool.main.queue_new().ok()
    operations = [
        {"key": key, "exists": True},
        {"key": key},
        {"key": MISSING, "exists": True},
        {"shard": 3, "kind": 1, "dict": {"n": "2"}},
    ]
    for item in tool.main.queue_add(operations).items:
        assert item["status"] == "HV_OK"
    done = {item["tag"]: item for item in tool.main.queue_advance(-1, True).items}
    assert [done[tag]["status"] for tag in range(4)] == ["HV_OK", "HV_OK", "HV_NOT_FOUND", "HV_OK"]
    assert done[0]["key"] == key and "dict" not in done[0]
    tool.main.queue_free()


@pytest.mark.threads
def test_threads_ask_in_lanes(make_tool, store):
    tool = make_tool(store, lanes=1, pool_max=1, pool_block_timeout="30s")
    key = tool.main.put(3, 1, {}).ok().key
    threads = tool.threads(*(f"t{n}" for n in range(16)))
    for _ in range(5):
        asked = [
            (n % 2, thread.begin.exists(MISSING if n % 2 else key))
            for n, thread in enumerate(threads)
        ]
        for missing, one in asked:
            assert one.reply().status == ("HV_NOT_FOUND" if missing else "HV_OK")


def test_the_command_prints_the_keys_that_exist(store):
    key = hv("put", 3, 1, "a=b", config=store).ok().out.strip()
    assert hv("exists", key, config=store).ok().out == f"{key}\n"
    some = hv("exists", key, MISSING, key, config=store)
    assert (some.code, some.out) == (3, f"{key}\n{key}\n")
    assert f"no entity has the key {MISSING}" in some.err
    as_json = hv("exists", "--json", key, MISSING, config=store)
    assert as_json.code == 3
    assert as_json.out == f'{{"id": "{key}", "exists": true}}\n{{"id": "{MISSING}", "exists": false}}\n'
    assert hv("exists", config=store).code == 2
    assert hv("exists", "0", config=store).code == 2


def test_the_command_fails_where_it_cannot_be_known(store, servers):
    key = hv("put", 3, 1, "a=b", config=store).ok().out.strip()
    servers[0].sql("DROP TABLE shard0004.entities")
    some = hv("exists", key, MISSING, config=store)
    assert (some.code, some.out) == (1, f"{key}\n")


def test_python_asks_for_one_and_for_many(db):  # noqa: F811
    key = db.put(3, 1, a="b")
    missing = Key(MISSING)
    assert db.exists(key) is True
    assert db.exists(missing) is False
    assert db.exists_many([key, missing, key]) == [True, False, True]
    assert sorted(db.exists_stream(iter([missing, key]))) == [(0, False), (1, True)]
    with pytest.raises(TypeError):
        db.exists(5)


def test_python_says_which_could_not_be_asked(tmp_path):
    with Datastore([{"host": str(tmp_path), "shards": "1-9"}]) as db:  # nobody listens there
        with pytest.raises(ConnectionError):
            db.exists(Key(1 << 23 | 3 << 10))


def test_a_session_of_an_event_loop_asks_too(db):  # noqa: F811
    async def ask():
        async with aio.Session(db) as session:
            key = await session.put(3, 1, a="b")
            assert await session.exists(key) is True
            assert await session.exists_many([Key(MISSING), key]) == [False, True]

    asyncio.run(ask())
