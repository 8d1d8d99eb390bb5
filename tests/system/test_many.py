"""Many operations of one caller: each succeeds or fails by itself, all servers work at once, memory
is bounded."""

import pytest

from harness import eventually, sanitizers
from harness.store_tool import make_tool, relayed_store  # noqa: F401

pytestmark = pytest.mark.threads

ONE, TWO = 0, 1
SHARDS = list(range(1, 17))


def puts(count, shards=SHARDS, **more):
    """Puts of entities that are numbered, over the shards in turn."""
    return [
        {"shard": shards[i % len(shards)], "kind": i % 100, "dict": {"n": str(i)}, **more}
        for i in range(count)
    ]


def stored(*databases, where="true"):
    """All entities, as {key: the number in it}."""
    found = {}
    for database, shards in zip(databases, (range(1, 9), range(9, 17))):
        for shard in shards:
            rows = database.query(
                f"SELECT id, (body -> 'n')::int FROM shard{shard:04}.entities WHERE {where}"
            )
            found.update(rows)
    return found


def statuses(reply):
    return [item["status"] for item in reply.items]


@pytest.fixture
def tool(make_tool, store):
    return make_tool(store)


def many(tool, operations):
    return tool.main.put_many(operations)


def get_many(tool, keys):
    return tool.main.get_many(keys)


# ---- the result of each operation ----


@pytest.mark.parametrize("count", [0, 1, 2, 255, 1000, 5000])
def test_each_entity_is_stored_under_the_key_at_its_place(tool, servers, count):
    operations = puts(count)
    reply = many(tool, operations).ok()
    assert statuses(reply) == ["HV_OK"] * count
    keys = [item["key"] for item in reply.items]
    assert stored(*servers) == {key: i for i, key in enumerate(keys)}
    assert [key >> 10 & 0x1FFF for key in keys] == [each["shard"] for each in operations]

    again = get_many(tool, keys[::-1]).ok()
    assert [(item["key"], item["kind"], item["dict"]) for item in again.items[::-1]] == [
        (key, each["kind"], each["dict"]) for key, each in zip(keys, operations)
    ]


def test_what_is_not_there_is_not_found_and_no_failure(tool):
    key = tool.main.put(3, 1, {"a": "b"}).ok().key
    missing = 1 << 23 | 3 << 10 | 5
    reply = get_many(tool, [missing, key, missing, key]).ok()
    assert statuses(reply) == ["HV_NOT_FOUND", "HV_OK"] * 2
    assert [item.get("dict") for item in reply.items] == [None, {"a": "b"}] * 2


def test_what_cannot_be_stored_is_reported_as_by_a_single_put(tool, servers):
    wrong = [
        {"shard": 3, "kind": 40000, "dict": {}},
        {"shard": 20, "kind": 1, "dict": {}},
        {"shard": -1, "kind": 1, "dict": {}},
        {"shard": 9000, "kind": 1, "dict": {}},
    ]
    singly = [tool.main.put(each["shard"], each["kind"], each["dict"]).fields for each in wrong]
    reply = many(tool, [*wrong, *puts(3)]).gives("HV_INVALID")
    assert reply.message == singly[0]["message"]
    for item, single in zip(reply.items, singly):
        assert item.pop("key") == 0
        assert item == {name: single[name] for name in single if name in item}
        assert item["message"]
    assert statuses(reply)[4:] == ["HV_OK"] * 3
    assert len(stored(*servers)) == 3


def test_what_is_no_key_is_reported_as_by_a_single_get(tool):
    single = tool.main.get(-5).gives("HV_INVALID")
    reply = get_many(tool, [-5, 1 << 23 | 100 << 10, 1 << 23 | 3 << 10]).gives("HV_INVALID")
    assert statuses(reply) == ["HV_INVALID", "HV_NO_SERVER", "HV_NOT_FOUND"]
    assert reply.items[0]["message"] == reply.message == single.message


