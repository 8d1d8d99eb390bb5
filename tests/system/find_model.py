"""Random entities in a store and the same ones in one plain table, and queries over both: the model
that tests compare finding and counting with.

The table has the attributes as jsonb, so that it shares neither a type nor an operator with the
store. Everything random is made from a seed.
"""

import dataclasses
import datetime
import itertools
import json
import random

import psycopg2
import psycopg2.extras
from hypothesis import strategies as st

EPOCH = 1379365531352  # the store's, milliseconds
UNIX = datetime.datetime(1970, 1, 1)
# While the entities are made, summer time begins and ends in Berlin, and a quarter and a year end.
TIMES = [
    (datetime.datetime(2026, 3, 28, 12), datetime.datetime(2026, 4, 1, 12)),
    (datetime.datetime(2026, 10, 24, 18), datetime.datetime(2026, 10, 25, 6)),
    (datetime.datetime(2026, 12, 31, 12), datetime.datetime(2027, 1, 1, 12)),
]
SHARDS = range(1, 17)
BIG = 3  # has nine tenths of the entities
EMPTY = (5, 12)
FULL = [shard for shard in SHARDS if shard not in EMPTY]

KINDS = (1, 2, 3, 0, 32767, -32768)
ODD = 'it\'s "odd" \\, ☃\n=>'
NAMES = ("user", "tag", "n", "flag", "", ODD)
USERS = [str(number) for number in range(40)]
TAGS = ["a", "b", "", "NULL", "null", None, '"', "'", "\\", "a\\'b", "ß€😀", " x=>y, "]
ABSENT = ["not there", "\\u0000", "%"]  # no entity has them
BODIES = 600

# How many entities a server sends at a time changes at these.
BORDERS = (64, 256, 1024, 4096)
NEAR_BORDERS = [border + step for border in BORDERS for step in (-1, 0, 1)]

UNITS = ("second", "minute", "hour", "day", "week", "month", "quarter", "year")
ZONES = (None, "Europe/Berlin", "America/St_Johns", "Asia/Kathmandu")


# ---- the entities ----


def milliseconds(moment):
    return (moment - UNIX) // datetime.timedelta(milliseconds=1)


def moment_of(key):
    return UNIX + datetime.timedelta(milliseconds=(key >> 23) + EPOCH)


def in_utc(moment):
    """A moment, in UTC if it has no time zone, without one."""
    if moment.tzinfo is None:
        return moment
    return moment.astimezone(datetime.timezone.utc).replace(tzinfo=None)


def random_bodies(source):
    """Few different ones: then most queries find something."""
    bodies = [{}]
    while len(bodies) < BODIES:
        body = {}
        if source.random() < 0.85:
            # The first users have many entities, the last few.
            body["user"] = USERS[int(len(USERS) * source.random() ** 2)]
        elif source.random() < 0.3:
            body["user"] = None
        if source.random() < 0.5:
            body["tag"] = source.choice(TAGS)
        if source.random() < 0.3:
            body["n"] = str(source.randrange(5))
        if source.random() < 0.1:
            body["flag"] = None
        if source.random() < 0.1:
            body[""] = source.choice(TAGS)
        if source.random() < 0.1:
            body[ODD] = source.choice(TAGS + [ODD])
        if source.random() < 0.02:
            body["filler"] = "".join(source.choices("abcdefgh", k=3000))
        bodies.append(body)
    return bodies


