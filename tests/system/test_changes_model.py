"""Random operations from many threads against a model in memory, while connections are cut and a
server restarts: every acknowledged change is there, every unknown one is there or not, none is half
done.

Each thread has entities of its own, for which the model is exact: it is the set of the states that
are possible after unknown outcomes. Others are shared: counters, of which the sums are known, and
entities in which each thread has an attribute of its own. Some operations are done together in a
transaction, which is committed or rolled back on purpose.

$HV_TEST_OPERATIONS is their number (100000 for a thorough run), $HV_TEST_SEED the first seed.
"""

import collections
import itertools
import os
import random
import threading
import time

import psycopg2
import pytest

from change_model import random_change, random_operation, random_put, run, shown
from changing import content
from harness import eventually, hv, make_shards, store_config
from harness.store_tool import Reply, make_tool, step  # noqa: F401

pytestmark = [pytest.mark.threads, pytest.mark.races]

OPERATIONS = int(os.environ.get("HV_TEST_OPERATIONS", "5000"))
SEED = int(os.environ.get("HV_TEST_SEED", "1"))
THREADS = 16
KEYS = 8  # of each thread, one in each shard
SHARDS = range(1, 9)  # four on each server
COUNTERS = 4
UNKNOWN = "HV_OUTCOME_UNKNOWN"
NOTHING_WRITTEN = ("HV_UNAVAILABLE", "HV_TIMEOUT")

State = collections.namedtuple("State", "kind body stamp")  # None: there is no entity
Counter = collections.namedtuple("Counter", "key acknowledged unknown")


def same(state):
    return state and (state.kind, state.body)


def as_step(operation):
    """The command of the tool that does it."""
    fields = dict(operation)
    if "change" in fields:
        return step(fields.pop("change"), **fields)
    if "kind" in fields:
        return step("put_key", **fields)
    if fields.pop("exists", False):
        return step("exists", **fields)
    return step("get_only" if "names" in fields else "get", **fields)


class Entity:
    """What is known of one entity: its possible states, and of which of them versions were read. A
    stamp is the number of the operation that made a state."""

    def __init__(self, key):
        self.key = key
        self.states = [None]
        self.stamps = {}  # by version
        self.history = collections.deque(maxlen=30)
        self.numbers = itertools.count(1)

    def _run(self, operation, state, stamp):
        condition = operation.get("condition") or {}
        version = condition.get("version")
        if state is not None and version and self.stamps.get(version) != state.stamp:
            return "HV_CHANGED", state
        status, after = run(operation, same(state))
        if after is None:
            return status, None
        is_new = status == "HV_OK" and (
            "change" in operation or ("kind" in operation and state is None)
        )
        return status, State(*after, stamp if is_new else state.stamp)

    def _fits(self, operation, reply, status, after):
        entity = (reply.kind, reply.dict) if reply.dict is not None else None
        if (reply.status, entity) != (status, shown(operation, status, same(after))):
            return False
        if reply.version is None:
            return True
        if reply.version in self.stamps:
            return self.stamps[reply.version] == after.stamp
        return after.stamp not in self.stamps.values()

    def take(self, operation, reply):
        """Note the outcome of an operation; fail if no possible state explains it."""
        stamp = next(self.numbers)
        self.history.append((operation, reply))
        if reply.status in NOTHING_WRITTEN:
            return
        before = self.states
        results = [self._run(operation, state, stamp) for state in before]
        if reply.status == UNKNOWN:
            assert "change" in operation or "kind" in operation, reply
            after = [*before, *(after for _, after in results)]
        else:
            after = [each for status, each in results if self._fits(operation, reply, status, each)]
            deletes = operation.get("change") == "delete" and not operation.get("condition")
            if deletes and reply.status == "HV_OK" and None in before and None not in after:
                after.append(None)  # repeated after a lost connection
        self.states = [each for at, each in enumerate(after) if each not in after[:at]]
        assert self.states, self.told(before)
        if reply.version is not None:  # whichever it is, it has this version
            stamp = self.stamps.setdefault(reply.version, stamp)
            renamed = [state._replace(stamp=stamp) for state in self.states]
            self.states = [each for at, each in enumerate(renamed) if each not in renamed[:at]]

    def take_transaction(self, operations, reply, ends_with):
        """The same of several operations in one transaction, whose function returned `ends_with`. The
        replies are those of its last call; what it did is known only if it was committed."""
        stamp = next(self.numbers)
        self.history.append((operations, reply))
        if reply.status in NOTHING_WRITTEN:
            return
        before, after = self.states, []
        for state in before:
            end, left = self._run_all(operations, reply, state, stamp)
            if end not in (None, "HV_OK") and reply.status == end:
                after.append(state)  # an operation has failed, as it should
            elif end == "HV_OK" and reply.status == ends_with:
                after.append(left if ends_with == "HV_OK" else state)
            elif end == ends_with == "HV_OK" and reply.status == UNKNOWN:
                after += [state, left]
        self.states = [each for at, each in enumerate(after) if each not in after[:at]]
        assert self.states, self.told(before)

    def _run_all(self, operations, reply, state, stamp):
        """How the operations end in this state, "HV_OK" or with a failure, and what they leave; None
        if the replies do not fit."""
        for operation, result in zip(operations, reply.results):
            shown = {name: value for name, value in result.items() if name != "version"}
            status, state = self._run(operation, state, stamp)
            if not self._fits(operation, Reply(shown), status, state):
                return None, None
            if status not in ("HV_OK", "HV_NOT_FOUND", "HV_CHANGED"):
                return status, None
        return "HV_OK", state

    def told(self, before):
        lines = [f"{operation}\n    -> {reply}" for operation, reply in self.history]
        return "\n".join([f"possible before the last: {before}", *lines])


