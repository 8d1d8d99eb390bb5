"""The commands of "Backups" in docs/operations.md, run as they stand there: a server and a shard, dumped
and restored, with strict keys, migrations and further columns."""

import os
import shutil
import subprocess

import pytest

from harness import build_dir, hv, source_dir, store_config
from harness.server import binaries, environment, own

pytestmark = pytest.mark.plain

FILES = {
    "0001_add_score.sql": "ALTER TABLE entities ADD COLUMN score bigint NOT NULL DEFAULT 7;\n"
    "CREATE TABLE audit (id bigint REFERENCES entities, what text);\n",
    "0002_index_score.sql": "-- hv: no-transaction\n"
    "CREATE INDEX CONCURRENTLY entities_score ON entities (score, id);\n",
}
LATER = "0003_later.sql", "ALTER TABLE entities ADD COLUMN later text;\n"
SHARDS = range(1, 5), range(5, 9)  # of the two servers
DUMPED, LISTED = 3, 2  # the shards that the manual restores: from its own dump, from its server's


def blocks():
    """The shell commands of the chapter, a text for each block of them."""
    text = (source_dir() / "docs" / "operations.md").read_text("utf-8")
    (chapter,) = (part for part in text.split("\n## ")[1:] if part.startswith("Backups\n"))
    return [block.partition("```")[0] for block in chapter.split("```sh\n")[1:]]


def block(begin):
    """The one that begins like this."""
    (found,) = (block for block in blocks() if block.startswith(begin))
    return found


DUMP_SERVER = block("pg_dump --format=custom --file=one.dump")
DUMP_SHARD = block("pg_dump --format=custom --schema=shard0003")
COPY_SERVER = block("pg_basebackup")
RESTORE_SERVER = block("pg_restore --exit-on-error --jobs")
LOOK = block("hv status\n")
RESTORE_SHARD = block('psql --quiet "$one" --command="ALTER SCHEMA shard0003 RENAME')
RESTORE_LISTED = block("pg_restore --list")
ADVANCE = block('psql --quiet "$one" --command="\n    SELECT hypervault.advance')
TAKE_BACK = block("hv migrate status migrations --shards 3")
TESTED = [
    DUMP_SERVER,
    DUMP_SHARD,
    COPY_SERVER,
    RESTORE_SERVER,
    LOOK,
    RESTORE_SHARD,
    RESTORE_LISTED,
    ADVANCE,
    TAKE_BACK,
]


