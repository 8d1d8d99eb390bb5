"""For tests of feeds: a reader in a process that may be killed, and writers that do all that makes
keys come late."""

import bisect
import collections
import contextlib
import io
import itertools
import json
import random
import threading
import time

import psycopg2

from harness import command, eventually
from harness.server import HARNESS

EPOCH = 1379365531352  # of stores, in milliseconds


def first_key(seconds):
    """The first key of a moment."""
    return (int(seconds * 1000) - EPOCH) << 23


def key_time(key):
    """When a key was made, in seconds since 1970."""
    return ((key >> 23) + EPOCH) / 1000


class Feed:
    """feed_tool (see there): hv_feed() in a process, whose lines are collected by a thread."""

    def __init__(self, config, **options):
        arguments = [f"{name}={value}" for name, value in options.items()]
        self.process = command.spawn("feed_tool", config, *arguments)
        self.keys = []
        self.arrivals = []
        self.entities = []
        self.errors = []
        self.missing = []
        self.idle = None  # the last look without an entity
        self.ended = None
        self._thread = threading.Thread(target=self._collect, daemon=True)
        self._thread.start()

    def _collect(self):
        for line in self.process.stdout:
            if not line.endswith(b"\n"):
                break  # it was killed
            now = time.time()
            fields = json.loads(line)
            if "key" in fields:
                self.keys.append(fields["key"])
                self.arrivals.append(now)
                self.entities.append(fields)
            elif "end" in fields:
                self.ended = fields
            elif "error" in fields:
                self.errors.append(fields["error"])
            elif "missing" in fields:
                self.missing.append(fields["missing"])
            else:
                self.idle = fields

    @property
    def position(self):
        return self.idle["position"] if self.idle else 0

    @property
    def holder(self):
        return self.idle["holder"] if self.idle else None

    def wait(self, timeout=60):
        """Until it ends by itself; return the feed."""
        assert self.process.wait(timeout) == 0, self.errors
        self._thread.join()
        self._close()
        return self

    def kill(self):
        """Kill it, and return the feed with all that it had printed."""
        self.process.kill()
        self.process.wait()
        self._thread.join()
        self._close()
        return self

    def _close(self):
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            stream.close()

    def until(self, condition, what=None, timeout=60):
        """Wait for a condition on the feed."""
        try:
            return eventually(lambda: condition(self), timeout, what)
        except AssertionError as error:
            raise AssertionError(
                f"{error}: {len(self.keys)} keys, last {self.keys[-1:]}, {self.idle},"
                f" {self.errors[-3:]}"
            ) from error

    def until_keys(self, keys, timeout=60):
        """Wait until it has returned these, and nothing else."""
        self.until(lambda feed: len(feed.keys) >= len(keys), f"{len(keys)} keys", timeout)
        assert self.keys == sorted(keys)
        return self

    def until_passed(self, key, timeout=60):
        """Wait until it is beyond this key."""
        return self.until(lambda feed: feed.position > key, f"it is beyond {key}", timeout)


class Lines(io.TextIOBase):
    """Rows for a COPY that takes its time."""

    def __init__(self, count, seconds):
        self._pauses = iter([seconds / count] * count)

    def read(self, size=-1):
        pause = next(self._pauses, None)
        if pause is None:
            return ""
        time.sleep(pause)
        return '1\t"way"=>"copy"\n'


