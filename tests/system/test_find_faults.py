"""Finding entities while something is wrong: an error that names server and shard, or with a partial
selection the rest and what is missing; never a silently shorter answer."""

import contextlib
import os
import signal
import time

import pytest

from harness import Database, eventually, make_shards, store_config
from harness.store_tool import make_tool, relayed_store, step  # noqa: F401

from test_find import ONE, SHARDS, TWO, fill, find, shard_of

pytestmark = pytest.mark.threads


@pytest.fixture
def tool(make_tool, store):
    return make_tool(store)


def of_shards(everything, shards):
    return [e for e in everything if shard_of(e[0]) in shards]


def missing(tool):
    return [(m["status"], m["server"], m["shard"]) for m in tool.main.missing().items]


@contextlib.contextmanager
def locked(database, shard):
    with database.connect() as blocker:
        blocker.autocommit = False
        blocker.cursor().execute(f"LOCK TABLE shard{shard:04}.entities")
        yield


# ---- what cannot be ----


def test_a_shard_that_no_server_holds(tool):
    reply = tool.main.find({"shards": "3,20"}).gives("HV_NO_SERVER")
    assert reply.shard == 20
    tool.main.find({"shards": "3,20", "partial": True}).gives("HV_NO_SERVER")


def test_a_server_that_is_skipped(tool):
    everything = fill(tool, 300)
    assert find(tool, skip=["two"]) == of_shards(everything, range(1, 9))
    assert missing(tool) == [("HV_UNAVAILABLE", "two", -1)]
    assert tool.main.missing().items[0]["detail"] == "Left out: the shards 9-17."
    assert find(tool, skip=["two"], shards="2,9-12") == of_shards(everything, [2])
    assert tool.main.missing().items[0]["detail"] == "Left out: the shards 9-12."
    assert find(tool, skip=["two"], shards="2") == of_shards(everything, [2])
    assert tool.main.missing().items == []
    assert find(tool, skip=["one", "two"]) == []
    tool.main.find({"skip": ["three"]}).gives("HV_INVALID")


# ---- shards ----


@pytest.mark.parametrize("partial", [False, True])
@pytest.mark.parametrize("shards", [None, "1-6", "5"])
def test_a_shard_that_is_missing(tool, servers, partial, shards):
    everything = fill(tool, 500)
    servers[ONE].sql("DROP SCHEMA shard0005 CASCADE")
    wanted = {} if shards is None else {"shards": shards}
    tool.main.find({**wanted, "partial": partial}).ok()
    reply = tool.main.next()
    if partial:
        asked = {None: range(1, 17), "1-6": range(1, 6), "5": [5]}[shards]
        reply.gives("HV_NOT_FOUND")
        assert reply.items == of_shards(everything, set(asked) - {5})
        assert missing(tool) == [("HV_NOT_INITIALIZED", "one", 5)]
    else:
        reply.gives("HV_NOT_INITIALIZED")
        assert (reply.server, reply.shard, reply.items) == ("one", 5, [])
        again = tool.main.next().gives("HV_NOT_INITIALIZED")
        assert again.message == reply.message
    assert tool.main.find({}).ok()


def test_several_shards_that_fail_in_different_ways(tool, servers):
    everything = fill(tool, 500)
    servers[ONE].sql("DROP SCHEMA shard0001 CASCADE")
    servers[ONE].sql("ALTER TABLE shard0002.entities ALTER COLUMN type TYPE integer")
    servers[TWO].sql("ALTER TABLE shard0016.entities DROP COLUMN body")
    assert find(tool, partial=True) == of_shards(everything, range(3, 16))
    assert sorted(missing(tool)) == [
        ("HV_CORRUPT", "one", 2),
        ("HV_NOT_INITIALIZED", "one", 1),
        ("HV_REFUSED", "two", 16),
    ]