class Hall:
    """A store with strict keys on two servers, which has been migrated and has entities."""

    def __init__(self, databases, folder):
        self.databases = databases
        self.folder = folder
        self.config = store_config(
            folder / "hv.conf",
            {
                name: (database, f"{shards.start}-{shards.stop}")
                for name, database, shards in zip(("one", "two"), databases, SHARDS)
            },
            keys="strict",
        )
        self.files = folder / "migrations"
        self.files.mkdir()
        for name, text in FILES.items():
            (self.files / name).write_text(text)
        hv("init", config=self.config).ok()
        hv("migrate", self.files, config=self.config).ok()
        self.keys = set()  # all that were ever made
        self.put(100)
        for shard in range(1, 9):
            self.sql(
                shard,
                "UPDATE @shard.entities SET score = (body->'n')::bigint;"
                "INSERT INTO @shard.audit SELECT id, 'put' FROM @shard.entities;"
                "GRANT USAGE ON SCHEMA @shard TO pg_monitor;"
                "GRANT SELECT ON @shard.entities TO pg_monitor",
            )

    def _database(self, shard):
        return self.databases[0] if shard in SHARDS[0] else self.databases[1]

    def sql(self, shard, statement):
        self._database(shard).sql(statement.replace("@shard", f"shard{shard:04}"))

    def query(self, shard, statement):
        return self._database(shard).query(statement.replace("@shard", f"shard{shard:04}"))

    def put(self, count):
        """Put entities into every shard. No key is one that was made before."""
        for shard in range(1, 9):
            made = [
                key
                for (key,) in self.query(
                    shard,
                    "INSERT INTO @shard.entities (type, body, score)"
                    f" SELECT 1, hstore('n', n::text), n FROM generate_series(1, {count}) n"
                    " RETURNING id",
                )
            ]
            assert len(made) == count
            assert not self.keys.intersection(made)
            self.keys.update(made)

    def run_ahead(self, shard):
        """From now on its keys are ahead of the clock, so that this does not help."""
        self.sql(
            shard,
            "SELECT hypervault.advance('@shard.table_id_seq',"
            f" hypervault.make_key(now() + interval '1 day', {shard}))",
        )

    def content(self, *shards):
        """All rows of the shards' tables, with further columns, and what ran in them."""
        return {
            (shard, table): self.query(shard, f"SELECT t::text FROM @shard.{table} t ORDER BY 1")
            for shard in shards
            for table in ("entities", "audit", "hypervault_migrations")
        }

    def run(self, commands):
        """Run commands of the manual, each of which must end well."""
        place = self.databases[0].server.socket_params()
        where = f"host={place['host']} dbname={self.databases[0].dbname}"
        done = subprocess.run(
            ["sh", "-e", "-c", commands],
            cwd=self.folder,
            env={
                **environment(),
                "PATH": f"{binaries()}:{build_dir() / 'cli'}:{os.environ['PATH']}",
                "PGUSER": "postgres",
                "HYPERVAULT_CONFIG": self.config,
                "one": where,
                "new": where,
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{commands}\n{done.stderr}"

    def check(self):
        """All is well, and stays so: nothing is left to do, and new keys are new."""
        self.run(LOOK)
        migrated = hv("migrate", self.files, "--json", config=self.config).ok().json()
        assert (migrated["done"], migrated["unchanged"]) == (0, 8)
        assert hv("schema", "check", "--json", config=self.config).ok().json()["alike"]
        self.put(2000)


@pytest.fixture
def hall(shared_extension_server, tmp_path):
    databases = [shared_extension_server.create_database() for _ in range(2)]
    yield Hall(databases, tmp_path)
    for database in databases:
        database.drop()


def test_every_command_of_the_manual_is_run_here():
    assert sorted(TESTED) == sorted(blocks())


def test_a_server_is_restored_from_a_dump_with_all_that_it_had(hall):
    before = hall.content(*SHARDS[0])
    hall.run(DUMP_SERVER)
    hall.put(500)  # these are lost on the first server, but their keys were seen
    other = hall.content(*SHARDS[1])
    lost = hall.databases[0]
    lost.drop()
    assert hv("status", config=hall.config).code == 1
    lost.server.create_database(lost.dbname, template="template0")
    hall.run(RESTORE_SERVER)
    assert hall.content(*SHARDS[0]) == before
    assert hall.content(*SHARDS[1]) == other
    hall.check()


def test_a_server_is_restored_from_its_files(make_extension_server, tmp_path):
    hall = Hall([make_extension_server(name) for name in ("one", "two")], tmp_path)
    before = hall.content(*SHARDS[0])
    hall.run(COPY_SERVER)
    hall.put(500)
    server = hall.databases[0].server
    server.stop()
    shutil.rmtree(server.data)
    shutil.copytree(hall.folder / "one.base", server.data)
    for folder, _, files in os.walk(server.data):
        for path in (folder, *(os.path.join(folder, name) for name in files)):
            own(path)
    server.start()
    assert hall.content(*SHARDS[0]) == before
    hall.check()


def test_a_shard_is_restored_alone(hall):
    before = hall.content(DUMPED)
    hall.run(DUMP_SHARD)
    hall.run_ahead(DUMPED)
    hall.put(500)
    others = [shard for shard in range(1, 9) if shard != DUMPED]
    beside = hall.content(*others)
    hall.run(RESTORE_SHARD)
    hall.run(ADVANCE)
    assert hall.content(DUMPED) == before
    assert hall.content(*others) == beside
    hall.check()


def test_a_shard_is_restored_from_the_dump_of_its_server(hall):
    before = hall.content(LISTED)
    hall.run(DUMP_SERVER)
    hall.put(500)
    others = [shard for shard in range(1, 9) if shard != LISTED]
    beside = hall.content(*others)
    hall.run(RESTORE_LISTED)
    assert hall.content(LISTED) == before
    assert hall.content(*others) == beside
    hall.check()


def test_a_shard_from_before_a_migration_gets_it_and_what_was_put_since(hall):
    """Nothing that was put after the backup is lost, nor what it has in further columns."""
    hall.run(DUMP_SHARD)
    hall.put(500)
    rows = "SELECT id, type, body, score FROM @shard.entities ORDER BY id"
    before = hall.query(DUMPED, rows)
    name, text = LATER
    (hall.files / name).write_text(text)
    hv("migrate", hall.files, config=hall.config).ok()
    hall.run(RESTORE_SHARD)
    hall.run(ADVANCE)
    assert len(hall.query(DUMPED, rows)) < len(before)
    hall.run(TAKE_BACK)
    assert hall.query(DUMPED, rows) == before
    hall.check()


def test_without_advancing_keys_that_were_ahead_of_the_clock_would_be_made_twice(hall):
    """So that command of the manual is needed."""
    hall.run_ahead(DUMPED)
    hall.run(DUMP_SHARD)
    hall.put(10)
    hall.run(RESTORE_SHARD)
    with pytest.raises(AssertionError):
        hall.put(10)