def random_keys(source, count):
    """Sorted. Some were made in the same milliseconds, in one shard and in several."""
    spans = [tuple(milliseconds(moment) - EPOCH for moment in span) for span in TIMES]
    bursts = [source.randrange(*source.choice(spans)) for _ in range(max(1, count // 30))]
    keys = set()
    while len(keys) < count:
        is_burst = source.random() < 0.6
        created = source.choice(bursts) if is_burst else source.randrange(*source.choice(spans))
        shard = BIG if source.random() < 0.9 else source.choice(FULL)
        keys.add(created << 23 | shard << 10 | source.randrange(1024))
    return sorted(keys)


@dataclasses.dataclass
class World:
    """The same entities in a store and in a table, and what queries are made of."""

    db: object  # the store: a Datastore
    databases: list  # its servers' Databases, the first with the first half of the shards
    table: object  # a connection to the database with the table
    keys: list  # of all entities, sorted

    def rows(self, sql, args=()):
        with self.table.cursor() as cursor:
            cursor.execute(sql, args)
            return cursor.fetchall()


def _copy(cursor, keys, kinds, bodies):
    """Copy keys, kinds and the numbers of bodies into the temporary table `made`."""
    cursor.execute("CREATE TEMP TABLE made (id bigint, type smallint, body int)")

    class Lines:
        def __init__(self):
            self._lines = (
                f"{key}\t{kind}\t{body}\n".encode() for key, kind, body in zip(keys, kinds, bodies)
            )

        def read(self, _size):
            return b"".join(itertools.islice(self._lines, 500))

    cursor.copy_expert("COPY made FROM STDIN", Lines())
    cursor.execute("ANALYZE made")


def fill(seed, count, databases, reference):
    """Put the entities into the shards of two Databases and into one table of a third; returns the
    keys."""
    source = random.Random(seed)
    bodies = random_bodies(source)
    keys = random_keys(source, count)
    kinds = source.choices(KINDS, (50, 30, 10, 5, 3, 2), k=count)
    chosen = [source.randrange(len(bodies)) for _ in keys]
    for database in [*databases, reference]:
        with database.connect() as connection, connection.cursor() as cursor:
            _copy(cursor, keys, kinds, chosen)
            if database is reference:
                cursor.execute("CREATE TEMP TABLE bodies (n int, body jsonb)")
                values = [(n, json.dumps(body)) for n, body in enumerate(bodies)]
            else:
                psycopg2.extras.register_hstore(cursor)
                cursor.execute("CREATE TEMP TABLE bodies (n int, body hstore)")
                values = list(enumerate(bodies))
            psycopg2.extras.execute_values(cursor, "INSERT INTO bodies VALUES %s", values)
            joined = "SELECT id, type, b.body FROM made JOIN bodies b ON n = made.body"
            if database is reference:
                cursor.execute(
                    "CREATE TABLE entities (id bigint PRIMARY KEY, type smallint, body jsonb);"
                    f"INSERT INTO entities {joined} ORDER BY id;"
                    "CREATE INDEX ON entities ((body ->> 'user'), id)"
                )
                cursor.execute("ANALYZE entities")
                continue
            half = SHARDS[:8] if database is databases[0] else SHARDS[8:]
            for shard in half:
                cursor.execute(
                    f"INSERT INTO shard{shard:04}.entities {joined}"
                    f" WHERE (id >> 10) & 8191 = {shard}"
                )
                cursor.execute(f"ANALYZE shard{shard:04}.entities")
    return keys


# ---- queries ----


@dataclasses.dataclass
class Query:
    """A find or a count. Bounds are places among all keys, from 0 to 1, which the world turns into
    keys or moments."""

    shards: object = None  # a list, or None: all
    kinds: object = None
    lower: object = None  # (by, place, step), by "key" or "time"
    upper: object = None
    span: object = None  # instead of `upper`: so many entities of the whole store, from `lower`
    after: object = None  # (place, step)
    equal: dict = dataclasses.field(default_factory=dict)
    one_of: dict = dataclasses.field(default_factory=dict)
    has: dict = dataclasses.field(default_factory=dict)
    exists: list = dataclasses.field(default_factory=list)
    lacks: list = dataclasses.field(default_factory=list)
    newest: bool = False
    limit: object = None
    only: object = None
    page: object = None  # read in pages of this size, each continued from the last key


def _places():
    return st.floats(0, 1, exclude_max=True)


def _bounds():
    step = st.sampled_from([0, 0, 0, 1, -1, 1 << 23, -(1 << 23), 1000 << 23])
    return st.one_of(st.none(), st.tuples(st.sampled_from(["key", "time"]), _places(), step))


def _shards():
    """All, one, the big one, an empty one, some of one server, some of both."""
    return st.one_of(
        st.none(),
        st.none(),
        st.sampled_from([[BIG], [EMPTY[0]], list(EMPTY), FULL, list(SHARDS[:8]), [1, 9]]),
        st.lists(st.sampled_from(SHARDS), min_size=1, max_size=16, unique=True),
    )


def _values(name):
    """Of an attribute: one that some entity has, NULL, or one that none has."""
    there = {"user": USERS, "n": list("01234"), "flag": ["a"]}.get(name, [*TAGS, ODD])
    return st.one_of(*[st.sampled_from(there)] * 3, st.none(), st.sampled_from(ABSENT))


@st.composite
def _attributes(draw):
    """Mostly none or one condition, at most three."""
    made = {"equal": {}, "one_of": {}, "has": {}, "exists": [], "lacks": []}
    for _ in range(draw(st.sampled_from([0, 0, 1, 1, 1, 2, 3]))):
        name = draw(st.sampled_from(NAMES))
        how = draw(st.sampled_from(["equal", "equal", "one_of", "has", "exists", "lacks"]))
        if how in ("equal", "has"):
            made[how][name] = draw(_values(name))
        elif how == "one_of":
            made[how][name] = draw(st.lists(_values(name), min_size=1, max_size=4, unique=True))
        elif name not in made[how]:
            made[how].append(name)
    return made


@st.composite
def selections(draw):
    """Queries without order and limit, as a count takes them."""
    lower = draw(_bounds())
    upper = draw(_bounds())
    if lower and upper and lower[1] > upper[1] and draw(st.integers(0, 19)) > 0:
        lower, upper = (lower[0], upper[1], lower[2]), (upper[0], lower[1], upper[2])
    span = None
    if lower is not None and draw(st.booleans()):
        upper, span = None, draw(st.sampled_from(NEAR_BORDERS))
    kinds = st.lists(st.sampled_from([*KINDS, 77]), min_size=1, max_size=3, unique=True)
    return Query(
        shards=draw(_shards()),
        kinds=draw(st.one_of(st.none(), st.none(), kinds)),
        lower=lower,
        upper=upper,
        span=span,
        **draw(_attributes()),
    )


@st.composite
def queries(draw):
    query = draw(selections())
    query.newest = draw(st.booleans())
    limits = st.one_of(st.integers(1, 30), st.sampled_from(NEAR_BORDERS))
    query.limit = draw(st.one_of(st.none(), limits, limits, limits))
    pages = st.one_of(st.integers(7, 300), st.sampled_from(NEAR_BORDERS))
    query.page = draw(st.one_of(st.none(), st.none(), pages, pages))
    if draw(st.integers(0, 4)) == 0:
        query.after = draw(st.tuples(_places(), st.sampled_from([0, 0, 1, -1])))
    only = st.lists(st.sampled_from([*NAMES, "filler", "nobody's"]), max_size=3, unique=True)
    query.only = draw(st.one_of(st.none(), st.none(), st.none(), only))
    return query


# ---- what a query means ----


class Meaning:
    """A query in a world: the arguments of find() and count(), and the same as SQL."""

    def __init__(self, world, query):
        self.world = world
        self.query = query
        self.arguments = {}
        self._clauses, self._args = [], []
        self.lowest, self.end = 1, None  # the keys that the bounds leave: lowest <= key < end
        self._keys()
        self._conditions()

    # ---- both sides ----

    def _keys(self):
        query, keys = self.query, self.world.keys
        if query.shards is not None:
            self.arguments["shards"] = query.shards
            self._where("(id >> 10) & 8191 = ANY(%s)", query.shards)
        if query.kinds is not None:
            self.arguments["kind"] = query.kinds
            self._where("type = ANY(%s)", query.kinds)
        if query.lower is not None:
            self.lowest = self._bound(query.lower, "from_key", "since")
        if query.upper is not None:
            self.end = self._bound(query.upper, "until_key", "before")
        if query.span is not None:
            place = int(query.lower[1] * len(keys)) + query.span
            if place < len(keys):
                self.end = self.arguments["until_key"] = max(keys[place], self.lowest)
        self._where("id >= %s", self.lowest)
        if self.end is not None:
            self._where("id < %s", self.end)
        if query.after is not None:
            place, step = query.after
            after = keys[int(place * len(keys))] + step
            self.arguments["after"] = after
            self._where("id < %s" if query.newest else "id > %s", after)

    def _bound(self, bound, by_key, by_time):
        by, place, step = bound
        key = self.world.keys[int(place * len(self.world.keys))] + step
        if by == "key":
            self.arguments[by_key] = key
            return key
        moment = moment_of(key)
        self.arguments[by_time] = moment
        return (milliseconds(moment) - EPOCH) << 23

    def _where(self, clause, *args):
        self._clauses.append(clause)
        self._args += args

    def _value_is(self, name, value):
        if value is None:
            return "body -> %s = 'null'", [name]
        return "body ->> %s = %s", [name, value]

    def _conditions(self):
        query = self.query
        given = {
            "where": query.equal,
            "one_of": query.one_of,
            "has": query.has,
            "exists": query.exists,
            "lacks": query.lacks,
        }
        self.arguments.update({name: value for name, value in given.items() if value})
        for name, value in query.equal.items():
            clause, args = self._value_is(name, value)
            self._where(clause, *args)
        for name, values in query.one_of.items():
            each = [self._value_is(name, value) for value in values]
            clause = " OR ".join(clause for clause, _ in each)
            self._where(f"({clause})", *(arg for _, args in each for arg in args))
        if query.has:
            self._where("body @> %s", json.dumps(query.has))
        for name in query.exists:
            self._where("body ? %s", name)
        for name in query.lacks:
            self._where("NOT body ? %s", name)

    # ---- the store ----

    @property
    def is_impossible(self):
        """The lower bound is above the upper one: an error."""
        return self.end is not None and self.lowest > self.end

    def found(self, **more):
        """What the store finds: [(key, kind, attributes)]."""
        query = self.query
        arguments = {**self.arguments, **more}
        if query.newest:
            arguments["newest"] = True
        if query.only is not None:
            arguments["only"] = query.only
        return [(int(row[0]), row[1], row[2]) for row in self.world.db.find(**arguments)]

    # ---- the table ----

    def _where_sql(self):
        return " AND ".join(self._clauses), self._args

    def expected(self, limit):
        """What the table has: the same, at most `limit` of it."""
        where, args = self._where_sql()
        direction = "DESC" if self.query.newest else "ASC"
        sql = f"SELECT id, type, body FROM entities WHERE {where} ORDER BY id {direction} LIMIT %s"
        rows = self.world.rows(sql, [*args, limit])
        only = self.query.only
        if only is None:
            return rows
        return [
            (key, kind, {name: value for name, value in body.items() if name in only})
            for key, kind, body in rows
        ]

    def expected_count(self):
        where, args = self._where_sql()
        return self.world.rows(f"SELECT count(*) FROM entities WHERE {where}", args)[0][0]

    def counted(self, by=None, **more):
        return self.world.db.count(by=by, **self.arguments, **more)

    def expected_times(self, unit, zone):
        """{the moment when the unit of time begins: count}."""
        created = f"pg_catalog.to_timestamp((({EPOCH} + (id >> 23)) / 1000)::float8)"
        counts = self.expected_counts(f"date_trunc(%s, {created}, %s)", unit, zone)
        return {in_utc(moment): count for moment, count in counts.items()}

    def expected_counts(self, group, *args):
        """{group: count} by an SQL expression."""
        where, more = self._where_sql()
        sql = f"SELECT {group} AS part, count(*) FROM entities WHERE {where} GROUP BY 1 ORDER BY 1"
        return dict(self.world.rows(sql, [*args, *more]))
