"""Rows that a trigger or a rule keeps from being stored are reported as that, by each way to store."""

import time

import pytest

from harness import eventually
from harness.store_tool import make_tool, step  # noqa: F401
from swallowing import rename, rule, stored, swallow

pytestmark = pytest.mark.threads

SHARD = 3
GONE = "new.type = 5"  # a trigger's condition …
KEPT_KIND, GONE_KIND = 1, 5  # … and the kinds that it means
NOT_STORED = "HV_NOT_STORED"


@pytest.fixture
def tool(make_tool, store):
    return make_tool(store)


@pytest.fixture
def database(servers):
    return servers[0]


def reserve(tool, count=1, shard=SHARD):
    return tool.main.reserve(shard, count).ok().keys


def entity(number, kind=KEPT_KIND, **more):
    return {"shard": SHARD, "kind": kind, "dict": {"n": str(number)}, **more}


def many(tool, operations):
    return tool.main.put_many(operations)


def statuses(reply):
    return [item["status"] for item in reply.items]


def assert_says_why(reply, cause=("trigger", "rule")):
    """The error of a row that is not stored."""
    fields = reply if isinstance(reply, dict) else reply.fields
    assert fields["status"] == NOT_STORED, fields
    assert fields["shard"] == SHARD and fields["server"] == "one"
    causes = (cause,) if isinstance(cause, str) else cause
    assert any(each in fields["message"] + fields["detail"] for each in causes), fields
    assert f"shard{SHARD:04}.entities" in fields["hint"], fields
    assert not fields["retriable"] and not fields["outcome_unknown"]


WAYS = [pytest.param(swallow, id="trigger"), pytest.param(rule, id="rule")]


# ---- one at a time ----


@pytest.mark.parametrize("keep_out", WAYS)
@pytest.mark.parametrize("exactly_once", ["off", "on"])
def test_a_put_that_is_not_stored_says_so(make_tool, store, database, keep_out, exactly_once):
    tool = make_tool(store, exactly_once=exactly_once, operation_timeout="30s")
    key = tool.main.put(SHARD, 1, {"n": "0"}).ok().key
    keep_out(database)
    for number in range(3):
        assert_says_why(tool.main.put(SHARD, 1, {"n": str(number)}))
    assert list(stored(database)) == [key]


@pytest.mark.parametrize("keep_out", WAYS)
def test_a_put_under_a_key_that_is_not_stored_says_so(tool, database, keep_out):
    keep_out(database)
    (key,) = reserve(tool)
    assert_says_why(tool.main.put_key(key, 1, {"n": "1"}))
    tool.main.get(key).gives("HV_NOT_FOUND")


def test_what_lies_under_a_key_already_is_stored_though_a_trigger_is_there_now(tool, database):
    (key, other) = reserve(tool, 2)
    tool.main.put_key(key, 1, {"n": "1"}).ok()
    swallow(database)
    tool.main.put_key(key, 1, {"n": "1"}).ok()
    tool.main.put_key(key, 1, {"n": "2"}).gives("HV_CONFLICT")
    reply = many(
        tool,
        [
            {"key": key, "kind": 1, "dict": {"n": "1"}},
            {"key": other, "kind": 1, "dict": {"n": "1"}},
        ],
    )
    assert statuses(reply) == ["HV_OK", NOT_STORED]


def test_a_key_that_a_trigger_makes_is_the_key_that_is_returned(make_tool, store, database):
    rename(database)
    for exactly_once in ("off",):
        tool = make_tool(store, exactly_once=exactly_once)
        keys = [tool.main.put(SHARD, 1, {"n": str(n)}).ok().key for n in range(3)]
        keys += [item["key"] for item in many(tool, [entity(n) for n in range(3, 30)]).ok().items]
        assert {key: number for key, (_, number) in stored(database).items()} == {
            key: number for number, key in enumerate(keys)
        }