class Writers:
    """Threads that write into a store's tables, mostly in transactions that are open for a while.

    `places` are pairs of a Database and its shards. What they have written is known only at the end,
    from the tables: `finish()` ends what is open, and returns all keys.
    """

    def __init__(self, places, count, longest, seed=None):
        self._places = places
        self._longest = longest
        self._over = threading.Event()
        self._gids = itertools.count(1)
        self.done = collections.Counter()
        self.seed = seed if seed is not None else random.randrange(1 << 32)
        self._threads = [
            threading.Thread(target=self._write, args=(random.Random(self.seed + number),))
            for number in range(count)
        ]
        for thread in self._threads:
            thread.start()

    @contextlib.contextmanager
    def running(self):
        try:
            yield self
        finally:
            self.finish()

    # ---- ways ----

    def _hold(self, chance):
        """Mostly for a moment, now and then for long; at most two of these in a transaction."""
        longest = self._longest / 2 if chance.random() < 0.1 else 0.2
        self._over.wait(chance.random() * longest)

    @staticmethod
    def _insert(cursor, shard, way):
        cursor.execute(
            f"INSERT INTO shard{shard:04}.entities (type, body)"
            " VALUES (1, hstore('way', %s)) RETURNING id",
            [way],
        )

    def _alone(self, connection, cursor, shards, chance):
        self._insert(cursor, chance.choice(shards), "alone")
        connection.commit()

    def _open(self, connection, cursor, shards, chance):
        for _ in range(chance.randint(1, 2)):
            self._insert(cursor, chance.choice(shards), "open")
            self._hold(chance)
        connection.commit() if chance.random() < 0.7 else connection.rollback()

    def _savepoint(self, connection, cursor, shards, chance):
        cursor.execute("SAVEPOINT one")
        self._insert(cursor, chance.choice(shards), "undone")
        self._hold(chance)
        cursor.execute("ROLLBACK TO one")
        self._insert(cursor, chance.choice(shards), "savepoint")
        self._hold(chance)
        connection.commit()

    def _reserved(self, connection, cursor, shards, chance):
        """A key that is reserved in the transaction that uses it."""
        shard = chance.choice(shards)
        cursor.execute(f"SELECT shard{shard:04}.reserve_ids(1)")
        (key,) = cursor.fetchone()
        self._hold(chance)
        cursor.execute(
            f"INSERT INTO shard{shard:04}.entities VALUES (%s, 1, 'way=>reserved')", [key]
        )
        connection.commit()

    def _copy(self, connection, cursor, shards, chance):
        seconds = chance.random() * (self._longest if chance.random() < 0.2 else 0.3)
        cursor.copy_expert(
            f"COPY shard{chance.choice(shards):04}.entities (type, body) FROM STDIN",
            Lines(chance.randint(5, 50), seconds),
        )
        connection.commit()

    def _prepared(self, connection, cursor, shards, chance):
        gid = f"feed{next(self._gids)}"
        self._insert(cursor, chance.choice(shards), "prepared")
        self._hold(chance)
        cursor.execute("PREPARE TRANSACTION %s", [gid])
        connection.rollback()
        self._hold(chance)
        connection.autocommit = True
        cursor.execute(("COMMIT" if chance.random() < 0.7 else "ROLLBACK") + " PREPARED %s", [gid])

    def _write(self, chance):
        ways = [self._alone] * 6 + [self._open] * 4 + [self._copy] * 2 + [self._prepared] * 2
        ways += [self._savepoint, self._reserved]
        while not self._over.is_set():
            database, shards = chance.choice(self._places)
            way = chance.choice(ways)
            # psycopg2 raises a SystemError if a COPY is ended while it asks for more rows.
            with (
                contextlib.suppress(psycopg2.Error, SystemError),
                database.connect() as connection,
            ):
                # A connection serves for some transactions.
                for _ in range(chance.randint(1, 20)):
                    if self._over.is_set():
                        break
                    connection.autocommit = False
                    with connection.cursor() as cursor:
                        way(connection, cursor, shards, chance)
                    self.done[way.__name__[1:]] += 1
                    way = chance.choice(ways)
                continue
            self.done["lost"] += 1
            self._over.wait(0.05)

    # ---- the end ----

    @staticmethod
    def end_prepared(database, seconds):
        """End transactions that are prepared for longer, as those whose session was killed."""
        for gid, number in database.query(
            "SELECT gid, mod(transaction::text::bigint, 2) FROM pg_prepared_xacts"
            " WHERE prepared < clock_timestamp() - make_interval(secs => %s)",
            seconds,
        ):
            with contextlib.suppress(psycopg2.Error):  # its own thread has just ended it
                database.sql(("COMMIT" if number else "ROLLBACK") + " PREPARED %s", gid)

    def finish(self):
        self._over.set()
        for thread in self._threads:
            thread.join()
        for database, _ in self._places:
            eventually(lambda database=database: self._is_at_rest(database))
        keys = []
        for database, shards in self._places:
            for shard in shards:
                rows = database.query(f"SELECT id FROM shard{shard:04}.entities")
                keys += [key for (key,) in rows]
        return sorted(keys)

    def _is_at_rest(self, database):
        """Nothing is open, nor prepared, any more."""
        self.end_prepared(database, 0)
        return not database.value(
            "SELECT count(*) FROM pg_locks WHERE mode = 'RowExclusiveLock'"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )


def kill_a_connection(database, chance):
    """End a random session of a writer or reader."""
    pids = database.query(
        "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend'"
        " AND datname = current_database() AND pid <> pg_backend_pid()"
    )
    if pids:
        database.sql("SELECT pg_terminate_backend(%s)", chance.choice(pids)[0])


def compare(got, expected):
    """What is wrong with the keys that a reader has returned, in words; empty if nothing is."""
    counts = collections.Counter(got)
    missed = [key for key in expected if key not in counts]
    doubled = [key for key, count in counts.items() if count > 1]
    place = next((i for i in range(1, len(got)) if got[i] <= got[i - 1]), None)
    strange = [key for key in counts if not is_in(key, expected)]
    return {
        name: value
        for name, value in (
            ("missed", missed),
            ("doubled", doubled),
            ("strange", strange),
            ("out of order", [] if place is None else got[place - 1 : place + 1]),
        )
        if value
    }


def is_in(key, keys):
    place = bisect.bisect_left(keys, key)
    return place < len(keys) and keys[place] == key


def distribution(values):
    """In one line; the values are seconds."""
    if not values:
        return "none"
    values = sorted(values)

    def at(part):
        return values[min(len(values) - 1, int(part * len(values)))]

    names = {"median": 0.5, "90 %": 0.9, "99 %": 0.99, "99.9 %": 0.999}
    shown = ", ".join(f"{name} {at(part):.2f}" for name, part in names.items())
    return f"least {values[0]:.2f}, {shown}, most {values[-1]:.2f} s ({len(values)} entities)"


__all__ = [
    "EPOCH",
    "HARNESS",
    "Feed",
    "Writers",
    "compare",
    "distribution",
    "first_key",
    "kill_a_connection",
    "key_time",
]
