"""Shards move back and forth under callers that do everything, with the model test of entities as the
judge: what was acknowledged is there, once, every read fits, and no caller sees an error.

Beside what that test does, each caller finds its own entities through indexes, and all put entities
that nobody changes. These are counted and found from another process, and a feed in a third one has
each of them once, in the order of their keys. Both are opened before the first move, and learn of
each move by themselves.

$HV_TEST_MOVES is the number of moves and $HV_TEST_CALLERS that of callers (100 and 64 for a thorough
run), $HV_TEST_SEED the seed.
"""

import contextlib
import itertools
import os
import random
import threading
import time

import pytest
import test_changes_model
from change_model import NAMES, VALUES
from feeding import Feed, compare
from harness import eventually, make_shards
from harness.moving import (
    assert_nothing_left,
    has_shard,
    moving_servers,
    reached,
    run_move,
    shared_moving_servers,
)
from harness.config import store_config
from harness.store_tool import Reply, make_tool, step  # noqa: F401
from indexing import index_tool

FIXTURES = (moving_servers, shared_moving_servers)

pytestmark = [pytest.mark.threads]

MOVES = int(os.environ.get("HV_TEST_MOVES", "4"))
CALLERS = int(os.environ.get("HV_TEST_CALLERS", "16"))
SEED = int(os.environ.get("HV_TEST_SEED", "1"))

SHARDS = list(test_changes_model.SHARDS)
LASTING = 77  # the kind of the entities that stay as they were put; the model's are 0, 1 and 2
NEWEST = 200
EXPECTED = {"HV_OK", "HV_NOT_FOUND", "HV_CHANGED", "HV_CONFLICT", "HV_INVALID"}


class Unversioned(test_changes_model.Entity):
    """A version is the row's place in its server: it is another one after a move."""

    def take(self, operation, reply):
        fields = {name: value for name, value in reply.fields.items() if name != "version"}
        super().take(operation, Reply(fields))


class Lasting:
    """The entities that stay: what was asked for, and what was acknowledged."""

    def __init__(self):
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self.asked = 0  # so many may be there
        self.there = []  # so many are there: pairs of a key and the entity's number

    def begin(self, count):
        """Numbers for so many new ones."""
        with self._lock:
            self.asked += count
            return [next(self._numbers) for _ in range(count)]

    def add(self, keys, numbers):
        with self._lock:
            self.there += zip(keys, numbers)

    @staticmethod
    def body(number):
        return {"number": str(number), "filler": "x" * (number % 50)}


