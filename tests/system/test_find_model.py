"""Random finds and counts over all shards against one plain table with the same entities: the same
rows in the same order, the same numbers. And finds while entities are put and deleted.

$HV_TEST_ROWS is the number of entities (1000000 for a thorough run), $HV_TEST_QUERIES that of
random finds (1000), $HV_TEST_SEED the seed of both.
"""

import collections
import os
import random
import threading
import time

import hypothesis
import pytest

from find_model import (
    FULL,
    SHARDS,
    UNITS,
    ZONES,
    Meaning,
    World,
    fill,
    in_utc,
    queries,
    selections,
)
from harness import python
from harness.python import databases  # noqa: F401

python.provide()

from hv.datastore import Datastore, DatastoreError
from hv.entity import Key

ROWS = int(os.environ.get("HV_TEST_ROWS", "30000"))
QUERIES = int(os.environ.get("HV_TEST_QUERIES", "150"))
SEED = int(os.environ.get("HV_TEST_SEED", "1"))
PAGES = 12  # of a query that is read in pages; the rest of it is as the last one
MINE = 999  # the kind of the entities that come and go

generated = hypothesis.settings(
    max_examples=QUERIES,
    deadline=None,
    database=None,
    print_blob=False,
    suppress_health_check=list(hypothesis.HealthCheck),
)


@pytest.fixture(scope="module")
def world(databases, shared_servers):
    reference = shared_servers[0].create_database()
    keys = fill(SEED, ROWS, databases, reference)
    one, two = databases
    connections = [dict(shards="1-9", **one.params()), dict(shards="9-17", **two.params())]
    with Datastore(connections, pool_max=4) as db, reference.connect() as table:
        yield World(db, databases, table, keys)
    reference.drop()


# ---- random queries ----


def attributes_in_several_conditions(query):
    names = [*query.equal, *query.one_of, *query.has, *query.exists, *query.lacks]
    return len(names) > len(set(names))


def refused(meaning, call):
    """Whether the store refuses the query, with reason."""
    try:
        call()
    except DatastoreError as error:
        assert error.status == "HV_INVALID", error
        if not meaning.is_impossible:
            # A contradiction: nothing can have all of these attributes.
            assert attributes_in_several_conditions(meaning.query), error
            assert meaning.expected_count() == 0, error
        return True
    assert not meaning.is_impossible
    return False


def found_in_pages(meaning, size):
    """The rows of some pages, and whether these were all."""
    rows = meaning.found(limit=size)
    while rows and len(rows) % size == 0 and len(rows) < PAGES * size:
        page = meaning.found(limit=size, after=rows[-1][0])
        if not page:
            return rows, True
        rows += page
    return rows, len(rows) % size > 0 or not rows


def check(meaning):
    page, limit = meaning.query.page, meaning.query.limit
    if page is not None:
        found, all_of_it = found_in_pages(meaning, page)
        limit = None if all_of_it else len(found)
    else:
        found = meaning.found() if limit is None else meaning.found(limit=limit)
    assert found == meaning.expected(limit)


def test_a_find_returns_what_one_table_would(world):
    @hypothesis.seed(SEED)
    @generated
    @hypothesis.given(query=queries())
    def find(query):
        meaning = Meaning(world, query)
        if not refused(meaning, lambda: meaning.found(limit=1)):
            check(meaning)

    find()


