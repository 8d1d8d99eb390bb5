"""Everything at once: every way of putting, and all that can happen to servers and networks; decoys
for all that statements name, and beside it commands that a server lies to.

A few seconds of it in the ordinary run; HV_TEST_SECONDS=3600 and -s for an hour, with a line for
each round. A round begins with empty tables and fresh processes, and ends with a look at every
entity. HV_TEST_SEED repeats the choices of a run (not the moments at which they fall).
"""

import collections
import contextlib
import os
import pathlib
import random
import threading
import time

import pytest

import decoys
from harness import TcpRelay, command, eventually, hv, python, store_config
from harness.liar import ALL_WAYS, Liar
from harness.server import HARNESS
from harness.stress import ONE, SECONDS, TWO, Put, check, pause, stress  # noqa: F401

pytestmark = [pytest.mark.threads, pytest.mark.races]

TOTAL = max(SECONDS, 8)
ROUND = 45  # seconds at most, so that the journal and the tables stay small
SHARDS = {ONE: range(1, 9), TWO: range(9, 17)}

# The possible results of a put when connections break, and when a trigger interferes.
EXPECTED = {
    "HV_OK",
    "HV_NOT_STORED",
    "HV_OUTCOME_UNKNOWN",
    "HV_REFUSED",
    "HV_TIMEOUT",
    "HV_UNAVAILABLE",
}


def is_refused(put):
    return (37 * put.number + put.writer) % 100 == 99


def is_swallowed(put):
    return (53 * put.number + put.writer) % 100 == 7


def place_triggers(database, shards):
    """Some rows are refused at the commit, some are swallowed silently."""
    database.sql("""
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN RAISE check_violation USING MESSAGE = 'no hundredth'; END $$;
        CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN RETURN NULL; END $$""")
    number, writer = "(NEW.body->'number')::int", "(NEW.body->'writer')::int"
    for shard in shards:
        database.sql(f"""
            CREATE CONSTRAINT TRIGGER no_hundredth AFTER INSERT ON shard{shard:04}.entities
            DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
            WHEN (mod(37 * {number} + {writer}, 100) = 99) EXECUTE FUNCTION refuse();
            CREATE TRIGGER swallow BEFORE INSERT ON shard{shard:04}.entities FOR EACH ROW
            WHEN (mod(53 * {number} + {writer}, 100) = 7) EXECUTE FUNCTION swallow()""")


# Found first even where they fit no better than PostgreSQL's own.
DECOYS_FIRST = {"options": "-csearch_path=public,pg_catalog"}
PREFIX = {"log_line_prefix": "%m [%p] %d %a "}


def plant_decoys(database):
    """For everything that any statement of the library names: its sources have them all."""
    sources = (command.source_dir() / "src").rglob("*.c")
    decoys.plant(database, "".join(path.read_text(encoding="utf-8") for path in sources))


def called_decoys(server):
    lines = server.log_text().splitlines()
    return decoys.called("\n".join(line for line in lines if f" {HARNESS} " not in line))


class LiedTo:
    """Commands that run one after the other on a database of their own, while whatever answers them
    falsifies one answer of each: a context manager. They end well, and in time."""

    COMMANDS = (
        ("put", 2, 7, "a=b"),
        ("get", "1"),
        ("status",),
        ("status", "--json"),
        ("reserve", 2, 5),
        ("init",),
        ("export", "-", "--shards", "1-3"),
    )

    def __init__(self, database, folder, chance):
        self.database, self.chance = database, chance
        self.folder = folder
        self.ended = threading.Event()
        self.counts = collections.Counter()
        self.failure = None
        self.thread = threading.Thread(target=self._run)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()
        assert self.failure is None, self.failure

    def _run(self):
        try:
            with Liar(self.database, patience=5) as liar:
                path = store_config(
                    self.folder / "lied.conf",
                    {"one": (liar.params(**DECOYS_FIRST), "1-3")},
                    operation_timeout="1s",
                    pool_block_timeout="1s",
                )
                while not self.ended.is_set():
                    self._ask(liar, path)
        except Exception as failure:  # of a thread: it is raised where the thread is joined
            self.failure = failure

    def _ask(self, liar, path):
        words = self.chance.choice(self.COMMANDS)
        way = self.chance.choice(ALL_WAYS)
        liar.lie(self.chance.randrange(1, 12), way)
        result = hv(*words, config=path, timeout=120)
        liar.drop()
        assert result.code in (0, 1, 3), (way, result)
        self.counts["lies" if liar.lied else "not reached"] += 1


