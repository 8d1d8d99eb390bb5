"""The plan of a migration: what would run where, and what it would lock."""

import pytest

from migrating import Files, migrate, plan


@pytest.fixture
def files(tmp_path):
    return Files(tmp_path / "migrations")


def _steps(store, files, **options):
    return plan(store, files, **options).ok().steps


def _seen(steps):
    """What was found out about each statement."""
    return [(s["lock"], s["relation"], s["rewrites"], s["reads"]) for s in steps]


AEX = "ACCESS EXCLUSIVE"


@pytest.mark.parametrize(
    "statement, expected",
    [
        ("ALTER TABLE entities ADD COLUMN c int DEFAULT 7", (AEX, False, False)),
        ("ALTER TABLE @shard.entities ADD c float8 DEFAULT random()", (AEX, True, False)),
        ("ALTER TABLE entities ALTER COLUMN type TYPE int", (AEX, True, False)),
        ("ALTER TABLE entities ADD CHECK (type > 0)", (AEX, False, True)),
        ("ALTER TABLE entities ADD CHECK (type > 0) NOT VALID", (AEX, False, False)),
        ("ALTER TABLE entities ALTER body DROP NOT NULL", (AEX, False, False)),
        ("CREATE INDEX i ON entities (type)", ("SHARE", False, True)),
        ("CREATE STATISTICS s ON id, type FROM entities", ("SHARE UPDATE EXCLUSIVE", False, False)),
        ("UPDATE @shard.entities SET type = 1", ("ROW EXCLUSIVE", False, True)),
        ("TRUNCATE entities", (AEX, False, False)),
        ("DROP TABLE entities", (AEX, False, False)),
        ("LOCK TABLE entities IN SHARE MODE", ("SHARE", False, False)),
    ],
    ids=lambda value: value.split(" entities")[0].replace("@", "") if isinstance(value, str) else "",
)
def test_the_server_shows_what_a_statement_locks(store, servers, files, statement, expected):
    files.write("1_a.sql", statement)
    (step,) = _steps(store, files)
    lock, rewrites, reads = expected
    assert _seen([step]) == [(lock, "entities", rewrites, reads)]
    assert step["shards"] == 16 and step["line"] == 1 and step["statement"] == statement
    assert step["bytes"] >= 8192
    assert (step["warning"] is not None) == (rewrites or (reads and lock != "ROW EXCLUSIVE"))
    # nothing has happened
    assert servers[0].value("SELECT to_regclass('shard0001.hypervault_migrations')") is None
    assert [c[0] for c in servers[0].query("SELECT * FROM shard0001.entities")] == []


def test_a_column_that_may_no_longer_be_null(store, servers, files):
    files.write("1_a.sql", "ALTER TABLE entities ADD COLUMN c int;")
    migrate(store, files).ok()
    files.write("2_b.sql", "ALTER TABLE entities ALTER c SET NOT NULL")
    (step,) = _steps(store, files)
    assert _seen([step]) == [(AEX, "entities", False, True)]
    assert step["warning"] == "nobody can read or write entities while all of it is read"


def test_statements_build_on_each_other(store, files):
    files.write(
        "1_a.sql",
        "CREATE TABLE @shard.notes (id bigint PRIMARY KEY, t text);\n"
        "CREATE FUNCTION @shard.f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';\n"
        "CREATE TRIGGER t BEFORE INSERT ON entities FOR EACH ROW EXECUTE FUNCTION @shard.f();\n"
        "SAVEPOINT s;\n"
        "CREATE INDEX i ON notes (t);\n"
        "SELECT @shard.next_id();\n",
    )
    files.write("2_b.sql", "ALTER TABLE notes ADD COLUMN c int; DROP TRIGGER t ON entities;")
    steps = _steps(store, files)
    assert _seen(steps) == [
        (None, None, False, False),
        (None, None, False, False),
        ("SHARE ROW EXCLUSIVE", "entities", False, False),
        (None, None, False, False),
        ("SHARE", "notes", False, True),
        (None, None, False, False),
        (AEX, "notes", False, False),
        (AEX, "entities", False, False),
    ]
    assert [s["line"] for s in steps] == [1, 2, 3, 4, 5, 6, 1, 1]
    assert [s["file"] for s in steps] == [0] * 6 + [1] * 2


def test_what_the_shard_has_is_copied(store, files):
    files.write(
        "1_a.sql",
        "CREATE TYPE mood AS ENUM ('well', 'un''well');"
        "CREATE TABLE notes (id int PRIMARY KEY, m mood);"
        "CREATE TABLE more (id int REFERENCES notes);"
        "CREATE VIEW v AS SELECT id FROM @shard.notes;"
        "CREATE SEQUENCE s;"
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';"
        "CREATE TRIGGER t BEFORE INSERT ON notes FOR EACH ROW EXECUTE FUNCTION f();",
    )
    migrate(store, files).ok()
    files.write(
        "2_b.sql",
        "DROP VIEW v; DROP TRIGGER t ON notes; ALTER TABLE more DROP CONSTRAINT more_id_fkey;"
        "ALTER TYPE @shard.mood RENAME VALUE 'well' TO 'good'; ALTER SEQUENCE s RESTART;"
        "DROP FUNCTION @shard.f();",
    )
    steps = _steps(store, files)
    assert [s["warning"] for s in steps] == [None] * 6
    assert (steps[2]["lock"], steps[1]["relation"]) == (AEX, "notes")