class Run:
    """Threads of a tool that do random operations until there were so many."""

    def __init__(self, tool, seed, goal, callers=THREADS):
        self.tool = tool
        self.seed = seed
        self.goal = goal
        self.done = 0
        self.statuses = collections.Counter()
        self.begun_again = 0
        self.wrong = []
        self.settle = lambda: None
        reserved = {
            shard: iter(tool.main.reserve(shard, callers * KEYS).ok().keys) for shard in SHARDS
        }
        self.entities = [
            [Entity(next(reserved[shard])) for shard in SHARDS] for _ in range(callers)
        ]
        shared = [tool.main.put(shard, 1, {"n": "0"}).ok().key for shard in (1, 4, 5, 8)]
        self.counters = [[Counter(key, [], []) for key in shared] for _ in range(callers)]
        self.marked = [tool.main.put(shard, 1, {}).ok().key for shard in (2, 7)]
        self.marks = [{key: {None} for key in self.marked} for _ in range(callers)]
        self.threads = [
            threading.Thread(target=self._work, args=(number, thread))
            for number, thread in enumerate(tool.threads(*(f"t{n}" for n in range(callers))))
        ]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        for thread in self.threads:
            thread.join()

    def is_over(self):
        return bool(self.wrong) or self.done >= self.goal

    def _work(self, number, thread):
        chance = random.Random(self.seed * 1000 + number)
        try:
            while not self.is_over():
                self._turn(chance, thread, number)
        except BaseException as error:
            self.wrong.append(error)

    def _count(self, replies):
        """Of an unknown outcome, wait until the server is done with what was sent."""
        statuses = [reply.status for reply in replies]
        self.statuses.update(statuses)
        self.done += sum(status not in NOTHING_WRITTEN for status in statuses)
        if set(statuses) & set(NOTHING_WRITTEN):
            time.sleep(0.01)  # a server is down
        if UNKNOWN in statuses:
            self.settle()

    def _turn(self, chance, thread, number):
        which = chance.random()
        if which < 0.15:
            self._increment(chance, thread, self.counters[number])
        elif which < 0.25:
            self._mark(chance, thread, number)
        elif which < 0.45:
            self._many(chance, thread, self.entities[number])
        elif which < 0.5:
            self._get_many(thread, self.entities[number])
        elif which < 0.6:
            self._transaction(chance, thread, number)
        else:
            entity = chance.choice(self.entities[number])
            puts = 0.8 if entity.states == [None] else 0.1
            make = random_put if chance.random() < puts else random_operation
            operation = self._with_version(chance, entity, make(chance, entity.key))
            reply = self._alone(thread, operation)
            self._count([reply])
            entity.take(operation, reply)

    @staticmethod
    def _with_version(chance, entity, operation):
        if "change" in operation and entity.stamps and chance.random() < 0.25:
            versions = list(entity.stamps)[-2:]
            condition = {**operation.get("condition", {}), "version": chance.choice(versions)}
            return {**operation, "condition": condition}
        return operation

    @staticmethod
    def _alone(thread, operation):
        fields = as_step(operation)
        return getattr(thread, fields.pop("do"))(**fields)

    def _many(self, chance, thread, entities):
        some = [chance.choice(entities) for _ in range(chance.randrange(2, 12))]
        changes = [
            self._with_version(chance, each, random_change(chance, each.key)) for each in some
        ]
        replies = [Reply(item) for item in thread.change_many(changes).items]
        self._count(replies)
        for each in set(some):
            mine = [place for place, entity in enumerate(some) if entity is each]
            each.history.append(("together", [(changes[at], replies[at].status) for at in mine]))
        for entity, operation, reply in zip(some, changes, replies):
            entity.take(operation, reply)

    def _get_many(self, thread, entities):
        items = thread.get_only_many([entity.key for entity in entities], None).items
        self._count([Reply(item) for item in items])
        for entity, item in zip(entities, items):
            entity.take({"key": entity.key, "names": None}, Reply(item))

    def _transaction(self, chance, thread, number):
        """Several operations on one entity, and mostly one on the counter that is in the same shard, if
        there is one. One in four is rolled back on purpose."""
        entity = chance.choice(self.entities[number])
        shard = entity.key >> 10 & 8191
        makes = [chance.choice((random_put, *3 * [random_operation])) for _ in range(3)]
        operations = [make(chance, entity.key) for make in makes[: chance.randrange(1, 4)]]
        counter = next((one for one in self.counters[number] if one.key >> 10 & 8191 == shard), None)
        amount = chance.randrange(1, 10)
        ends_with = "HV_NOT_FOUND" if chance.random() < 0.25 else "HV_OK"
        steps = [as_step(operation) for operation in operations]
        if counter is not None and chance.random() < 0.7:
            steps.append(step("increment", counter.key, "n", str(amount)))
        reply = thread.transaction(
            shard, steps, isolation=chance.choice((0, 0, 1, 2)), then=ends_with
        )
        self._count([reply])
        self.begun_again += reply.calls > 1
        entity.take_transaction(operations, reply, ends_with)
        if len(steps) > len(operations):
            if reply.status == UNKNOWN:
                counter.unknown.append(amount)
            elif reply.status == "HV_OK":
                counter.acknowledged.append(amount)

    def _increment(self, chance, thread, counters):
        counter = chance.choice(counters)
        amount = chance.randrange(1, 10)
        reply = thread.increment(counter.key, "n", str(amount))
        self._count([reply])
        if reply.status == UNKNOWN:
            counter.unknown.append(amount)
        elif reply.status not in NOTHING_WRITTEN:
            counter.acknowledged.append(amount)
            assert int(reply.ok().dict["n"]) >= sum(counter.acknowledged)

    def _mark(self, chance, thread, number):
        """Set the thread's own attribute of a shared entity."""
        key = chance.choice(self.marked)
        mark = str(self.done)
        reply = thread.merge(key, {f"t{number}": mark})
        self._count([reply])
        if reply.status == UNKNOWN:
            self.marks[number][key].add(mark)
        elif reply.status not in NOTHING_WRITTEN:
            reply.ok()
            self.marks[number][key] = {mark}

    def check(self, databases):
        """What is there is what the model says."""
        assert not self.wrong, f"seed {self.seed}: {self.wrong[0]}"
        keys = [entity.key for mine in self.entities for entity in mine]
        keys += [counter.key for counter in self.counters[0]] + self.marked
        there = {}
        for database in databases:
            there.update(content(database, self._of(database, databases, keys)))
        for entity in itertools.chain(*self.entities):
            possible = [same(state) for state in entity.states]
            assert there.get(entity.key) in possible, (
                f"seed {self.seed}: {there.get(entity.key)}: {entity.told(entity.states)}"
            )
        for place, counter in enumerate(self.counters[0]):
            mine = [counters[place] for counters in self.counters]
            acknowledged = sum(sum(each.acknowledged) for each in mine)
            unknown = sum(sum(each.unknown) for each in mine)
            assert acknowledged <= int(there[counter.key][1]["n"]) <= acknowledged + unknown
        for number, marks in enumerate(self.marks):
            for key, possible in marks.items():
                assert there[key][1].get(f"t{number}") in possible, f"seed {self.seed}"

    @staticmethod
    def _of(database, databases, keys):
        return [key for key in keys if ((key >> 10 & 8191) > 4) == (database is databases[1])]


