"""A shard with all kinds of tables, a copy of it on another server that follows by a stream as a
move makes it, callers that write, and the tool that compares."""

import json
import random
import subprocess
import threading
import time

import psycopg2

from harness import command, eventually, store_config

SHARD = 12
SCHEMA = "shard0012"
COPY = "hypervault_0012_1a2b3c4d"
ROWS = 60_000

# {s} is the schema. The copy's columns are in another order, and its rows in another place.
TYPES = "CREATE TYPE {s}.mood AS ENUM ('good', 'so-so', 'bad')"
TABLES = {
    "entities": ("id bigint PRIMARY KEY", "type smallint NOT NULL", "body public.hstore NOT NULL"),
    "names": (
        "name text PRIMARY KEY",
        "score numeric",
        "seen timestamptz",
        "words text[]",
        'said jsonb, "odd ""col" text',
        "size integer GENERATED ALWAYS AS (length(name)) STORED",
    ),
    "pairs": ("a integer", "b varchar(40)", "mood {s}.mood", "ratio float8", "PRIMARY KEY (a, b)"),
    'Odd "Ones': ("id uuid PRIMARY KEY", "price numeric(10,2)", "span interval", "data bytea"),
    "keyless": ("what text", "size integer"),
}
FILL = """
INSERT INTO {s}.entities SELECT g * 100, g % 7, hstore(ARRAY['name', 'note'],
    ARRAY['n' || g, repeat(md5(g::text), 1 + g % 4)]) FROM generate_series(1, {rows}) AS g;
INSERT INTO {s}.names SELECT 'name ' || g, g / 7.0, now() - g * interval '1 min',
    ARRAY['a' || g, NULL], jsonb_build_object('g', g) FROM generate_series(1, 3000) AS g;
INSERT INTO {s}.pairs SELECT g / 3, 'b"{{,}}''\\' || g, 'so-so', g / 3.0 FROM generate_series(1, 3000) AS g;
INSERT INTO {s}."Odd ""Ones" SELECT md5(g::text)::uuid, g, g * interval '25 h', decode(md5(g::text), 'hex')
    FROM generate_series(1, 500) AS g;
INSERT INTO {s}.keyless SELECT 'x' || g / 2, g / 2 FROM generate_series(1, 400) AS g;
ALTER TABLE {s}.keyless REPLICA IDENTITY FULL;
"""


def quoted(name):
    return '"' + name.replace('"', '""') + '"'


def create(database, schema, turned=False):
    statements = [f"CREATE SCHEMA {schema}", TYPES.format(s=schema)]
    for name, columns in TABLES.items():
        columns = reversed(columns) if turned else columns
        statements.append(f"CREATE TABLE {schema}.{quoted(name)} ({', '.join(columns)})".format(s=schema))
    database.sql("CREATE EXTENSION IF NOT EXISTS hstore")
    for statement in statements:
        database.sql(statement)


class Streamed:
    """The shard on `source`, its copy on `target`, and the stream between them."""

    def __init__(self, source, target, rows=ROWS):
        self.source, self.target = source, target
        create(source, SCHEMA)
        source.sql(FILL.format(s=SCHEMA, rows=rows))
        source.sql("ANALYZE")  # so that entities have several ranges
        create(target, COPY, turned=True)
        target.sql(f"ALTER TABLE {COPY}.keyless REPLICA IDENTITY FULL")
        target.sql(f"CREATE TABLE {COPY}.marker (number bigint PRIMARY KEY)")
        self._publish()
        place = " ".join(f"{name}={value}" for name, value in source.params().items())
        target.sql(
            f"CREATE SUBSCRIPTION {COPY} CONNECTION '{place}' PUBLICATION {COPY}"
            " WITH (create_slot = false, enabled = true, synchronous_commit = off)"
        )
        self.wait()

    def _publish(self):
        self.source.sql(f"CREATE SCHEMA {COPY}")
        self.source.sql(f"CREATE TABLE {COPY}.marker (number bigint PRIMARY KEY)")
        published = [f"{COPY}.marker"]
        for name in TABLES:
            root, live = f"{COPY}.{quoted(name)}", f"{SCHEMA}.{quoted(name)}"
            key = {"names": "name", "pairs": "a", "keyless": "size"}.get(name, "id")
            self.source.sql(
                f"CREATE TABLE {root} (LIKE {live} INCLUDING GENERATED) PARTITION BY LIST ({key})"
            )
            self.source.sql(f"ALTER TABLE {root} REPLICA IDENTITY FULL")
            self.source.sql(f"ALTER TABLE {root} ATTACH PARTITION {live} DEFAULT")
            published.append(root)
        self.source.sql(
            f"CREATE PUBLICATION {COPY} FOR TABLE {', '.join(published)}"
            " WITH (publish_via_partition_root = true)"
        )
        self.source.query("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", COPY)

    def wait(self):
        """All tables have been copied and follow."""
        eventually(
            lambda: self.target.value(
                "SELECT count(*) > 0 AND bool_and(srsubstate = 'r') FROM pg_subscription_rel"
            ),
            what="the copy",
        )

    def drop(self):
        self.target.sql(f"ALTER SUBSCRIPTION {COPY} DISABLE")
        self.target.sql(f"ALTER SUBSCRIPTION {COPY} SET (slot_name = NONE)")
        self.target.sql(f"DROP SUBSCRIPTION {COPY}")
        eventually(
            lambda: not self.source.value(
                "SELECT active FROM pg_replication_slots WHERE slot_name = %s", COPY
            )
        )
        self.source.query("SELECT pg_drop_replication_slot(%s)", COPY)