@pytest.mark.parametrize("exactly_once", ["off", "on"])
def test_under_a_key_that_a_trigger_changes_nothing_is_stored(
    make_tool, store, database, exactly_once
):
    tool = make_tool(store, exactly_once=exactly_once)
    rename(database)
    keys = reserve(tool, 30)
    assert_says_why(tool.main.put_key(keys[0], 1, {"n": "1"}), "changes the key")
    reply = many(tool, [{"key": key, "kind": 1, "dict": {}} for key in keys])
    for item in reply.items:
        assert_says_why(item, "changes the key")
    if exactly_once == "on":
        assert_says_why(tool.main.put(SHARD, 1, {}), "changes the key")
        for item in many(tool, [entity(n) for n in range(30)]).items:
            assert_says_why(item, "changes the key")
    assert stored(database) == {}


def test_rows_that_a_policy_hides_are_neither_stored_twice_nor_waited_for(
    make_tool, store, database, tmp_path
):
    """The key has an entity that this role may not see."""
    tool = make_tool(store, operation_timeout="60s")
    (key,) = reserve(tool)
    tool.main.put_key(key, 5, {"n": "1"}).ok()
    database.sql(
        f"ALTER TABLE shard{SHARD:04}.entities ENABLE ROW LEVEL SECURITY;"
        f"ALTER TABLE shard{SHARD:04}.entities FORCE ROW LEVEL SECURITY;"
        f"CREATE POLICY hide ON shard{SHARD:04}.entities USING (type <> 5);"
        "CREATE ROLE hidden_from LOGIN NOSUPERUSER;"
        f"GRANT USAGE ON SCHEMA shard{SHARD:04}, hypervault TO hidden_from;"
        f"GRANT ALL ON ALL TABLES IN SCHEMA shard{SHARD:04}, hypervault TO hidden_from;"
        f"GRANT ALL ON ALL SEQUENCES IN SCHEMA shard{SHARD:04} TO hidden_from"
    )
    try:
        other = make_tool(store, opened=False)
        other.main.open(store, {"operation_timeout": "60s"}).ok()
        started = time.monotonic()
        ann = other.main
        ann.acquire(SHARD).ok()
        ann.sql("SET ROLE hidden_from").ok()
        ann.release().ok()
        ann.put_key(key, 1, {"n": "1"}).gives("HV_CONFLICT")
        reply = many(other, [{"key": key, "kind": 1, "dict": {"n": "1"}}])
        assert statuses(reply) == ["HV_CONFLICT"]
        ann.put(SHARD, 1, {"n": "2"}).ok()
        ann.put(SHARD, 5, {"n": "2"}).gives("HV_REFUSED")
        assert time.monotonic() - started < 30
    finally:
        other.finish()
        database.sql("DROP OWNED BY hidden_from; DROP ROLE hidden_from")
    assert sorted(stored(database).values()) == [(1, 2), (5, 1)]


# ---- many at a time ----


@pytest.mark.parametrize("keep_out", WAYS)
@pytest.mark.parametrize("given", [False, True], ids=["made", "given"])
@pytest.mark.parametrize("exactly_once", ["off", "on"])
@pytest.mark.parametrize("count", [1, 2, 500])
def test_many_puts_that_are_not_stored_say_so_each(
    make_tool, store, database, keep_out, given, exactly_once, count
):
    tool = make_tool(store, exactly_once=exactly_once, operation_timeout="30s")
    keep_out(database)
    keys = reserve(tool, count) if given else [0] * count
    more = [{"key": key} if given else {} for key in keys]
    reply = many(tool, [entity(n, **each) for n, each in enumerate(more)])
    for item, key in zip(reply.items, keys):
        assert_says_why(item)
        assert item["key"] == key
    assert stored(database) == {}


