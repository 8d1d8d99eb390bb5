"""Moves of shards: servers on which they work, the tool that moves, and a look for what is left.

    one, two = moving_servers           # the fixture: fresh databases on servers with logical WAL
    move(config, 3, 1).ok()             # by the tool; Moved.phase and so on
    assert_nothing_left(one, two)
"""

import contextlib
import json
import threading
import time

import psycopg2.errors
import pytest

from . import command
from .command import make_shards
from .config import store_config
from .fixtures import _databases
from .server import PostgresServer
from .wait import eventually

SETTINGS = {
    "wal_level": "logical",
    "max_wal_senders": "24",
    "max_replication_slots": "24",
    "max_worker_processes": "32",
    "max_logical_replication_workers": "24",
    "max_sync_workers_per_subscription": "4",
    "wal_retrieve_retry_interval": "200ms",
    "client_encoding": "UTF8",  # PostgreSQL's workers go by it
}


@pytest.fixture(scope="session")
def shared_moving_servers():
    with (
        PostgresServer("one", tcp=True, settings=SETTINGS) as one,
        PostgresServer("two", tcp=True, settings=SETTINGS) as two,
    ):
        yield one, two


@pytest.fixture
def moving_servers(request, shared_moving_servers):
    """Fresh databases on two servers with wal_level = logical. Do not stop these servers."""
    with _databases(request, shared_moving_servers) as databases:
        try:
            yield databases
        finally:
            for database in databases:
                forget_streams(database)


@pytest.fixture
def own_moving_servers(make_server):
    """The same on servers of the test's own, to be killed at will."""
    return [
        make_server(name, tcp=True, settings=SETTINGS).create_database("test")
        for name in ("one", "two")
    ]


def reached(database, **more):
    """Its part of a configuration: other servers reach it as this program does."""
    params = database.params(**more)
    return {**params, "move_password": params["password"]}


def moving_config(path, one, two, **options):
    return store_config(path, {"one": (reached(one), "1-4"), "two": (reached(two), "5-8")}, **options)


@pytest.fixture
def moving_store(tmp_path, moving_servers):
    """Shards 1 to 3 on server one (0), 5 to 7 on two (1): ready to use."""
    one, two = moving_servers
    path = moving_config(tmp_path / "moving.conf", one, two)
    make_shards(path, one, two)
    return path


def forget_streams(database):
    """Slots and subscriptions keep a database from being dropped."""
    for (name,) in database.query(
        "SELECT subname FROM pg_subscription WHERE subdbid = (SELECT oid FROM pg_database"
        " WHERE datname = current_database())"
    ):
        database.sql(f"ALTER SUBSCRIPTION {name} DISABLE")
        database.sql(f"ALTER SUBSCRIPTION {name} SET (slot_name = NONE)")
        with contextlib.suppress(Exception):
            database.sql(f"DROP SUBSCRIPTION {name}")
    for (name,) in database.query(
        "SELECT slot_name FROM pg_replication_slots WHERE database = current_database()"
    ):

        def drop():
            database.sql(
                "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots"
                " WHERE slot_name = %s AND active_pid IS NOT NULL",
                name,
            )
            try:
                database.sql("SELECT pg_drop_replication_slot(%s)", name)
            except psycopg2.errors.UndefinedObject:
                return True  # it has ended by itself
            except Exception:  # pylint: disable=broad-except
                return False
            return True

        eventually(drop, what=f"the slot {name} is gone")


# ---- moving ----


class Moved:
    """How it ended: the tool's last line."""

    def __init__(self, result):
        self.result = result
        lines = result.lines
        self.said = json.loads(lines[-1]) if lines and lines[-1].startswith("{") else {}

    def __getattr__(self, name):
        return self.said.get(name)

    def ok(self, phase=None):
        assert self.result.code == 0, str(self.result)
        assert phase is None or self.phase == phase, str(self.result)
        return self

    def __repr__(self):
        return repr(self.result)


def _arguments(config, order, shard, server, at, options):
    arguments = [config, order, shard, "-" if server is None else server]
    arguments += [f"{name}={value}" for name, value in options.items()]
    return arguments + [f"@{place}={action}" for place, action in at.items()]