class MovingRun(test_changes_model.Run):
    def __init__(self, tool, seed, lasting):
        super().__init__(tool, seed, 10**9, CALLERS)
        self.lasting = lasting
        self.finds = 0
        self.moved = 0  # transactions that were to be begun again by their caller
        self.ended = False
        for mine in self.entities:
            for entity in mine:
                entity.__class__ = Unversioned

    def is_over(self):
        return self.ended or bool(self.wrong)

    def fail_if_wrong(self):
        if self.wrong:
            raise AssertionError(f"seed {self.seed}: {self.wrong[0]!r}") from self.wrong[0]

    def _count(self, replies):
        super()._count(replies)
        for reply in replies:
            assert reply.status in EXPECTED, reply

    def _turn(self, chance, thread, number):
        which = chance.random()
        if which < 0.15:
            self._find(chance, thread, self.entities[number])
        elif which < 0.3:
            self._put_lasting(chance, thread)
        else:
            super()._turn(chance, thread, number)

    @staticmethod
    def _with_version(chance, entity, operation):
        return operation

    @staticmethod
    def _of(database, databases, keys):
        """Those whose shards are there now."""
        shards = {shard for shard in SHARDS if has_shard(database, shard)}
        return [key for key in keys if (key >> 10 & 8191) in shards]

    # ---- finds ----

    def _find(self, chance, thread, entities):
        """Of what is found, the caller's own entities are as the model says."""
        which, name, value = chance.random(), chance.choice(NAMES), chance.choice(VALUES)
        wanted = {}
        if which < 0.5:  # by the indexes
            name = chance.choice("am")
            wanted["equal"] = {name: value}
            fits = lambda body: name in body and body[name] == value  # noqa: E731
        elif which < 0.7:
            wanted["exists"] = [name]
            fits = lambda body: name in body  # noqa: E731
        elif which < 0.8:
            wanted["has"] = {name: value}
            fits = lambda body: name in body and body[name] == value  # noqa: E731
        else:
            wanted["lacks"] = [name]
            fits = lambda body: name not in body  # noqa: E731
        kinds = [0, 1, 2] if chance.random() < 0.7 else [chance.randrange(3)]
        shards = SHARDS if chance.random() < 0.4 else [chance.choice(SHARDS)]
        newest = chance.random() < 0.3
        selection = {**wanted, "kinds": kinds, "shards": ",".join(map(str, shards)), "newest": newest}
        found = self._found(thread, selection)
        keys = [key for key, *_ in found]
        assert keys == sorted(set(keys), reverse=newest), (selection, keys)
        mine = {entity.key: entity for entity in entities}
        expected = {
            entity.key: test_changes_model.same(state)
            for entity in entities
            for state in entity.states
            if state and (entity.key >> 10 & 8191) in shards
            and state.kind in kinds and fits(state.body)
        }
        seen = {key: (kind, body) for key, kind, body in found if key in mine}
        differing = [key for key in {*seen, *expected} if seen.get(key) != expected.get(key)]
        assert not differing, (
            f"{selection}: found {seen.get(differing[0])}, not {expected.get(differing[0])}:"
            f" {mine[differing[0]].told(mine[differing[0]].states)}"
        )
        self.finds += 1

    @staticmethod
    def _found(thread, selection):
        thread.find(selection).ok()
        reply = thread.next()
        thread.reader_close()
        return reply.gives("HV_NOT_FOUND").items

    # ---- what lasts ----

    def _put_lasting(self, chance, thread):
        """In one of the ways; then a find sees it."""
        which, count = chance.random(), chance.randrange(1, 4)
        shards = [chance.choice(SHARDS) for _ in range(count)]
        numbers = self.lasting.begin(count)
        bodies = [Lasting.body(number) for number in numbers]
        if which < 0.4:
            numbers, keys = numbers[:1], [self._put(thread, shards[0], bodies[0])]
        elif which < 0.6:
            puts = [
                {"shard": shard, "kind": LASTING, "dict": body}
                for shard, body in zip(shards, bodies)
            ]
            replies = [Reply(item) for item in thread.put_many(puts).items]
            self._count(replies)
            keys = [reply.ok().key for reply in replies]
        elif which < 0.8:
            keys = self._put_together(chance, thread, shards[0], bodies)
        else:
            keys = self._put_in_steps(chance, thread, shards[0], bodies)
        if not keys:
            return
        self.lasting.add(keys, numbers)
        number = chance.randrange(len(keys))
        selection = {"kinds": [LASTING], "equal": {"number": str(numbers[number])}}
        found = self._found(thread, selection)
        assert found == [[keys[number], LASTING, Lasting.body(numbers[number])]], found
        self.finds += 1

    def _put(self, thread, shard, body):
        reply = thread.put(shard, LASTING, body)
        self._count([reply])
        return reply.ok().key

    def _put_together(self, chance, thread, shard, bodies):
        """In a transaction whose function is called again by itself; one in four is taken back."""
        ends_with = "HV_NOT_FOUND" if chance.random() < 0.25 else "HV_OK"
        steps = [step("put", shard, LASTING, body) for body in bodies]
        reply = thread.transaction(shard, steps, then=ends_with)
        self._count([reply])
        assert reply.status == ends_with, reply
        self.begun_again += reply.calls > 1
        return [result["key"] for result in reply.results] if ends_with == "HV_OK" else []

    def _put_in_steps(self, chance, thread, shard, bodies):
        """In a transaction that the caller begins again if the shard has moved meanwhile."""
        while True:
            reply = thread.tx_begin(shard)
            replies = [reply]
            if reply.status == "HV_OK":
                for body in bodies:
                    reply = thread.put(shard, LASTING, body)
                    replies.append(reply)
                    if reply.status != "HV_OK":
                        break
                    time.sleep(0.02 if chance.random() < 0.05 else 0)
                if reply.status == "HV_OK":
                    reply = thread.tx_commit()
                    replies.append(reply)
                else:
                    thread.tx_rollback()
            if reply.status != "HV_MOVED":
                self._count(replies)
                return [reply.ok().key for reply in replies[1:-1]]
            self.moved += 1


@contextlib.contextmanager
def working(model, work):
    """A thread that does it again and again, until the model is over."""

    def run():
        try:
            while not model.is_over():
                work()
                time.sleep(0.005)
        except BaseException as error:
            model.wrong.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        model.ended = True
        thread.join()