@pytest.fixture
def relayed_pair(own_servers, relay, tmp_path):
    """Two servers of the test's own, each behind a relay: a function that makes the configuration,
    the databases and the relays."""
    relays = [relay(database.server) for database in own_servers]
    places = [
        between.params(database.dbname) for between, database in zip(relays, own_servers)
    ]

    def make(**options):
        servers = {"one": (places[0], "1-5"), "two": (places[1], "5-9")}
        return store_config(tmp_path / "model.conf", servers, **options)

    make_shards(make(), *own_servers)
    return make, own_servers, relays


def lost_sessions(databases, relays):
    """Sessions of servers whose connection no longer exists."""
    lost = []
    for database, between in zip(databases, relays):
        known = between.ports
        lost += [
            pid
            for pid, port in database.query(
                "SELECT pid, client_port FROM pg_stat_activity WHERE backend_type = 'client backend'"
                " AND pid <> pg_backend_pid() AND application_name <> 'test harness'"
            )
            if port not in known and port not in between.ports
        ]
    return lost


def disturb(chance, between):
    """Cut a connection somewhere, or all of them."""
    if chance.random() < 0.2:
        between.cut()
    else:
        between.cut_in(chance.choice(("to_server", "to_client")), chance.randrange(1, 3000))


@pytest.mark.parametrize("exactly_once", ["off", "on"])
def test_random_operations_leave_what_the_model_says(
    make_tool, relayed_pair, exactly_once, capsys
):
    make, databases, relays = relayed_pair
    config = make(
        exactly_once=exactly_once, operation_timeout="60s", pool_block_timeout="30s", pool_max=6
    )
    chance = random.Random(SEED)
    model = Run(make_tool(config), SEED, OPERATIONS)

    def settle():
        """Nothing that was sent over a lost connection can happen any more."""

        def is_settled():
            try:
                return not lost_sessions(databases, relays)
            except psycopg2.OperationalError:  # it is being restarted
                return False

        eventually(is_settled, timeout=60)

    model.settle = settle
    restarts, cuts = 0, 0
    began = time.monotonic()
    with model:
        while not model.is_over():
            goal = min(model.done + max(50, OPERATIONS // 300), OPERATIONS)
            disturb(chance, chance.choice(relays))
            cuts += 1
            if model.done > (restarts + 1) * OPERATIONS / 6:
                server = databases[restarts % 2].server
                chance.choice((server.kill9, lambda: server.stop("immediate")))()
                server.start()
                restarts += 1
            eventually(lambda: model.done >= goal or model.is_over(), timeout=120)
    print(
        f"seed {SEED}: {model.done} operations, {cuts} cuts, {restarts} restarts,"
        f" {time.monotonic() - began:.1f} s: {dict(model.statuses)},"
        f" {model.begun_again} transactions begun again"
    )
    assert not model.wrong, f"seed {SEED}: {model.wrong[0]}"
    settle()
    model.check(databases)
    assert restarts >= 3 and cuts >= 4 and model.begun_again > 0


def test_the_model_finds_a_change_that_is_lost(make_tool, relayed_pair):
    """Without a disturbance, but a trigger takes back what one change in a hundred has done."""
    make, databases, _ = relayed_pair
    for shard in (1, 2, 3, 4):
        databases[0].sql(f"""
            CREATE OR REPLACE FUNCTION lose() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
                IF random() < 0.01 THEN NEW.body := OLD.body; END IF; RETURN NEW; END$$;
            CREATE TRIGGER lose BEFORE UPDATE ON shard{shard:04}.entities
            FOR EACH ROW EXECUTE FUNCTION lose()""")
    with Run(make_tool(make()), SEED, 20_000) as model:
        pass
    with pytest.raises(AssertionError):
        model.check(databases)