def test_a_shard_that_is_not_made_fails_alone_and_says_what_to_do(make_tool, store, servers):
    servers[ONE].sql("DROP SCHEMA shard0002 CASCADE")
    tool = make_tool(store)
    single = tool.main.put(2, 1, {}).gives("HV_NOT_INITIALIZED")
    reply = many(tool, puts(160)).gives("HV_NOT_INITIALIZED")
    for i, item in enumerate(reply.items):
        assert item["status"] == ("HV_NOT_INITIALIZED" if i % 16 == 1 else "HV_OK")
    assert reply.items[1]["message"] == single.message
    assert reply.items[1]["hint"] == single.hint
    assert single.hint.startswith("Run `hv init`.")
    assert reply.items[1]["shard"] == 2


def test_of_a_thousand_puts_only_those_that_a_trigger_refuses_fail(tool, servers):
    for shard in SHARDS[:8]:
        servers[ONE].sql(
            f"""CREATE FUNCTION shard{shard:04}.refuse() RETURNS trigger LANGUAGE plpgsql AS
            $$BEGIN
                IF (new.body -> 'n')::int % 100 = 4 THEN
                    RAISE EXCEPTION 'not this one' USING ERRCODE = 'P0042', HINT = 'Take another.';
                END IF;
                RETURN new;
            END$$;
            CREATE TRIGGER refuse BEFORE INSERT ON shard{shard:04}.entities
            FOR EACH ROW EXECUTE FUNCTION shard{shard:04}.refuse()"""
        )
    reply = many(tool, puts(1000, SHARDS[:8])).gives("HV_REFUSED")
    for i, item in enumerate(reply.items):
        assert item["status"] == ("HV_REFUSED" if i % 100 == 4 else "HV_OK"), i
    refused = reply.items[104]
    assert (refused["message"], refused["hint"]) == ("not this one", "Take another.")
    assert (refused["sqlstate"], refused["server"], refused["shard"]) == ("P0042", "one", 1)
    assert sorted(stored(servers[ONE]).values()) == [i for i in range(1000) if i % 100 != 4]
    assert tool.stats().closed == 0  # a refusal costs no connection


def test_keys_that_are_made_twice_are_made_again(tool, servers):
    """As the portable generator may, in principle."""
    servers[ONE].sql(
        """CREATE SEQUENCE shard0003.calls;
        CREATE OR REPLACE FUNCTION shard0003.next_id() RETURNS bigint LANGUAGE sql AS
        $$SELECT 1::bigint << 43 | 3 << 10 | (nextval('shard0003.calls') / 3)$$"""
    )
    reply = many(tool, puts(40, [3])).ok()
    keys = [item["key"] for item in reply.items]
    assert stored(servers[ONE]) == {key: i for i, key in enumerate(keys)}


# ---- under keys that the caller has ----


def reserved(tool, shard, count):
    return tool.main.reserve(shard, count).ok().keys


def test_entities_go_under_the_keys_that_were_reserved_for_them(tool, servers):
    keys = reserved(tool, 3, 300) + reserved(tool, 12, 300)
    operations = [{"key": key, "kind": 1, "dict": {"n": str(i)}} for i, key in enumerate(keys)]
    reply = many(tool, operations).ok()
    assert [item["key"] for item in reply.items] == keys
    assert stored(*servers) == {key: i for i, key in enumerate(keys)}


def test_to_put_the_same_under_the_same_keys_again_is_safe_and_something_else_a_conflict(
    tool, servers
):
    keys = reserved(tool, 3, 100)
    operations = [{"key": key, "kind": 1, "dict": {"n": str(i)}} for i, key in enumerate(keys)]
    many(tool, operations[:50]).ok()
    many(tool, operations).ok()
    other = [dict(each, dict={"n": "-1"}) for each in operations[:10]] + operations[10:]
    other += [dict(operations[99], kind=2), operations[99]]
    reply = many(tool, other).gives("HV_CONFLICT")
    assert statuses(reply) == ["HV_CONFLICT"] * 10 + ["HV_OK"] * 90 + ["HV_CONFLICT", "HV_OK"]
    single = tool.main.put_key(keys[0], 1, {"n": "-1"}).gives("HV_CONFLICT")
    assert (reply.message, reply.detail, reply.hint) == (
        single.message,
        single.detail,
        single.hint,
    )
    assert stored(*servers) == {key: i for i, key in enumerate(keys)}