@pytest.mark.parametrize("given", [False, True], ids=["made", "given"])
@pytest.mark.parametrize("exactly_once", ["off", "on"])
def test_of_many_puts_only_those_that_a_trigger_takes_are_not_stored(
    make_tool, store, database, given, exactly_once
):
    tool = make_tool(store, exactly_once=exactly_once, operation_timeout="30s")
    swallow(database, GONE)
    count = 2000
    kinds = [GONE_KIND if n % 7 == 0 or 300 < n < 400 else KEPT_KIND for n in range(count)]
    keys = reserve(tool, count) if given else []
    more = [{"key": key} for key in keys] or [{}] * count
    reply = many(tool, [entity(n, kind, **each) for n, (kind, each) in enumerate(zip(kinds, more))])
    found = stored(database)
    for number, (kind, item) in enumerate(zip(kinds, reply.items)):
        if kind == GONE_KIND:
            assert_says_why(item)
        else:
            assert item["status"] == "HV_OK"
            assert found.pop(item["key"]) == (kind, number)
    assert found == {}  # everything that is there was reported, and nothing is there twice


def test_a_partition_that_takes_rows_away_is_seen_too(tool, database):
    """The trigger is on the partition, not on the table that is put into."""
    name = f"shard{SHARD:04}.entities"
    database.sql(
        f"ALTER TABLE {name} RENAME TO old;"
        f"CREATE TABLE {name} (LIKE {name[:9]}.old INCLUDING ALL) PARTITION BY RANGE (id);"
        f"CREATE TABLE {name}_1 PARTITION OF {name} DEFAULT;"
        "CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NULL; END$$;"
        f"CREATE TRIGGER swallow BEFORE INSERT ON {name}_1"
        f" FOR EACH ROW WHEN ({GONE}) EXECUTE FUNCTION public.swallow()"
    )
    tool.main.put(SHARD, KEPT_KIND, {"n": "0"}).ok()
    assert_says_why(tool.main.put(SHARD, GONE_KIND, {"n": "1"}))
    reply = many(tool, [entity(n, n % 3 * 5 or KEPT_KIND) for n in range(2, 200)])
    kinds = [n % 3 * 5 or KEPT_KIND for n in range(2, 200)]
    assert statuses(reply) == [NOT_STORED if kind == GONE_KIND else "HV_OK" for kind in kinds]
    assert len(stored(database)) == 1 + statuses(reply).count("HV_OK")


# ---- in lanes ----


@pytest.mark.parametrize("given", [False, True], ids=["made", "given"])
@pytest.mark.parametrize("exactly_once", ["off", "on"])
def test_in_a_lane_only_those_that_a_trigger_takes_are_not_stored(
    make_tool, store, database, given, exactly_once
):
    tool = make_tool(
        store, log=True, lanes=1, pool_max=1, exactly_once=exactly_once, pool_block_timeout="30s"
    )
    swallow(database, GONE)
    count = 40
    keys = reserve(tool, count) if given else [None] * count
    kinds = [GONE_KIND if n % 3 == 0 else KEPT_KIND for n in range(count)]
    operations = [
        step("put_key", key, kind, {"n": str(n)}) if given else step("put", SHARD, kind, {"n": str(n)})
        for n, (key, kind) in enumerate(zip(keys, kinds))
    ]
    tool.main.put(1, 0, {}).ok()  # there is a connection: opening one has a log too
    tool.main.hold("log", True)
    holder = tool.threads("holder")[0].begin.put(1, 0, {})
    eventually(lambda: tool.main.hold("log", True).waiting == 1)
    threads = tool.threads(*(f"t{n}" for n in range(count)))
    pending = [tool.send(thread.name, each) for thread, each in zip(threads, operations)]
    eventually(lambda: tool.sleepers() == count)
    tool.threads("letting_go")[0].hold("log", False)
    holder.reply().ok()
    found = stored(database, [SHARD])
    for number, (kind, key, each) in enumerate(zip(kinds, keys, pending)):
        reply = each.reply()
        found = stored(database, [SHARD]) if number == 0 else found
        if kind == GONE_KIND:
            assert_says_why(reply)
        else:
            reply.ok()
    assert sorted(stored(database, [SHARD]).values()) == [
        (kind, n) for n, kind in enumerate(kinds) if kind == KEPT_KIND
    ]
    if not given:
        assert set(stored(database, [SHARD])) == {
            each.reply().key for each, kind in zip(pending, kinds) if kind == KEPT_KIND
        }
