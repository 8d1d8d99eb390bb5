"""Operations on one key end as if they had run one after the other, in the order in which their
callers came: those of one batch too."""

import os
import random

import pytest

from change_model import random_change, random_operation, random_put, run, shown
from changing import SHARD, changed, content, shared_tool  # noqa: F401
from harness import eventually
from harness.store_tool import Reply, make_tool, step  # noqa: F401
from lanes import lane_kept

pytestmark = [pytest.mark.threads, pytest.mark.races]

FIRST_SEED = int(os.environ.get("HV_TEST_SEED", "0"))
SEEDS = range(FIRST_SEED, FIRST_SEED + 6)


@pytest.fixture
def tool(make_tool, changed):
    """With one lane, which is all of the pool."""
    path, _ = changed
    return make_tool(path, log=True, lanes=1, pool_max=1, pool_block_timeout="30s")


@pytest.fixture
def database(changed):
    return changed[1][0]


def put(tool, kind=1, body=None, shard=SHARD):
    return tool.main.put(shard, kind, {"n": "0"} if body is None else body).ok().key


def command(operation):
    """The operation as a command of the tool."""
    fields = dict(operation)
    if "change" in fields:
        return step(fields.pop("change"), **fields)
    if "kind" in fields:
        return step("put_key", **fields)
    if fields.pop("exists", False):
        return step("exists", **fields)
    return step("get_only" if "names" in fields else "get", **fields)


def seen(reply):
    """(status, what it shows of the entity)"""
    return reply.status, (reply.kind, reply.dict) if reply.dict is not None else None


class Course:
    """Entities in memory, and what operations on them have to give, one after the other."""

    def __init__(self, states):
        self.states = states

    def expect(self, operation):
        key = operation["key"]
        status, self.states[key] = run(operation, self.states[key])
        return status, shown(operation, status, self.states[key])

    def assert_left(self, database):
        there = {key: state for key, state in self.states.items() if state is not None}
        assert content(database, list(self.states)) == there


def in_lanes(tool, operations):
    """Each by a thread of its own, which comes after the one before; all of them in one batch."""
    threads = tool.threads(*(f"t{number}" for number in range(len(operations))))
    pending = []
    with lane_kept(tool):
        for thread, operation in zip(threads, operations):
            pending.append(tool.send(thread.name, command(operation)))
            eventually(lambda: tool.sleepers() == len(pending), interval=0.001)
    return [one.reply() for one in pending]


def in_a_queue(tool, operations):
    tool.main.queue_new().ok()
    for item in tool.main.queue_add(operations).items:
        assert item["status"] == "HV_OK", item
    done = {item["tag"]: Reply(item) for item in tool.main.queue_advance(-1, True).items}
    tool.main.queue_free()
    return [done[tag] for tag in range(len(operations))]


def at_once(tool, operations):
    return [Reply(item) for item in tool.main.change_many(operations).items]


def steps_of(key):
    """Every verb, each of which sees what the one before has done."""
    return [
        {"change": "merge", "key": key, "dict": {"a": "1"}},
        {"key": key},
        {"change": "increment", "key": key, "attribute": "n", "amount": "1"},
        {"change": "merge", "key": key, "dict": {"b": "2"}, "condition": {"has": {"n": "1"}}},
        {"change": "increment", "key": key, "attribute": "n", "amount": "1"},
        {"change": "replace", "key": key, "kind": 5, "dict": {"r": "1"},
         "condition": {"has": {"n": "2", "b": "2"}}},
        {"key": key, "names": ["r"]},
        {"change": "replace", "key": key, "kind": 6, "dict": {"r": "2"}, "condition": {"kind": 1}},
        {"change": "delete", "key": key, "condition": {"kind": 5}},
        {"change": "merge", "key": key, "dict": {"late": "1"}},
        {"key": key, "exists": True},
        {"key": key, "kind": 9, "dict": {"new": "1"}},
        {"key": key, "exists": True},
        {"change": "merge", "key": key, "dict": {"m": "1"}, "condition": {"kind": 9}},
        {"key": key, "kind": 9, "dict": {"new": "1"}},
        {"change": "delete", "key": key},
        {"change": "delete", "key": key},
        {"key": key, "kind": 9, "dict": {"new": "2"}},
        {"change": "increment", "key": key, "attribute": "new", "amount": "40"},
        {"key": key},
    ]  # fmt: skip