def test_of_two_entities_for_one_key_in_one_call_one_is_stored_and_the_other_a_conflict(
    tool, servers
):
    (key,) = reserved(tool, 3, 1)
    reply = many(tool, [{"key": key, "kind": 1, "dict": {"n": str(i)}} for i in range(2)])
    assert sorted(statuses(reply)) == ["HV_CONFLICT", "HV_OK"]
    assert stored(*servers) == {key: statuses(reply).index("HV_OK")}


def test_a_value_that_must_be_unique_is_refused_under_a_reserved_key_too(tool, servers):
    servers[ONE].sql("CREATE UNIQUE INDEX only_one ON shard0003.entities ((body -> 'n'))")
    keys = reserved(tool, 3, 20)
    operations = [{"key": key, "kind": 1, "dict": {"n": str(i % 19)}} for i, key in enumerate(keys)]
    reply = many(tool, operations).gives("HV_REFUSED")
    assert sorted(statuses(reply)) == ["HV_OK"] * 19 + ["HV_REFUSED"]
    assert reply.constraint == "only_one"
    assert len(stored(servers[ONE])) == 19


# ---- servers and connections that fail ----


def test_a_server_that_is_down_fails_its_own_and_no_others(make_tool, own_store, own_servers):
    tool = make_tool(own_store)
    keys = [item["key"] for item in many(tool, puts(160)).ok().items]
    own_servers[TWO].server.kill9()
    reply = many(tool, puts(3200)).gives("HV_UNAVAILABLE")
    for i, item in enumerate(reply.items):
        assert item["status"] == ("HV_OK" if i % 16 < 8 else "HV_UNAVAILABLE"), (i, item)
    assert reply.items[8]["server"] == "two" and reply.items[8]["retriable"]
    reply = get_many(tool, keys).gives("HV_UNAVAILABLE")
    for i, item in enumerate(reply.items):
        assert item["status"] == ("HV_OK" if i % 16 < 8 else "HV_UNAVAILABLE")
    own_servers[TWO].server.start()
    eventually(lambda: get_many(tool, keys).ok())
    eventually(lambda: many(tool, puts(160)).ok())


def test_a_server_that_does_not_answer_does_not_hold_up_the_others(
    make_tool, relayed_store, own_servers
):
    config, between = relayed_store
    tool = make_tool(config, pool_block_timeout="4s", operation_timeout="30s")
    between.stall()
    reply = many(tool, puts(640)).gives("HV_TIMEOUT")
    assert 3900 < reply.ms < 20_000
    for i, item in enumerate(reply.items):
        assert item["status"] == ("HV_OK" if i % 16 >= 8 else "HV_TIMEOUT"), (i, item)
    assert reply.message == 'could not connect to server "one" in time'
    assert len(stored(*own_servers)) == 320
    between.resume()


def test_a_put_whose_answer_does_not_come_in_time_has_an_unknown_outcome_a_get_has_none(
    make_tool, relayed_store, own_servers
):
    config, between = relayed_store
    tool = make_tool(config, operation_timeout="4s")
    keys = [item["key"] for item in many(tool, puts(16)).ok().items]
    between.stall()
    reply = many(tool, puts(160))
    for i, item in enumerate(reply.items):
        assert item["status"] in (
            ["HV_OK"] if i % 16 >= 8 else ["HV_OUTCOME_UNKNOWN", "HV_TIMEOUT"]
        )
    assert "HV_OUTCOME_UNKNOWN" in statuses(reply)
    between.resume()
    eventually(lambda: many(tool, puts(16)).ok())
    many(tool, puts(16)).ok()
    between.stall()
    reply = get_many(tool, keys).gives("HV_TIMEOUT")
    assert [item["status"] for item in reply.items[:8]] == ["HV_TIMEOUT"] * 8
    assert reply.message == 'no answer from server "one" in time'
    between.resume()