def test_a_count_is_that_of_one_table(world):
    @hypothesis.seed(SEED)
    @hypothesis.settings(generated, max_examples=max(QUERIES // 4, 10))
    @hypothesis.given(
        query=selections(),
        unit=hypothesis.strategies.sampled_from(UNITS),
        zone=hypothesis.strategies.sampled_from(ZONES),
    )
    def count(query, unit, zone):
        meaning = Meaning(world, query)
        if refused(meaning, lambda: world.db.count(**meaning.arguments)):
            return
        assert meaning.counted() == meaning.expected_count()
        assert meaning.counted(by="kind") == meaning.expected_counts("type")
        by_shard = dict.fromkeys(sorted(query.shards or SHARDS), 0)
        by_shard |= meaning.expected_counts("(id >> 10) & 8191")
        assert meaning.counted(by="shard") == by_shard
        by_server = collections.Counter()
        for shard, number in by_shard.items():
            by_server[world.db.server_of(shard)] += number
        assert meaning.counted(by="server") == by_server
        counts = [(in_utc(moment), n) for moment, n in meaning.counted(by=unit, zone=zone).items()]
        assert counts == list(meaning.expected_times(unit, zone or "UTC").items())

    count()


# ---- while entities come and go ----


class Traffic:
    """Threads that put entities of the kind MINE, new ones and such with old keys in the middle of
    all others, and delete them again; with a record of when each was certainly there."""

    def __init__(self, world, threads=3):
        self._world = world
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(n,)) for n in range(threads)]
        self._lives = [[] for _ in self._threads]  # of each: [key, asked, there, ending, ended]
        taken = set(world.keys)
        self._free = [key + 1 for key in world.keys if key & 1023 < 1023 and key + 1 not in taken]
        self.errors = []

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _run(self, number):
        try:
            self._come_and_go(random.Random(f"{SEED} {number}"), number, self._lives[number])
        except Exception as error:
            self.errors.append(error)

    def _come_and_go(self, source, number, lives):
        db, present = self._world.db, []
        free = self._free[number :: len(self._threads)]
        source.shuffle(free)
        while not self._over.is_set():
            if len(present) > 40 or present and source.random() < 0.3:
                life = present.pop(source.randrange(len(present)))
                life[3] = time.monotonic()
                assert db.delete(Key(life[0]))
                life[4] = time.monotonic()
                continue
            asked = time.monotonic()
            if free and source.random() < 0.5:
                key = free.pop()
                life = [key, asked, None, None, None]
                lives.append(life)  # it may be seen before the call returns
                db.put_key(Key(key), MINE, {"user": "7"})
            else:
                key = db.put(source.choice(FULL), MINE, {"user": "7"})
                life = [int(key), asked, None, None, None]
                lives.append(life)
            life[2] = time.monotonic()
            present.append(life)

    def lives(self):
        """When the threads have ended."""
        return [life for lives in self._lives for life in lives]


def read_everything(world, source):
    """All entities of the store in one of several ways: [key]."""
    newest = source.random() < 0.5
    arguments = {"newest": True} if newest else {}
    size = source.choice([None, None, 1000, 4096])
    if size is None:
        return newest, [int(row[0]) for row in world.db.find(only=[], **arguments)]
    keys = []
    while True:
        more = {"after": keys[-1]} if keys else {}
        page = [int(row[0]) for row in world.db.find(only=[], limit=size, **more, **arguments)]
        keys += page
        if len(page) < size:
            return newest, keys


def test_nothing_is_missing_or_doubled_while_entities_come_and_go(world):
    """What was there throughout is found, once; what was never there meanwhile is not."""
    source, reads = random.Random(SEED), []
    lasting = set(world.keys)
    try:
        with Traffic(world) as traffic:
            end = time.monotonic() + 8
            while not traffic.errors and (len(reads) < 3 or time.monotonic() < end):
                began = time.monotonic()
                newest, keys = read_everything(world, source)
                reads.append((began, time.monotonic(), newest, keys))
        assert traffic.errors == []
    finally:
        for shard, database in ((s, world.databases[s > 8]) for s in SHARDS):
            database.sql(f"DELETE FROM shard{shard:04}.entities WHERE type = {MINE}")
    lives = {life[0]: life for life in traffic.lives()}
    assert len(lives) > 100
    seen = 0
    for began, ended, newest, keys in reads:
        assert keys == sorted(set(keys), reverse=newest)
        others = set(keys) - lasting
        assert lasting <= set(keys)
        assert others <= set(lives)
        for key, (_, asked, there, ending, gone) in lives.items():
            if there is not None and there < began and (ending is None or ending > ended):
                assert key in others
            if asked > ended or (gone is not None and gone < began):
                assert key not in others
        seen += len(others)
    assert seen > 0