def test_a_shard_that_goes_in_the_middle(tool, servers):
    everything = fill(tool, 6000)
    tool.main.find({"partial": True}).ok()
    found = tool.main.next(100).ok().items
    servers[TWO].sql("DROP SCHEMA shard0010 CASCADE")
    found += tool.main.next().gives("HV_NOT_FOUND").items
    keys = [e[0] for e in found]
    assert keys == sorted(set(keys))
    others = set(range(1, 17)) - {10}
    assert of_shards(found, others) == of_shards(everything, others)
    assert missing(tool) == [("HV_NOT_INITIALIZED", "two", 10)]


@pytest.mark.parametrize("column, value", [("type", "1"), ("body", "''")])
def test_an_entity_without_kind_or_attributes(tool, servers, column, value):
    everything = fill(tool, 300)
    bad = of_shards(everything, [12])[7]
    place = next(i for i, e in enumerate(everything) if e[0] == bad[0])
    servers[TWO].sql(f"ALTER TABLE shard0012.entities ALTER COLUMN {column} DROP NOT NULL")
    servers[TWO].sql(f"UPDATE shard0012.entities SET {column} = NULL WHERE id = {bad[0]}")
    tool.main.find({}).ok()
    reply = tool.main.next().gives("HV_CORRUPT")
    assert str(bad[0]) in reply.message and (reply.server, reply.shard) == ("two", 12)
    assert reply.items == everything[:place]
    assert find(tool, after=bad[0]) == everything[place + 1 :]
    found = find(tool, partial=True)
    assert found == [e for e in everything if shard_of(e[0]) != 12 or e[0] < bad[0]]
    assert missing(tool) == [("HV_CORRUPT", "two", 12)]


def test_an_entity_of_another_shard(tool, servers):
    fill(tool, 300)
    servers[ONE].sql(f"INSERT INTO shard0003.entities VALUES ({(9 << 23) + (12 << 10)}, 1, '')")
    tool.main.find({}).ok()
    reply = tool.main.next().gives("HV_CORRUPT")
    assert (reply.server, reply.shard) == ("one", 3)
    assert str((9 << 23) + (12 << 10)) in reply.detail


# ---- servers ----


@pytest.mark.parametrize("partial", [False, True])
def test_a_server_that_is_down(make_tool, own_store, own_servers, partial):
    tool = make_tool(own_store)
    everything = fill(tool, 300)
    own_servers[TWO].server.stop("immediate")
    tool.main.find({"partial": partial}).ok()
    reply = tool.main.next()
    if partial:
        assert reply.gives("HV_NOT_FOUND").items == of_shards(everything, range(1, 9))
        assert missing(tool) == [("HV_UNAVAILABLE", "two", -1)]
        assert "the shards 9-17" in tool.main.missing().items[0]["detail"]
    else:
        assert reply.gives("HV_UNAVAILABLE").server == "two"


@pytest.mark.parametrize("partial", [False, True])
@pytest.mark.parametrize("newest", [False, True])
def test_a_server_that_is_killed_in_the_middle(make_tool, own_store, own_servers, partial, newest):
    tool = make_tool(own_store)
    everything = fill(tool, 6000)[:: -1 if newest else 1]
    tool.main.find({"partial": partial, "newest": newest}).ok()
    found = tool.main.next(50).ok().items
    own_servers[ONE].server.stop("immediate")
    reply = tool.main.next()
    found += reply.items
    keys = [e[0] for e in found]
    assert keys == sorted(set(keys), reverse=newest)
    if partial:
        reply.gives("HV_NOT_FOUND")
        assert of_shards(found, range(9, 17)) == of_shards(everything, range(9, 17))
        assert missing(tool) == [("HV_UNAVAILABLE", "one", -1)]
    else:
        assert reply.gives("HV_UNAVAILABLE").server == "one"
        assert found == everything[: len(found)]
        own_servers[ONE].server.start()
        tool.main.reinstantiate()
        assert found + find(tool, after=keys[-1], newest=newest) == everything


def test_a_connection_that_is_lost_is_not_noticed(make_tool, relayed_store):
    path, relay = relayed_store
    tool = make_tool(path, pool_max=1)
    everything = fill(tool, 3000)
    tool.main.find({}).ok()
    found = tool.main.next(100).ok().items
    relay.cut()
    assert found + tool.main.next().gives("HV_NOT_FOUND").items == everything