class Trouble:
    """The events that hit one server and its network, in random order."""

    def __init__(self, database, relay, chance, count):
        self.database = database
        self.server = database.server
        self.relay = relay
        self.chance = chance
        self.count = count
        self.deeds = [
            self.kill,
            self.stop,
            self.freeze,
            self.terminate,
            self.cut,
            self.cut_in,
            self.stall,
            self.refuse,
            self.lock,
            self.rewrite,
        ]

    def strike(self):
        deed = self.chance.choice(self.deeds)
        self.count[deed.__name__] += 1
        deed()

    def _moment(self, longest):
        pause(self.chance.uniform(0.01, longest))

    def kill(self):
        self.server.kill9()
        self._moment(0.5)
        self.server.start()

    def stop(self):
        self.server.stop(self.chance.choice(["fast", "immediate"]))
        self._moment(0.5)
        self.server.start()

    def freeze(self):
        with self.server.frozen():
            self._moment(4)

    def terminate(self):
        for _ in range(self.chance.randrange(1, 5)):
            self.database.terminate_clients()

    def cut(self):
        self.relay.cut()

    def cut_in(self):
        direction = self.chance.choice(["to_server", "to_client"])
        self.relay.cut_in(direction, self.chance.randrange(1, 20000))

    def stall(self):
        self.relay.stall()
        self._moment(4)
        self.relay.resume()

    def refuse(self):
        self.relay.refuse()
        self.relay.cut()
        self._moment(0.5)
        self.relay.refuse(False)

    def _of_a_shard(self, statement, moment=0):
        """Run a statement on a shard's table and hold its locks for a moment."""
        shard = self.chance.choice(self.shards())
        with contextlib.suppress(Exception):  # a deadlock: it is a try
            with self.database.connect(application_name="test harness") as connection:
                connection.autocommit = False
                with connection.cursor() as cursor:
                    cursor.execute(statement.format(f"shard{shard:04}.entities"))
                    self._moment(moment) if moment else None
                connection.commit()

    def shards(self):
        return SHARDS[ONE if self.server.name == "one" else TWO]

    def lock(self):
        self._of_a_shard("LOCK {} IN ACCESS EXCLUSIVE MODE", 1.5)

    def rewrite(self):
        """A new file for the table, a new column: plans are made anew."""
        self._of_a_shard("ALTER TABLE {} ADD COLUMN IF NOT EXISTS note text DEFAULT random()::text")
        self._of_a_shard("ALTER TABLE {} DROP COLUMN IF EXISTS note")


def largest_keys(databases):
    return {
        shard: databases[server].value(f"SELECT max(id) FROM shard{shard:04}.entities")
        for server in (ONE, TWO)
        for shard in SHARDS[server]
    }


def begin_round(databases, last_keys):
    """Empty the tables. Keys that are made after that are greater than all that were there."""
    for server in (ONE, TWO):
        for shard in SHARDS[server]:
            databases[server].sql(f"TRUNCATE shard{shard:04}.entities")
    last_keys.update({shard: key for shard, key in largest_keys(databases).items() if key})


def settle(databases, relays):
    for relay in relays:
        for direction in ("to_server", "to_client"):
            relay.cut_in(direction, None)
        relay.refuse(False)
        relay.resume()
    for database in databases:
        database.server.wait_ready()


@pytest.fixture
def battered(make_server, make_extension_server, tmp_path):
    """One server with strict keys, one with portable ones, a relay before each, decoys in both: the
    configuration's path, the two databases, the two relays."""
    strict = make_extension_server("one", tcp=True, settings=PREFIX)
    portable = make_server("two", tcp=True, settings=PREFIX).create_database("test")
    databases = [strict, portable]
    direct = {"one": (strict, "1-9"), "two": (portable, "9-17")}
    hv("init", config=store_config(tmp_path / "direct.conf", direct)).ok()
    for server, database in enumerate(databases):
        place_triggers(database, SHARDS[server])
        plant_decoys(database)
    with contextlib.ExitStack() as stack:
        relays = [stack.enter_context(TcpRelay(database.server)) for database in databases]
        path = store_config(
            tmp_path / "relayed.conf",
            {
                "one": (relays[ONE].params("test", **DECOYS_FIRST), "1-9"),
                "two": (relays[TWO].params("test", **DECOYS_FIRST), "9-17"),
            },
        )
        yield path, databases, relays