def run_move(config, order, shard, server=None, at=None, trace=False, timeout=120, **options):
    arguments = _arguments(config, order, shard, server, at or {}, options)
    if trace:
        arguments.append("@trace")
    return Moved(command.program("move_tool", *arguments, timeout=timeout))


def move(config, shard, server, **how):
    return run_move(config, "move", shard, server, **how)


class Stepping:
    """A move that stops at a place, and goes on when it is told to.

    with Stepping(config, "move", 3, 1, place="copying") as stepping:
        ...                                # it is at the place
        stepping.go_on()
        moved = stepping.end()
    """

    def __init__(self, config, order, shard, server=None, *, place, **options):
        arguments = _arguments(config, order, shard, server, {place: "ask"}, options)
        self._process = command.spawn("move_tool", *arguments)
        line = self._process.stdout.readline().decode()
        self.came = line.startswith("at ")
        self._first = line

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()

    def kill(self):
        self._process.kill()
        self._process.wait()

    def go_on(self):
        if self.came:
            self._process.stdin.write(b"\n")
            self._process.stdin.flush()

    def end(self, timeout=120):
        out, err = self._process.communicate(timeout=timeout)
        first = b"" if self.came else self._first.encode()
        return Moved(command.Result(["move_tool"], self._process.returncode, first + out, err))


# ---- what is left ----


def leftovers(database):
    """Everything on a server that a move has made: names of kinds."""
    found = []
    queries = {
        "slot": "SELECT slot_name FROM pg_replication_slots WHERE database = current_database()",
        "publication": "SELECT pubname FROM pg_publication",
        "subscription": "SELECT subname FROM pg_subscription WHERE subdbid = (SELECT oid"
        " FROM pg_database WHERE datname = current_database())",
        "schema": "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'hypervault\\_%'",
        "table": "SELECT relname FROM pg_class WHERE relname LIKE 'hypervault\\_____\\_%'"
        " AND relkind IN ('r', 'p')",
        "origin": "SELECT roname FROM pg_replication_origin WHERE NOT EXISTS (SELECT FROM"
        " pg_subscription WHERE roname ~ concat('^pg_', pg_subscription.oid, '(_|$)'))",
        "arriving": "SELECT shard::text FROM hypervault.shard_locations WHERE state = 'arriving'",
    }
    for kind, query in queries.items():
        if kind == "arriving" and not database.value(
            "SELECT to_regclass('hypervault.shard_locations') IS NOT NULL"
        ):
            continue
        found += [f"{kind} {name}" for (name,) in database.query(query)]
    if database.value("SELECT to_regclass('hypervault.moves') IS NOT NULL"):
        rows = database.query("SELECT shard, kind, step FROM hypervault.moves")
        found += [f"journal {row}" for row in rows]
    return found


def assert_nothing_left(*databases):
    for database in databases:
        found = leftovers(database)
        assert not found, f"{database}: {found}"


def locations(database):
    """{shard: (state, generation, server)}"""
    if not database.value("SELECT to_regclass('hypervault.shard_locations') IS NOT NULL"):
        return {}
    rows = database.query("SELECT shard, state, generation, server FROM hypervault.shard_locations")
    return {shard: tuple(rest) for shard, *rest in rows}


def structure(database, shard):
    """Everything in a shard's schema but the rows, as text."""
    schema = f"'shard{shard:04}'::regnamespace"
    relations = f"SELECT oid FROM pg_class WHERE relnamespace = {schema}"
    queries = (
        "SELECT relname, relkind, relpersistence, relreplident, relispartition, relacl::text,"
        f" obj_description(oid, 'pg_class') FROM pg_class WHERE relnamespace = {schema}",
        "SELECT attrelid::regclass::text, attname, format_type(atttypid, atttypmod), attnotnull,"
        " attstattarget, attgenerated, attidentity, pg_get_expr(adbin, adrelid)"
        " FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum"
        f" WHERE attrelid IN ({relations}) AND attnum > 0 AND NOT attisdropped",
        "SELECT pg_get_indexdef(indexrelid), indisvalid, indisready, indisreplident FROM pg_index"
        f" WHERE indrelid IN ({relations})",
        "SELECT conname, pg_get_constraintdef(oid), convalidated FROM pg_constraint"
        f" WHERE connamespace = {schema}",
        "SELECT pg_get_triggerdef(oid), tgenabled FROM pg_trigger WHERE NOT tgisinternal"
        f" AND tgrelid IN ({relations})",
        "SELECT pg_get_viewdef(oid) FROM pg_class WHERE relkind = 'v'"
        f" AND relnamespace = {schema}",
        f"SELECT pg_get_functiondef(oid), proacl::text FROM pg_proc WHERE pronamespace = {schema}",
        f"SELECT nspname, nspowner::regrole::text, nspacl::text FROM pg_namespace WHERE oid = {schema}",
        "SELECT inhrelid::regclass::text, inhparent::regclass::text FROM pg_inherits"
        f" WHERE inhrelid IN ({relations}) OR inhparent IN ({relations})",
    )
    return [sorted(map(repr, database.query(query))) for query in queries]