@pytest.mark.parametrize("way", [in_lanes, in_a_queue])
def test_each_sees_what_those_before_it_have_done(tool, database, way):
    key = put(tool)
    course = Course({key: (1, {"n": "0"})})
    expected = [course.expect(operation) for operation in steps_of(key)]
    assert expected[-1] == ("HV_OK", (9, {"new": "42"}))
    assert [seen(reply) for reply in way(tool, steps_of(key))] == expected
    course.assert_left(database)


def test_many_changes_of_one_entity_are_made_in_their_order(tool, database):
    key, other = put(tool), put(tool)
    course = Course({key: (1, {"n": "0"}), other: (1, {"n": "0"})})
    changes = [each for each in steps_of(key) if "change" in each]
    changes = [one for each in changes for one in (each, {**each, "key": other})]
    expected = [course.expect(each) for each in changes]
    assert [seen(reply) for reply in at_once(tool, changes)] == expected
    course.assert_left(database)


def test_a_batch_in_lanes_is_one_transaction(tool, database):
    key = put(tool)
    increments = [
        {"change": "increment", "key": key, "attribute": "n", "amount": "1"} for _ in range(10)
    ]
    since = len(tool.log)
    replies = in_lanes(tool, increments)
    assert [reply.ok().dict["n"] for reply in replies] == [str(n) for n in range(1, 11)]
    made = [event for event in tool.log[since:] if "numeric" in event.log]
    assert len(made) == 10 and len({event.thread for event in made}) == 1  # the leader


def assert_random_operations_end_in_order(tool, database, way, make, count, seed):
    chance = random.Random(seed)
    course = Course({})
    for _ in range(3):
        course.states.update({put(tool): (1, {"n": "0"}) for _ in range(3)})
        operations = [make(chance, chance.choice(list(course.states))) for _ in range(count)]
        expected = [course.expect(operation) for operation in operations]
        replies = way(tool, operations)
        for operation, reply, wanted in zip(operations, replies, expected):
            assert seen(reply) == wanted, f"seed {seed}: {operation}: {reply}"
        course.assert_left(database)


WAYS_AND_COUNTS = [(in_lanes, 30), (in_a_queue, 200), (at_once, 200)]


def maker(way, with_puts):
    """A function that makes a random operation for this way."""
    if way is at_once:
        return random_change
    if not with_puts:
        return random_operation
    return lambda chance, key: (
        random_put(chance, key) if chance.random() < 0.2 else random_operation(chance, key)
    )


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("way, count", WAYS_AND_COUNTS)
def test_random_operations_on_few_keys_end_in_their_order(tool, database, way, count, seed):
    assert_random_operations_end_in_order(tool, database, way, maker(way, False), count, seed)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("way, count", WAYS_AND_COUNTS[1:2])
def test_puts_under_keys_have_their_place_among_them(tool, database, way, count, seed):
    assert_random_operations_end_in_order(tool, database, way, maker(way, True), count, seed)


@pytest.mark.parametrize("way", [in_a_queue, at_once])
def test_more_than_a_batch_takes_keeps_its_order_over_several_connections(
    make_tool, changed, way
):
    tool = make_tool(changed[0])
    database = changed[1][0]
    for seed in SEEDS[:3]:
        assert_random_operations_end_in_order(tool, database, way, maker(way, False), 3000, seed)


def test_the_refusal_of_one_leaves_the_order_of_the_others(tool, database):
    """When a batch is refused, its items go apart."""
    key = put(tool)
    database.sql(f"ALTER TABLE shard{SHARD:04}.entities ADD CONSTRAINT no_x CHECK (NOT body ? 'x')")
    try:
        operations = []
        for number in range(8):
            operations += [
                {"change": "merge", "key": key, "dict": {f"v{number}": "1"},
                 "condition": {"lacks": [f"v{number}"]}},
                {"change": "merge", "key": key, "dict": {"x": "1"}},
                {"change": "increment", "key": key, "attribute": "n", "amount": "1",
                 "condition": {"has": {f"v{number}": "1"}}},
            ]  # fmt: skip
        for way in (in_a_queue, at_once, in_lanes):
            tool.main.replace(key, 1, {"n": "0"}).ok()
            statuses = [reply.status for reply in way(tool, operations)]
            assert statuses == 8 * ["HV_OK", "HV_REFUSED", "HV_OK"], way
            assert tool.main.get(key).dict == {"n": "8", **{f"v{n}": "1" for n in range(8)}}
    finally:
        database.sql(f"ALTER TABLE shard{SHARD:04}.entities DROP CONSTRAINT no_x")


