"""hv is killed at random moments while it builds indexes or migrates, and run again: in the end each
catalogue is the one of a run that nobody disturbed.

$HV_TEST_KILLS is the number of kills (50 for a thorough run), $HV_TEST_SEED repeats the choices of a
run (not the moments at which they fall).
"""

import contextlib
import os
import random
import re
import subprocess
import time

import pytest

from harness import eventually, hv, make_shards, spawn, store_config
from harness.server import HARNESS, binaries, environment
from harness.stress import pause

pytestmark = pytest.mark.plain

KILLS = int(os.environ.get("HV_TEST_KILLS", "6"))
SEED = int(os.environ.get("HV_TEST_SEED", time.time_ns() % 10**9))
PARTS = range(1, 7), range(7, 13)  # shards of the two servers
ROWS = 2000  # in each shard

MIGRATIONS = {
    "0001_add_score.sql": """
        ALTER TABLE entities ADD COLUMN score bigint NOT NULL DEFAULT 0;
        SELECT pg_sleep(0.01);
        CREATE TYPE @shard.state AS ENUM ('new', 'old');
        """,
    "0002_index_score.sql": """-- hv: no-transaction
        CREATE INDEX CONCURRENTLY by_score ON entities (score, id);
        ANALYZE entities;
        CREATE INDEX CONCURRENTLY IF NOT EXISTS by_kind ON @shard.entities (type, id);
        """,
    "0003_audit.sql": """
        CREATE TABLE audit (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, what text);
        INSERT INTO audit (what) VALUES ('it ran');
        UPDATE entities SET score = score + 1;
        """,
    "0004_follow.sql": """
        CREATE FUNCTION @shard.follow() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            INSERT INTO @shard.audit (what) VALUES ('put'); RETURN NULL;
        END $$;
        CREATE TRIGGER follow AFTER DELETE ON entities
            FOR EACH ROW EXECUTE FUNCTION @shard.follow();
        SELECT pg_sleep(0.01);
        """,
    "0005_less.sql": """-- hv: no-transaction
        DROP INDEX CONCURRENTLY @shard.by_kind;
        ALTER TYPE @shard.state ADD VALUE IF NOT EXISTS 'gone';
        """,
}


class Copies:
    """Pairs of databases that are copied from one pair: a store that no test has changed."""

    def __init__(self, servers, folder):
        self.servers = servers
        self.folder = folder
        self.originals = [server.create_database("original") for server in servers]
        make_shards(self._config("original"), *self.originals)
        for database, shards in zip(self.originals, PARTS):
            for shard in shards:
                database.sql(
                    f"INSERT INTO shard{shard:04}.entities (id, type, body)"
                    f" SELECT n << 23 | {shard << 10}, 1, hstore('user', (n % 50)::text)"
                    f" FROM generate_series(1000::bigint, {999 + ROWS}) n"
                )

    def _config(self, name):
        return store_config(
            self.folder / f"{name}.conf",
            {
                server.name: (server.params(name), f"{shards.start}-{shards.stop}")
                for server, shards in zip(self.servers, PARTS)
            },
        )

    @contextlib.contextmanager
    def copy(self, name):
        """Yields the configuration and the databases."""
        databases = [server.create_database(name, "original") for server in self.servers]
        try:
            yield self._config(name), databases
        finally:
            for database in databases:
                database.drop()


@pytest.fixture
def copies(make_server, tmp_path):
    return Copies([make_server("one"), make_server("two")], tmp_path)


def dump(database):
    """What pg_dump writes about all schemas."""
    place = database.server.socket_params()
    done = subprocess.run(
        [
            os.path.join(binaries(), "pg_dump"),
            "--schema-only",
            f"--host={place['host']}",
            f"--port={place['port']}",
            "--username=postgres",
            database.dbname,
        ],
        capture_output=True,
        text=True,
        check=True,
        env=environment(),
    )
    # A token that is random in each dump.
    return re.sub(r"^\\(un)?restrict .*\n", "", done.stdout, flags=re.MULTILINE)