# ---- time ----


def test_an_answer_that_is_late(make_tool, store, servers):
    tool = make_tool(store, operation_timeout="300ms")
    everything = fill(tool, 100)
    with locked(servers[ONE], 3):
        tool.main.find({}).ok()
        reply = tool.main.next().gives("HV_TIMEOUT")
        assert reply.server == "one" and reply.ms > 250 and reply.message is not None
        assert find(tool, partial=True) == of_shards(everything, range(9, 17))
        assert missing(tool) == [("HV_TIMEOUT", "one", -1)]
        tool.main.find({"timeout": 1000}).ok()
        assert tool.main.next().gives("HV_TIMEOUT").ms > 900
        tool.main.find({"timeout": -1}).ok()
        assert tool.main.next(1, 700).gives("HV_TIMEOUT").message is None
    assert tool.main.next().gives("HV_NOT_FOUND").items == everything
    assert find(tool) == everything


@pytest.mark.parametrize("what", ["find", "get_many"])
def test_what_arrived_while_the_process_was_stopped_counts(make_tool, store, servers, what):
    tool = make_tool(store, operation_timeout="2s")
    body = {"a": "x" * 1000}
    keys = [tool.main.put(3, 1, body).ok().key for _ in range(60)]
    assert len(find(tool)) == 60  # both servers have a connection
    with locked(servers[ONE], 3):
        if what == "find":
            tool.main.find({}).ok()
            waiting = tool.main.begin.next()
        else:
            waiting = tool.main.begin.get_many(keys)
        eventually(lambda: servers[ONE].value("SELECT count(*) FROM pg_locks WHERE NOT granted"))
        os.kill(tool.process.pid, signal.SIGSTOP)
    time.sleep(2.5)  # more than the time-out
    os.kill(tool.process.pid, signal.SIGCONT)
    reply = waiting.reply().gives("HV_NOT_FOUND" if what == "find" else "HV_OK")
    assert len(reply.items) == len(keys)


def test_an_interrupt_ends_the_wait_and_not_the_reader(make_tool, store, servers):
    tool = make_tool(store, interrupts=True)
    everything = fill(tool, 1000)
    bob = tool.threads("bob")[0]
    with locked(servers[ONE], 3):
        bob.find({}).ok()
        waiting = bob.begin.next()
        eventually(lambda: servers[ONE].value("SELECT count(*) FROM pg_locks WHERE NOT granted"))
        tool.interrupt(bob)
        reply = waiting.reply().gives("HV_TIMEOUT")
        assert "interrupted" in reply.message
    assert bob.next().gives("HV_NOT_FOUND").items == everything


# ---- the rest of the program ----


def test_what_a_borrower_does_to_prepared_statements(make_tool, store):
    tool = make_tool(store, pool_max=1)
    everything = fill(tool, 4000)
    tool.main.find({}).ok()
    found = tool.main.next(250).ok().items
    for shard in (1, 9):
        tool.main.acquire(shard).ok()
        tool.main.sql("DEALLOCATE ALL").ok()
        tool.main.release().ok()
    assert found + tool.main.next().gives("HV_NOT_FOUND").items == everything


def test_types_that_are_made_anew(make_tool, store, servers):
    """The attributes go with their type; what is put from then on is found by new attributes."""
    tool = make_tool(store)
    everything = fill(tool, 2000)
    assert find(tool, equal={"user": "1"}, kinds=[1], limit=3)  # prepared
    tool.main.find({}).ok()
    found = tool.main.next(100).ok().items
    for database, shards in zip(servers, (range(1, 9), range(9, 17))):
        database.sql(
            "DROP EXTENSION hstore CASCADE; CREATE EXTENSION hstore;"
            + "".join(
                f"ALTER TABLE shard{shard:04}.entities ADD COLUMN body hstore NOT NULL"
                " DEFAULT 'user=>1';"
                for shard in shards
            )
        )
    found += tool.main.next().gives("HV_NOT_FOUND").items
    assert [e[0] for e in found] == [e[0] for e in everything]
    ones = [e[0] for e in everything if e[1] == 1]
    assert [e[0] for e in find(tool, equal={"user": "1"}, kinds=[1], limit=3)] == ones[:3]