def test_one_threads_operations_keep_its_order_on_many_connections(make_tool, changed):
    """Whatever the lanes do: what a thread has been answered is seen by its next operation."""
    tool = make_tool(changed[0], pool_max=4)
    threads = tool.threads(*(f"t{number}" for number in range(8)))
    key = put(tool, body={})
    pending = []
    for turn in range(40):
        for number, thread in enumerate(threads):
            name = f"v{number}"
            condition = {"has": {name: str(turn)}} if turn else {"lacks": [name]}
            pending.append(thread.begin.merge(key, {name: str(turn + 1)}, condition=condition))
    for one in pending:
        one.reply().ok()
    assert tool.main.get(key).dict == {f"v{number}": "40" for number in range(8)}


# ---- deadlocks ----


@pytest.mark.parametrize("exactly_once", ["off", "on"])
def test_two_stores_whose_batches_change_the_same_keys_both_end_well(
    make_tool, changed, exactly_once
):
    """Each in another order, and with other verbs, so that the statements of these would lock their
    rows crosswise."""
    path, (database, _) = changed
    tools = [make_tool(path, exactly_once=exactly_once) for _ in range(2)]
    keys = [put(tools[0]) for _ in range(40)]

    before = database.server.log_size()

    def changes(which):
        order = keys if which else keys[::-1]
        made = []
        for place, key in enumerate(order):
            if place % 3 == 0:
                made.append({"change": "merge", "key": key, "dict": {f"m{which}": str(place)}})
            made.append({"change": "increment", "key": key, "attribute": "n", "amount": "1",
                         **({"condition": {"kind": 1}} if place % 2 else {})})  # fmt: skip
        return made

    for _ in range(30):
        pending = [tool.main.begin.change_many(changes(n)) for n, tool in enumerate(tools)]
        for one in pending:
            assert {item["status"] for item in one.reply().ok().items} == {"HV_OK"}
    left = content(database, keys)
    assert {body["n"] for _, body in left.values()} == {"60"}
    assert "deadlock detected" not in database.server.log_text(before)


def test_batches_that_change_the_same_keys_in_several_ways_do_not_deadlock(make_tool, changed):
    """Each statement takes its time while its rows are locked; whichever verb comes first, each batch
    has locked one row by then, and the other batch needs it next."""
    path, (database, _) = changed
    tools = [make_tool(path) for _ in range(2)]
    key, other = put(tools[0]), put(tools[0])
    database.sql(f"""
        CREATE FUNCTION hesitate() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN PERFORM pg_sleep(0.3); RETURN NEW; END';
        CREATE TRIGGER hesitate BEFORE UPDATE ON shard{SHARD:04}.entities
            FOR EACH ROW EXECUTE FUNCTION hesitate()""")
    before = database.server.log_size()
    pending = [
        tool.main.begin.change_many([
            {"change": "merge", "key": merged, "dict": {"m": "1"}},
            {"change": "increment", "key": added, "attribute": "n", "amount": "1"},
        ])
        for tool, merged, added in zip(tools, (key, other), (other, key))
    ]  # fmt: skip
    for one in pending:
        assert {item["status"] for item in one.reply().ok().items} == {"HV_OK"}
    for _, body in content(database, [key, other]).values():
        assert (body["m"], body["n"]) == ("1", "1")
    assert "deadlock detected" not in database.server.log_text(before)


def test_a_deadlock_that_is_made_on_purpose_passes(make_tool, changed):
    path, (database, _) = changed
    tool = make_tool(path)
    first, second = put(tool), put(tool)
    for verb, fields in (
        ("merge", {"dict": {"n": "1"}}),
        ("increment", {"attribute": "n", "amount": "1", "condition": {"kind": 1}}),
    ):
        with database.connect() as blocker, blocker.cursor() as cursor:
            blocker.autocommit = False
            cursor.execute("SET deadlock_timeout TO '1h'")  # the store's session finds it
            update = f"UPDATE shard{SHARD:04}.entities SET type = 1 WHERE id = %s"
            cursor.execute(update, [second])
            changes = [{"change": verb, "key": key, **fields} for key in (first, second)]
            making = tool.main.begin.change_many(changes)
            eventually(
                lambda: database.value(
                    "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                    " AND datname = pg_catalog.current_database()"
                )
            )
            cursor.execute(update, [first])  # waits until the store's session has given way
            blocker.commit()
        assert [item["status"] for item in making.reply().ok().items] == ["HV_OK", "HV_OK"]