def of_each(databases, sql):
    """The rows of a query in each shard, "@shard" for its schema."""
    return [
        database.query(sql.replace("@shard", f"shard{shard:04}"))
        for database, shards in zip(databases, PARTS)
        for shard in shards
    ]


def state_of(config, databases):
    """All that must be as if nobody had disturbed the run."""
    check = hv("schema", "check", "--json", config=config).ok().json()
    (group,) = check["groups"]
    has_migrated = databases[0].value("SELECT to_regclass('shard0001.audit') IS NOT NULL")
    state = {
        "digest": group["digest"],
        "dumps": [dump(database) for database in databases],
        "entities": of_each(databases, "SELECT e::text FROM @shard.entities e ORDER BY id"),
        "invalid": [
            database.query("SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid")
            for database in databases
        ],
    }
    if has_migrated:
        state["audit"] = of_each(databases, "SELECT what FROM @shard.audit")  # one row
        state["ledger"] = of_each(
            databases, "SELECT name, digest FROM @shard.hypervault_migrations ORDER BY 1"
        )
    return state


def invalid_indexes(databases):
    return sum(
        database.value("SELECT count(*) FROM pg_index WHERE NOT indisvalid") for database in databases
    )


@contextlib.contextmanager
def old_snapshot(database):
    """For which every CONCURRENTLY in the database waits."""
    with database.connect(application_name=HARNESS) as connection:
        connection.autocommit = False
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            cursor.execute("SELECT count(*) FROM pg_class")
            yield


class Killer:
    """Starts a command and kills it at random moments, until it has ended by itself."""

    def __init__(self, command, chance, duration):
        self.command = command
        self.chance = chance
        self.duration = duration
        self.kills = 0
        self.left_invalid = 0

    def _was_killed(self, config):
        process = spawn("hv", *self.command, config=config)
        pause(self.chance.uniform(0, self.duration))
        process.kill()
        out, err = process.communicate()
        if process.returncode == 0:
            return False
        assert process.returncode < 0, (out + err).decode()
        self.kills += 1
        return True

    def _strike(self, config, databases):
        """Twice: once the dead run's sessions are still at work when the next run begins, and once
        they end while they wait for an old snapshot."""
        if not self._was_killed(config):
            return False
        with old_snapshot(self.chance.choice(databases)):
            killed = self._was_killed(config)
            for database in databases:
                eventually(lambda: database.clients() == [], what="sessions have ended")
        self.left_invalid += invalid_indexes(databases)
        return killed

    def bother(self, config, databases, most):
        """Kill it at most so many times, then let it end."""
        until = self.kills + most
        while self.kills < until and self._strike(config, databases):
            pass
        hv(*self.command, config=config).ok()


def check_kills(copies, command):
    print(f"\nHV_TEST_SEED={SEED}")
    chance = random.Random(SEED)
    with copies.copy("undisturbed") as (config, databases):
        began = time.monotonic()
        hv(*command, config=config).ok()
        duration = time.monotonic() - began
        expected = state_of(config, databases)
    killer = Killer(command, chance, duration)
    rounds = 0
    # Until something was interrupted where it matters.
    while killer.kills < KILLS or (killer.left_invalid == 0 and killer.kills < 10 * KILLS):
        with copies.copy(f"round{rounds}") as (config, databases):
            killer.bother(config, databases, chance.randrange(2, 7))
            found = state_of(config, databases)
        for what, value in expected.items():
            assert found[what] == value, what
        rounds += 1
    print(
        f"{killer.kills} kills in {rounds} rounds, {killer.left_invalid} times an index was not"
        f" valid; an undisturbed run takes {duration:.2f} s"
    )
    assert killer.left_invalid > 0


def test_an_index_build_that_is_killed_again_and_again_ends_as_one_that_was_not(copies):
    check_kills(copies, ["index", "create", "user", "--parallel", 3])


def test_a_migration_that_is_killed_again_and_again_ends_as_one_that_was_not(copies, tmp_path):
    files = tmp_path / "migrations"
    files.mkdir()
    for name, text in MIGRATIONS.items():
        (files / name).write_text(text)
    check_kills(copies, ["migrate", files])