def test_only_what_is_missing_somewhere(store, files):
    files.write("1_a.sql", "CREATE TABLE a ();").write("2_b.sql", "CREATE TABLE b ();")
    migrate(store, files, shards="1-5").ok()
    files.write("3_c.sql", "DROP TABLE a;")
    steps = _steps(store, files)
    assert [(s["file"], s["shards"]) for s in steps] == [(0, 12), (1, 12), (2, 16)]
    assert [(s["file"], s["shards"]) for s in _steps(store, files, shards="1-3")] == [(2, 2)]
    migrate(store, files).ok()
    assert _steps(store, files) == []


def test_a_file_without_a_transaction_is_not_tried(store, files):
    files.write("1_a.sql", "-- hv: no-transaction\nCREATE INDEX CONCURRENTLY i ON @shard.entities (id);")
    files.write("2_b.sql", "DROP INDEX i;\nDROP INDEX")
    outcome = plan(store, files)
    assert outcome.error["message"] == '2_b.sql:2: syntax error at or near ";"'
    files.write("2_b.sql", "DROP INDEX i;")
    steps = _steps(store, files)
    assert _seen(steps) == [
        ("SHARE UPDATE EXCLUSIVE", "entities", False, True),
        (None, None, False, False),
    ]
    assert steps[0]["bytes"] >= 8192
    assert steps[1]["warning"] == 'could not be tried: index "i" does not exist'


def test_a_statement_that_the_server_refuses(store, files):
    files.write("1_a.sql", "SELECT 1;\n\nSELECT '@shard', nothing")
    outcome = plan(store, files)
    assert outcome.status == "HV_REFUSED"
    assert outcome.error["message"] == '1_a.sql:3: column "nothing" does not exist'
    files.write("1_a.sql", "SELECT 1;\n\nVACUUM entities")
    outcome = plan(store, files)
    assert outcome.error["message"].startswith("1_a.sql:3: VACUUM cannot run")
    assert "no-transaction" in outcome.error["hint"]


def test_what_is_in_no_shard_is_said(store, servers, files):
    for database in servers:
        database.sql("CREATE TABLE public.common (t int)")
    files.write("1_a.sql", "ALTER TABLE public.common ADD COLUMN u int")
    (step,) = _steps(store, files)
    assert step["warning"] == "it locks public.common, which was not copied"
    assert servers[0].query("SELECT * FROM public.common") == []


REAL_THINGS = """
    SELECT 'table', c.oid::bigint, c.xmin::text, c.relfilenode FROM pg_class c
    WHERE relnamespace = ANY ('{public,shard0001}'::regnamespace[])
    UNION ALL SELECT 'function', p.oid::bigint, p.xmin::text, 0 FROM pg_proc p
    WHERE pronamespace = ANY ('{public,shard0001}'::regnamespace[])
    UNION ALL SELECT 'type', t.oid::bigint, t.xmin::text, 0 FROM pg_type t
    WHERE typnamespace = ANY ('{public,shard0001}'::regnamespace[])
    UNION ALL SELECT 'entity', id, xmin::text, 0 FROM shard0001.entities ORDER BY 1, 2
"""


@pytest.mark.parametrize(
    "statements",
    (
        "DROP TABLE entities; TRUNCATE entities",
        "DROP TABLE entities; DROP TABLE entities",
        "DROP TABLE entities; DELETE FROM entities",
        "DROP TABLE entities; ALTER TABLE entities ADD COLUMN c int DEFAULT random() * 9",
        "ALTER TABLE shard0001.entities ADD COLUMN c int",
        "DROP INDEX entities_pkey; DROP INDEX shard0001.entities_pkey; DROP TABLE shard0001.own",
        "DROP FUNCTION next_id() CASCADE",
        "DROP FUNCTION own()",
        "ALTER FUNCTION own() SECURITY DEFINER",
        "CREATE OR REPLACE FUNCTION shard0001.own() RETURNS int LANGUAGE sql AS 'SELECT 2'",
        "DROP TYPE shard0001.mood",
        "CREATE TABLE public.extra (); CREATE TYPE public.more AS ENUM ()",
        "DO 'BEGIN DROP TABLE shard0001.own; END'; SELECT 1",
    ),
)
def test_nothing_but_copies_is_changed(store, servers, files, statements):
    """Behind the copies in the search_path are the shard's own tables and functions."""
    servers[0].sql(
        "INSERT INTO shard0001.entities (type, body) VALUES (1, '');"
        "CREATE TABLE shard0001.own (id int);"
        "CREATE TYPE shard0001.mood AS ENUM ('well');"
        "CREATE FUNCTION shard0001.own() RETURNS int LANGUAGE sql AS 'SELECT 1'"
    )
    before = servers[0].query(REAL_THINGS)
    files.write("1_a.sql", statements)
    plan(store, files)
    assert servers[0].query(REAL_THINGS) == before


def test_a_ledger_that_does_not_fit(store, files):
    files.write("1_a.sql", "CREATE TABLE a ()")
    migrate(store, files, shards="3-4").ok()
    files.write("1_a.sql", "CREATE TABLE b ()")
    outcome = plan(store, files)
    assert outcome.status == "HV_MISMATCH" and outcome.error["shard"] == 3
    assert outcome.error["message"] == '"1_a.sql" was changed after it ran'


def test_nobody_waits_for_a_plan(store, servers, files):
    """Not even one that finds a table locked for writing."""
    files.write("1_a.sql", "ALTER TABLE entities ADD COLUMN c int; DROP TABLE entities;")
    with servers[0].connect() as writer, writer.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute("LOCK TABLE shard0001.entities IN ROW EXCLUSIVE MODE")
        assert len(_steps(store, files)) == 2