class Onlooker:
    """Another process, with a store of its own: questions about all shards, gets, and a queue."""

    def __init__(self, tool, lasting):
        self.reader, self.writer = tool.threads("reader", "writer")
        self.writer.queue_new().ok()
        self.lasting = lasting
        self.asked = self.queued = 0

    def close(self):
        self.writer.queue_free()

    def look(self):
        least = len(self.lasting.there)
        counted = self.reader.count({"kinds": [LASTING]}).ok()
        assert least <= counted.total <= self.lasting.asked and counted.missing == [], counted
        least = len(self.lasting.there)
        some = self.lasting.there[max(0, least - NEWEST) : least]
        selection = {"kinds": [LASTING], "newest": True, "limit": 2 * NEWEST}
        self.reader.find(selection).ok()
        found = self.reader.next(bare=True).gives("HV_NOT_FOUND").items
        assert found == sorted(set(found), reverse=True)
        last = found[-1] if len(found) == 2 * NEWEST else 0
        missing = [key for key, _ in some if key >= last and key not in set(found)]
        assert not missing, missing
        items = self.reader.get_many([key for key, _ in some[-20:]]).items
        for (_, number), item in zip(some[-20:], items):
            assert (item["status"], item["dict"]) == ("HV_OK", Lasting.body(number)), item
        self.asked += 1

    def put(self):
        numbers = self.lasting.begin(20)
        puts = [
            {"shard": SHARDS[number % len(SHARDS)], "kind": LASTING, "dict": Lasting.body(number)}
            for number in numbers
        ]
        assert all(item["status"] == "HV_OK" for item in self.writer.queue_add(puts).items)
        done = {item["tag"]: Reply(item) for item in self.writer.queue_advance(-1, True).items}
        self.lasting.add([done[tag].ok().key for tag in range(len(puts))], numbers)
        self.queued += len(puts)


@pytest.fixture
def moving_model_store(tmp_path, moving_servers):
    """The configuration of the mover, and that of the callers, whose finds use indexes."""
    one, two = moving_servers
    how = {"operation_timeout": "60s", "pool_block_timeout": "30s", "pool_max": 6}
    paths = [
        store_config(
            tmp_path / name,
            {"one": (reached(one, **more), "1-5"), "two": (reached(two, **more), "5-9")},
            **how,
        )
        for name, more in (
            ("mover.conf", {}),
            ("callers.conf", {"options": "-cenable_seqscan=off"}),
        )
    ]
    make_shards(paths[0], one, two)
    for attribute in ("a", "m", "number"):
        index_tool(paths[0], "create", f"attribute={attribute}", f"name=by_{attribute}").ok()
    return paths


def move_about(mover, chance, model, one):
    """Returns the mover's pauses, in milliseconds."""
    pauses = []
    for number in range(MOVES):
        shard = chance.choice((1, 2, 4, 5, 7, 8))
        target = 1 if has_shard(one, shard) else 0
        keep = {"keep_undo": "1h"} if number % 3 == 2 else {}
        moved = run_move(mover, "move", shard, target, timeout=600, **keep).ok()
        pauses.append(moved.pause_ms)
        if keep:
            run_move(mover, "undo", shard, timeout=600).ok("done")
        model.fail_if_wrong()
    return pauses


def scans(database, index):
    """How often the index was used, where its shards are now."""
    return int(
        database.value(
            "SELECT coalesce(sum(idx_scan), 0) FROM pg_stat_user_indexes WHERE indexrelname = %s",
            index,
        )
    )


def test_shards_move_back_and_forth_under_callers(make_tool, moving_model_store, moving_servers):
    chance = random.Random(SEED)
    one, two = moving_servers
    mover, callers = moving_model_store
    lasting = Lasting()
    onlooker = Onlooker(make_tool(callers), lasting)
    model = MovingRun(make_tool(callers), SEED, lasting)
    feed = Feed(callers, follow=1, delay=0, kind=LASTING)
    try:
        with model, working(model, onlooker.look), working(model, onlooker.put):
            pauses = move_about(mover, chance, model, one)
        model.fail_if_wrong()
        feed.until_passed(max(key for key, _ in lasting.there))
    finally:
        feed.kill()
        onlooker.close()
    print(
        f"{model.done} operations, {model.finds} finds, {onlooker.asked} looks, {len(feed.keys)} in"
        f" the feed, {model.begun_again} transactions begun again by themselves and {model.moved} by"
        f" their callers, pauses {pauses}, {model.statuses}"
    )
    assert model.done > 100 and model.finds > 20 and onlooker.asked > 0 and onlooker.queued > 0
    model.check((one, two))
    assert feed.errors == []
    assert compare(feed.keys, sorted(key for key, _ in lasting.there)) == {}
    bodies = {key: Lasting.body(number) for key, number in lasting.there}
    assert [each for each in feed.entities if each["body"] != bodies[each["key"]]] == []
    assert onlooker.reader.count({"kinds": [LASTING]}).ok().total == len(lasting.there)
    assert all(has_shard(one, shard) != has_shard(two, shard) for shard in SHARDS)
    eventually(
        lambda: all(scans(one, f"by_{name}") + scans(two, f"by_{name}") for name in "am"),
        what="the indexes were used",
    )
    assert_nothing_left(one, two)