def test_a_database_in_another_encoding(make_tool, shared_servers, tmp_path):
    server = shared_servers[ONE]
    made = Database(server, "find_latin1")
    server.sql(
        "CREATE DATABASE find_latin1 ENCODING 'LATIN1' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'"
    )
    try:
        config = store_config(tmp_path / "latin1.conf", {"one": (made, "1-5")})
        make_shards(config, made)
        tool = make_tool(config)
        key = tool.main.put(3, 1, {"ä": "ö", "n": None, "b": "1"}).ok().key
        assert find(tool) == [[key, 1, {"ä": "ö", "n": None, "b": "1"}]]
        assert find(tool, equal={"ä": "ö"}, only=["n"]) == [[key, 1, {"n": None}]]
        tool.finish()
    finally:
        made.drop()


@pytest.mark.parametrize("prepare", ["off", "on"])
def test_without_prepared_statements(make_tool, store, prepare):
    tool = make_tool(store, prepare=prepare, prepared_max=1)
    everything = fill(tool, 1500)
    assert find(tool) == everything
    assert find(tool, kinds=[1], newest=True) == [e for e in everything[::-1] if e[1] == 1]


def test_an_open_reader_keeps_the_store_from_closing(make_tool, store):
    tool = make_tool(store)
    fill(tool, 3000)
    tool.main.find({}).ok()
    tool.main.next(10).ok()
    tool.main.close(0).gives("HV_BUSY")
    reply = tool.main.next().gives("HV_CLOSED")
    assert reply.items == []
    tool.main.find({}, reader="other").gives("HV_CLOSED")
    tool.main.reader_close().ok()


def test_in_a_forked_child_it_can_only_be_closed(tool):
    everything = fill(tool, 3000)
    tool.main.find({}).ok()
    found = tool.main.next(300).ok().items
    child = [
        step("next", 1),
        step("reader_close"),
        step("find", {"limit": 5}),
        step("next"),
        step("reader_close"),
    ]
    reply = tool.main.fork(child).ok()
    assert [one.status for one in reply.child] == [
        "HV_INVALID",
        None,
        "HV_OK",
        "HV_NOT_FOUND",
        None,
    ]
    assert reply.child[3].items == everything[:5]
    assert found + tool.main.next().gives("HV_NOT_FOUND").items == everything


@pytest.mark.parametrize("partial", [False, True])
def test_a_login_that_is_refused_is_the_servers_failure(
    make_tool, store, servers, tmp_path, partial
):
    """The role may read server one's shards, but not the layout that each new connection checks."""
    role = f"limited_{servers[ONE].dbname}"
    servers[ONE].sql(f"CREATE ROLE {role} LOGIN")
    try:
        for shard in range(1, 9):
            servers[ONE].sql(
                f"GRANT USAGE ON SCHEMA shard{shard:04} TO {role};"
                f"GRANT SELECT ON shard{shard:04}.entities TO {role}"
            )
        limited = {**servers[ONE].params(), "user": role}
        both = {"one": (limited, "1-9"), "two": (servers[TWO], "9-17")}
        tool = make_tool(store_config(tmp_path / "limited.conf", both))
        everything = fill(make_tool(store), 100)
        tool.main.find({"partial": partial}).ok()
        reply = tool.main.next()
        if partial:
            assert reply.gives("HV_NOT_FOUND").items == of_shards(everything, range(9, 17))
            assert missing(tool) == [("HV_REFUSED", "one", -1)]
        else:
            assert reply.gives("HV_REFUSED").server == "one"
        tool.finish()
    finally:
        servers[ONE].sql(f"DROP OWNED BY {role}; DROP ROLE {role}")