@pytest.mark.parametrize("count", [1, 100, 2000])
def test_puts_whose_answers_are_cut_off_have_an_unknown_outcome(
    make_tool, relayed_store, own_servers, count
):
    config, between = relayed_store
    tool = make_tool(config)
    many(tool, puts(2, [1])).ok()
    between.cut_in("to_client", count)
    reply = many(tool, puts(200, [1, 9]))
    seen = {status: statuses(reply).count(status) for status in set(statuses(reply))}
    assert set(seen) <= {"HV_OK", "HV_OUTCOME_UNKNOWN"}
    assert statuses(reply)[1::2] == ["HV_OK"] * 100
    found = stored(*own_servers)
    for i, item in enumerate(reply.items):
        if item["status"] == "HV_OK":
            assert found[item["key"]] == i
        else:
            assert item["message"] == 'connection to server "one" lost during a write'
            assert (item["server"], item["shard"], item["outcome_unknown"]) == ("one", 1, True)


@pytest.mark.parametrize("count", [1, 100, 2000])
def test_gets_whose_answers_are_cut_off_are_repeated_unseen(make_tool, relayed_store, count):
    config, between = relayed_store
    tool = make_tool(config)
    keys = [item["key"] for item in many(tool, puts(400)).ok().items]
    between.cut_in("to_client", count)
    reply = get_many(tool, keys).ok()
    assert [item["dict"]["n"] for item in reply.items] == [str(i) for i in range(400)]


@pytest.mark.parametrize("direction, count", [("to_client", 1), ("to_client", 900), ("to_server", 9)])
def test_exactly_once_leaves_one_entity_over_a_connection_that_breaks(
    make_tool, relayed_store, own_servers, direction, count
):
    config, between = relayed_store
    tool = make_tool(config, exactly_once="on")
    many(tool, puts(4)).ok()
    between.cut_in(direction, count)
    reply = many(tool, puts(1600)).ok()
    found = stored(*own_servers)
    assert len(found) == 1604
    for i, item in enumerate(reply.items):
        assert found[item["key"]] == i


def test_exactly_once_waits_for_a_server_that_is_restarted(make_tool, own_store, own_servers):
    tool = make_tool(own_store, exactly_once="on")
    many(tool, puts(16)).ok()
    own_servers[ONE].server.kill9()
    putting = tool.main.begin.put_many(puts(800))
    own_servers[ONE].server.start()
    assert putting.reply().ok()
    assert len(stored(*own_servers)) == 816


# One row waits for an advisory lock: as long as that is held, the middle is not over.
HOLD_UP = """
    CREATE FUNCTION hold_up() RETURNS trigger LANGUAGE plpgsql AS
        $$BEGIN PERFORM pg_advisory_xact_lock(1); RETURN new; END$$;
    CREATE TRIGGER hold_up BEFORE INSERT ON shard0001.entities FOR EACH ROW
        WHEN (new.body OPERATOR(public.->) 'n' = '20000') EXECUTE FUNCTION hold_up()"""


def test_a_server_that_is_killed_in_the_middle_is_reported_truly(make_tool, own_store, own_servers):
    tool = make_tool(own_store)
    many(tool, puts(16)).ok()
    own_servers[ONE].sql(HOLD_UP)
    with own_servers[ONE].connect() as holder:
        holder.cursor().execute("SELECT pg_advisory_lock(1)")
        putting = tool.main.begin.put_many(puts(40000))
        eventually(lambda: len(stored(own_servers[ONE])) > 500)
        own_servers[ONE].server.kill9()
    reply = putting.reply()
    own_servers[ONE].server.start()
    found = stored(*own_servers)
    seen = set()
    for i, item in enumerate(reply.items):
        seen.add(item["status"])
        if item["status"] == "HV_OK":
            assert found[item["key"]] == i
        elif item["status"] != "HV_OUTCOME_UNKNOWN":
            assert i not in found.values() or i < 16
    assert "HV_OK" in seen and seen & {"HV_OUTCOME_UNKNOWN", "HV_UNAVAILABLE"}