def content(database, shard, table="entities", schema=None):
    """A hash of all rows, and how many."""
    schema = schema or f"shard{shard:04}"
    return database.query(
        f"SELECT count(*), coalesce(sum(hashtextextended(t::text, 0)), 0)::text"
        f" FROM {schema}.{table} AS t"
    )[0]


def has_shard(database, shard):
    return database.value("SELECT to_regclass(%s) IS NOT NULL", f"shard{shard:04}.entities")


def fill(database, shard, count):
    """Entities, quickly."""
    database.sql(
        f"INSERT INTO shard{shard:04}.entities (type, body) SELECT 1, hstore('n', n::text)"
        f" FROM generate_series(1, {count}) AS n"
    )


def fill_large(database, shard, table="entities (type, body)"):
    """So much that move_tool makes the table's keys late: 40 MB in 5,000 rows."""
    database.sql(
        f"INSERT INTO shard{shard:04}.{table} SELECT n, hstore('text', (SELECT string_agg("
        "md5(concat(n, ' ', i)), '') FROM generate_series(1, 250) AS i))"
        " FROM generate_series(1, 5000) AS n"
    )


class Writer:
    """Writes to a shard all the time, by SQL, wherever it is, and knows what was acknowledged.

    with Writer(3, one, two) as writer:
        ...
    writer.check(two)
    """

    def __init__(self, shard, *databases):
        self.shard = shard
        self.databases = databases
        self.acknowledged = []
        self.longest = 0.0
        self._doubtful = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join(60)

    def _run(self):
        number = 0
        connections = [None] * len(self.databases)
        which = 0
        began = time.monotonic()
        while not self._stop.is_set():
            number += 1
            try:
                if connections[which] is None:
                    connections[which] = self.databases[which].server._connect(
                        self.databases[which].dbname, connect_timeout="2"
                    )
                    connections[which].autocommit = True
                with connections[which].cursor() as cursor:
                    cursor.execute(
                        f"INSERT INTO shard{self.shard:04}.entities (type, body)"
                        f" VALUES (2, public.hstore('w', '{number}'))"
                    )
                self.acknowledged.append(number)
                self.longest = max(self.longest, time.monotonic() - began)
                began = time.monotonic()
                time.sleep(0.002)
            except Exception as error:  # pylint: disable=broad-except
                if getattr(error, "pgcode", None) in ("42P01", "3F000"):
                    which = (which + 1) % len(connections)
                    continue
                # It may or may not have been written.
                self._doubtful.add(number)
                with contextlib.suppress(Exception):
                    connections[which].close()
                connections[which] = None
                began = time.monotonic()
                time.sleep(0.05)

    def check(self, database):
        """All that was acknowledged is there, once."""
        rows = [
            int(number)
            for (number,) in database.query(
                f"SELECT body -> 'w' FROM shard{self.shard:04}.entities WHERE body ? 'w'"
            )
        ]
        assert len(rows) == len(set(rows)), "rows are doubled"
        missing = set(self.acknowledged) - set(rows)
        assert not missing, f"{len(missing)} rows are missing, {sorted(missing)[:5]}"
        unexpected = set(rows) - set(self.acknowledged) - self._doubtful
        assert len(unexpected) <= 1, f"unexpected: {sorted(unexpected)[:5]}"