def choose_stores(chance, first_writer):
    """Two processes with options of their own: any two that may meet in production."""
    for number in range(2):
        yield {
            "threads": chance.choice([8, 16, 40]),
            "writers": first_writer + 100 * number,
            "ways": chance.choice(
                ["put,key,many,queue,load", "put", "put,key", "many,load", "queue,put,put"]
            ),
            "lanes": chance.choice([0, 1, 2, 5]),
            "pool_max": chance.choice([2, 4, 10]),
            "prepare": chance.choice(["on", "on", "off"]),
            "prepared_max": chance.choice([1, 5, 256]),
            "exactly_once": chance.choice(["on", "off"]),
            "max_lifetime": chance.choice(["50ms", "1h"]),
        }


class PythonWriter:
    """A running soak_writer.py."""

    def __init__(self, relays, first_writer, seed):
        connections = [
            dict(shards=f"{shards.start}-{shards.stop}", name=name, **relay.params("test", **DECOYS_FIRST))
            for name, relay, shards in zip(["one", "two"], relays, SHARDS.values())
        ]
        code = pathlib.Path(__file__).with_name("soak_writer.py").read_text(encoding="utf-8")
        settings = f"FIRST_WRITER = {first_writer}\nSEED = {seed}\n"
        self.process = python.Process(settings + code, connections)

    def finish(self):
        with self.process:
            code, out, errors = self.process.end()
        # While psycopg2 connects, libpq prints what a server says that is just ending.
        errors = [
            line for line in errors.splitlines() if "terminating connection" not in line
        ]
        assert (code, errors) == (0, []), f"ended with {code}: {errors}"
        lines = out.splitlines()
        assert int(lines.pop().removeprefix("raised ")) > 0
        puts = []
        for line in lines:
            writer, number, shard, status, key, ended = line.split()
            puts.append(Put(int(writer), int(number), int(shard), status, int(key), int(ended)))
        return puts


def check_round(runs, databases):
    """Returns the number of puts of each status."""
    puts = [put for run in runs for put in run.finish()]
    for database in databases:  # no write is under way any more
        eventually(lambda: database.clients() == [], what="all clients are gone")
    one, two = check(puts, databases)
    assert set(one) | set(two) <= EXPECTED
    for put in puts:
        assert put.status != "HV_OK" or not is_swallowed(put), f"swallowed, but reported: {put}"
        assert put.status != "HV_OK" or not is_refused(put), f"refused, but reported: {put}"
        if put.status == "HV_REFUSED":
            assert is_refused(put), f"refused for no reason: {put}"
        if put.status == "HV_NOT_STORED":
            assert is_swallowed(put), f"swallowed by nothing: {put}"
    return one + two


def test_everything_at_once(stress, battered, tmp_path):  # noqa: F811
    config, databases, relays = battered
    other = databases[TWO].server.create_database("other")
    seed = int(os.environ.get("HV_TEST_SEED", time.time_ns() % 10**9))
    chance = random.Random(seed)
    print(f"\nHV_TEST_SEED={seed}")
    until = time.monotonic() + TOTAL
    troubles, statuses, last_keys = collections.Counter(), collections.Counter(), {}
    rounds = 0
    while time.monotonic() < until:
        end = min(until, time.monotonic() + ROUND)
        begin_round(databases, last_keys)
        stores = list(choose_stores(chance, 1000 * rounds))
        runs = [stress(config, operation_timeout=3, **options) for options in stores]
        others = []
        if python.is_usable() and os.path.isdir(os.path.join(python.folder(), "hv")):
            others.append(PythonWriter(relays, 1000 * rounds + 500, chance.randrange(10**6)))
        both = [
            Trouble(database, relay, chance, troubles)
            for database, relay in zip(databases, relays)
        ]
        with LiedTo(other, tmp_path, random.Random(chance.randrange(10**6))) as lied_to:
            while time.monotonic() < end:
                chance.choice(both).strike()
                pause(chance.choice([0, 0.1, 1]))
            settle(databases, relays)
        troubles += lied_to.counts
        for run in runs:  # it works again
            for server in (ONE, TWO):
                run.flows(databases, server, count=20)
        counts = check_round(runs + others, databases)
        statuses += counts
        for shard, key in largest_keys(databases).items():
            first = databases[ONE if shard < 9 else TWO].value(
                f"SELECT min(id) FROM shard{shard:04}.entities"
            )
            if shard in SHARDS[ONE] and shard in last_keys and first is not None:
                assert first > last_keys[shard], "a key that was made before"
        for database in databases:
            assert called_decoys(database.server) == []
        rounds += 1
        print(f"round {rounds}: {dict(counts)}; so far {dict(statuses)}, {dict(troubles)}")
    for database in databases:  # one that is called would have been seen
        with database.connect(**DECOYS_FIRST) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT max(1::bigint)")
        assert called_decoys(database.server) == ["max(int8)"]