# ---- connections of the pool ----


def test_it_waits_in_line_for_a_connection_like_anybody(make_tool, store):
    tool = make_tool(store, pool_max=1)
    ann, bob = tool.threads("ann", "bob")
    ann.acquire(3).ok()
    putting = bob.begin.put_many(puts(10, [3]))
    eventually(lambda: tool.stats().waiting == 1)
    assert not putting.done
    ann.release().ok()
    putting.reply().ok()


def test_it_says_so_when_no_connection_comes_free(make_tool, store):
    tool = make_tool(store, pool_max=1, pool_block_timeout="4s")
    ann, bob = tool.threads("ann", "bob")
    ann.acquire(3).ok()
    bob.put(9, 1, {}).ok()
    single = bob.put(3, 1, {}).gives("HV_TIMEOUT")
    late = bob.put_many(puts(32)).gives("HV_TIMEOUT")
    assert late.message == single.message
    for i, item in enumerate(late.items):
        assert item["status"] == ("HV_TIMEOUT" if i % 16 < 8 else "HV_OK")
    ann.release().ok()
    bob.put_many(puts(32)).ok()
    assert tool.stats().waiting == 0


def test_it_leaves_the_others_their_turn(make_tool, store):
    """One connection, one caller with very much to do, and another with little."""
    tool = make_tool(store, pool_max=1, pool_block_timeout="1min")
    ann, bob = tool.threads("ann", "bob")
    count = 60_000 if sanitizers() else 150_000
    putting = ann.begin.stream(count, [3])
    eventually(lambda: tool.stats().lent == 1)
    turns = [(bob.begin.acquire(3), bob.begin.release()) for _ in range(5)]
    assert putting.reply().ok().statuses == {"HV_OK": count}
    for acquired, released in turns:
        acquired.reply().ok()
        released.reply().ok()
    assert released.place < putting.place


def test_a_closed_store_does_nothing_more(make_tool, store):
    tool = make_tool(store)
    tool.main.acquire(3).ok()
    tool.main.close(0).gives("HV_BUSY")
    reply = many(tool, puts(3)).gives("HV_CLOSED")
    assert statuses(reply) == ["HV_CLOSED"] * 3
    assert statuses(get_many(tool, [5 << 23, 6 << 23])) == ["HV_CLOSED"] * 2
    tool.main.release().ok()


def test_statements_that_somebody_dropped_are_prepared_again(make_tool, store):
    tool = make_tool(store, pool_max=1)
    many(tool, puts(64, [3, 4])).ok()
    tool.main.acquire(3).ok()
    tool.main.sql("DEALLOCATE ALL").ok()
    tool.main.release().ok()
    keys = [item["key"] for item in many(tool, puts(64, [3, 4])).ok().items]
    get_many(tool, keys).ok()


def test_more_shards_than_statements_that_are_kept(make_tool, store):
    tool = make_tool(store, prepared_max=3)
    for _ in range(3):
        keys = [item["key"] for item in many(tool, puts(320)).ok().items]
        get_many(tool, keys).ok()
    assert tool.stats().closed == 0


# ---- more than fits in memory ----


@pytest.mark.parametrize("shards", [[3], SHARDS])
def test_a_stream_is_put_and_got_again(tool, shards):
    reply = tool.main.stream(30000, shards, 0, True).ok()
    assert reply.statuses == reply.get_statuses == {"HV_OK": 30000}
    assert reply.get_status == "HV_OK"


@pytest.mark.skipif(bool(sanitizers()), reason="a sanitizer keeps memory for itself")
@pytest.mark.parametrize("count, filler", [(300000, 0), (3000, 20000), (40, 3000000)])
def test_memory_is_bounded_whatever_the_number(tool, count, filler):
    """hypervault.h says 16 MB a server, besides an entity that is larger."""
    reply = tool.main.stream(count, SHARDS, filler).ok()
    assert reply.statuses == {"HV_OK": count}
    assert reply.grown <= 2 * 16 * 1024 + 4 * filler / 1024