class Verifier:
    """The tool, with what it answers."""

    def __init__(self, tmp_path, streamed):
        servers = {"one": (streamed.source, "12"), "two": (streamed.target, "13")}
        config = store_config(tmp_path / "verify.conf", servers)
        self.process = command.spawn(
            "tests/inside/verify_tool", config, 0, 1, SHARD, SCHEMA, COPY, text=True, stderr=subprocess.PIPE
        )

    def __call__(self, said):
        self.process.stdin.write(said + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, self.process.stderr.read()
        return json.loads(line)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()


def is_cold(number):
    """Rows that the writers leave alone."""
    return number % 50 == 7


class Writers:
    """Callers that write to all tables, some of them to the same few rows."""

    def __init__(self, database, count=8, hot=True):
        self._stop = threading.Event()
        self.written = 0
        self.failed = []
        self._threads = [
            threading.Thread(target=self._run, args=(database, number, hot and number == 0))
            for number in range(count)
        ]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        eventually(lambda: self.written > 50 or self.failed)
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()
        assert not self.failed, self.failed

    def _run(self, database, number, is_hot):
        dice = random.Random(number)
        try:
            with database.connect() as connection, connection.cursor() as cursor:
                while not self._stop.is_set():
                    if is_hot:
                        self._write_hot(cursor)
                    else:
                        self._write(cursor, dice)
                    self.written += 1
                    time.sleep(0.004)
        except psycopg2.Error as error:
            self.failed.append(error)

    def _write_hot(self, cursor):
        """A counter, and a row that comes and goes."""
        key = 100
        cursor.execute(
            f"UPDATE {SCHEMA}.entities SET body = body || hstore('n', clock_timestamp()::text)"
            f" WHERE id = {key}"
        )
        cursor.execute(f"INSERT INTO {SCHEMA}.names (name) VALUES ('hot')")
        cursor.execute(f"DELETE FROM {SCHEMA}.names WHERE name = 'hot'")

    def _write(self, cursor, dice):
        number = dice.randrange(1, ROWS)
        if is_cold(number):
            return
        small = number % 3000
        what = dice.randrange(9)
        key = number * 100
        if what < 3:
            cursor.execute(
                f"INSERT INTO {SCHEMA}.entities VALUES (%s, 1, 'name=>new') ON CONFLICT DO NOTHING",
                (key + dice.randrange(1, 100),),
            )
        elif what < 5:
            cursor.execute(
                f"UPDATE {SCHEMA}.entities SET body = body || 'a=>%s' WHERE id = %s", (number, key)
            )
        elif what == 5:
            cursor.execute(f"DELETE FROM {SCHEMA}.entities WHERE id = %s", (key,))
        elif what == 6 and not is_cold(small):
            cursor.execute(
                f"UPDATE {SCHEMA}.names SET score = %s, seen = now() WHERE name = %s",
                (number, f"name {small}"),
            )
        elif what == 7 and not is_cold(small):
            cursor.execute(
                f"INSERT INTO {SCHEMA}.pairs VALUES (%s, 'new', 'good', 0.1) ON CONFLICT (a, b)"
                " DO UPDATE SET ratio = pairs.ratio + 0.1, mood = 'bad'",
                (number,),
            )
        else:
            cursor.execute(f"INSERT INTO {SCHEMA}.keyless VALUES ('new', %s)", (number,))
