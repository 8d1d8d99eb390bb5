"""A dict in memory as the model of what find(), count() and feed() of the Python package return,
hypothesis's strategies for selections, and what else tests of these need."""

import datetime
import itertools
import threading

import pytest
from hypothesis import strategies as st

from harness import eventually, python

python.provide()

from hv.datastore import Datastore
from hv.entity import Key, key_bound

KINDS = (1, 2, -3)
NAMES = ("user", "city", "a'b", 'q"\\ =>', "é", "")
VALUES = (None, "", "1", "2", "NULL", "o'x\\", '"')


class Model:
    """Entities by key: (kind, attributes)."""

    def __init__(self):
        self.entities = {}

    def put(self, db, entities):
        """Put `(shard, kind, attributes)` into the database and the model; return the keys."""
        keys = db.put_many(entities)
        for key, (_, kind, body) in zip(keys, entities):
            self.entities[key.id] = (kind, dict(body))
        return keys

    def find(self, newest=False, limit=None, only=None, after=None, **which):
        """What find() must return: a list of [id, kind, attributes]."""
        found = sorted(self._which(**which), reverse=bool(newest))
        if after is not None:
            found = [id for id in found if (id < int(after) if newest else id > int(after))]
        if newest is not True and newest is not False:
            limit = newest
        return [self._row(id, only) for id in found[:limit]]

    def count(self, by=None, server_of=None, shards=range(1, 17), **which):
        found = self._which(shards=shards, **which)
        if by is None:
            return len(found)
        groups = {
            "kind": lambda id: self.entities[id][0],
            "shard": lambda id: Key(id).shard_id,
            "server": lambda id: server_of(Key(id).shard_id),
            "second": lambda id: Key(id).created.replace(microsecond=0),
            "day": lambda id: datetime.datetime.combine(Key(id).created.date(), datetime.time()),
        }
        counts = {}
        if by in ("shard", "server"):
            of = server_of if by == "server" else int
            counts = {of(shard): 0 for shard in sorted(_shards(shards))}
        for id in found:
            group = groups[by](id)
            counts[group] = counts.get(group, 0) + 1
        return counts

    def _row(self, id, only):
        kind, body = self.entities[id]
        if only is not None:
            body = {name: value for name, value in body.items() if name in only}
        return [id, kind, body]

    def _which(self, **which):
        return [id for id, (kind, body) in self.entities.items() if _meant(id, kind, body, **which)]


def _shards(given):
    return {given} if isinstance(given, int) else set(given)


def _has(body, name, value):
    return name in body and body[name] == (value if value is None else str(value))


def _meant(
    id,
    kind,
    body,
    shards=None,
    kinds=None,
    where=None,
    one_of=None,
    has=None,
    exists=(),
    lacks=(),
    from_key=None,
    until_key=None,
    since=None,
    before=None,
):
    where = {**(where or {}), **(has or {})}
    return (
        (shards is None or Key(id).shard_id in _shards(shards))
        and (kinds is None or kind in _shards(kinds))
        and all(_has(body, *each) for each in where.items())
        and all(any(_has(body, name, v) for v in vs) for name, vs in (one_of or {}).items())
        and all(name in body for name in exists or ())
        and not any(name in body for name in lacks or ())
        and (from_key is None or id >= int(from_key))
        and (until_key is None or id < int(until_key))
        and (since is None or id >= key_bound(since))
        and (before is None or id < key_bound(before))
    )


def for_model(selection):
    """A selection's keyword arguments as the model takes them."""
    return {"kinds" if name == "kind" else name: value for name, value in selection.items()}


# ---- strategies ----

names = st.sampled_from(NAMES)
values = st.sampled_from(VALUES)
bodies = st.dictionaries(names, values, max_size=3)


def selections(ids):
    """Which entities: keyword arguments of count(). `ids` are those of entities that exist."""
    keys = st.sampled_from(ids).flatmap(
        lambda id: st.sampled_from([id, Key(id), max(id - 1, 1), id + 1])
    )
    moments = st.sampled_from(ids).map(lambda id: Key(id).created)
    shards = st.one_of(
        st.integers(1, 16),
        st.lists(st.integers(1, 16), min_size=1, max_size=8),
        st.just(range(3, 12)),
    )
    return st.fixed_dictionaries(
        {},
        optional={
            "shards": shards,
            "kind": st.one_of(
                st.sampled_from(KINDS), st.lists(st.sampled_from(KINDS), min_size=1, max_size=3)
            ),
            "where": st.dictionaries(names, values, min_size=1, max_size=2),
            "one_of": st.dictionaries(
                names, st.lists(values, min_size=1, max_size=3), min_size=1, max_size=1
            ),
            "has": st.dictionaries(names, values, min_size=1, max_size=2),
            "exists": st.lists(names, min_size=1, max_size=2),
            "lacks": st.lists(names, min_size=1, max_size=2),
            "from_key": keys,
            "until_key": keys,
            "since": moments,
            "before": moments,
        },
    )


def finds(ids):
    """Keyword arguments of find()."""
    more = st.fixed_dictionaries(
        {},
        optional={
            "newest": st.sampled_from([True, False, 1, 7, 300]),
            "after": st.sampled_from(ids),
            "only": st.lists(names, max_size=2),
        },
    )
    limits = st.one_of(st.none(), st.sampled_from([1, 2, 64, 256, 257]))

    def join(parts):
        selection, how, limit = parts
        if limit is not None and isinstance(how.get("newest", False), bool):
            how = {**how, "limit": limit}
        return {**selection, **how}

    return st.tuples(selections(ids), more, limits).map(join)


# ---- tests ----


@pytest.fixture(scope="module")
def filled(databases):
    """A model, and what it describes in the databases: one shard has nine tenths of all rows, some
    have none. All tests here use these rows, and add none."""
    one, two = databases
    model = Model()
    with Datastore(
        [dict(shards="1-9", **one.params()), dict(shards="9-17", **two.params())]
    ) as store:
        values, names = itertools.cycle(VALUES), itertools.cycle(NAMES)
        entities = []
        for number in range(1500):
            shard = 12 if number % 10 else (1, 2, 3, 8, 9, 16)[number // 10 % 6]
            body = {next(names): next(values) for _ in range(number % 4)}
            entities.append((shard, KINDS[number % 3], body))
        model.put(store, entities)
    return model


def as_lists(rows):
    return [list(row) for row in rows]


def lent(store):
    return store.pool_stats()["lent"]


class Held:
    """A shard's table is locked, so that nobody can read it."""

    def __init__(self, database, shard):
        self._held = python.plain(database)
        self._table = f"shard{shard:04d}.entities"
        self._database = database

    def __enter__(self):
        self._cursor = self._held.__enter__().cursor()
        self._cursor.execute(f"BEGIN; LOCK TABLE {self._table} IN ACCESS EXCLUSIVE MODE")
        return self

    def is_awaited(self):
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        return self._database.value(waiting) >= 1

    def wait(self):
        """Until somebody waits for it."""
        eventually(self.is_awaited, what="somebody waits")

    def __exit__(self, *exc):
        self._cursor.execute("ROLLBACK")
        self._held.__exit__(*exc)


def in_thread(function):
    """Start it, and return a list that gets its result or its exception, and the thread."""
    came = []

    def work():
        try:
            came.append(function())
        except BaseException as error:
            came.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    return came, thread
