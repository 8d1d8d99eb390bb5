"""Migrations: ordered SQL files that are run once on every shard."""

import pytest

from harness import eventually, program, store_config
from migrating import LEDGER, Files, Outcome, ledger, migrate, states, status

SHARDS = range(1, 17)


@pytest.fixture
def files(tmp_path):
    return Files(tmp_path / "migrations")


def _columns(database, shard, table="entities"):
    rows = database.query(
        "SELECT column_name FROM information_schema.columns WHERE table_schema = %s"
        " AND table_name = %s ORDER BY 1",
        f"shard{shard:04}",
        table,
    )
    return [row[0] for row in rows]


def _count(database, relation):
    return database.value(f"SELECT count(*) FROM {relation}")


def _of(servers, shard):
    return servers[0] if shard < 9 else servers[1]


# ---- running ----


def test_every_file_runs_once_on_every_shard(store, servers, files):
    files.write("0001_score.sql", "ALTER TABLE @shard.entities ADD COLUMN score int DEFAULT 7;")
    files.write("0002_log.sql", "CREATE TABLE log (t text); INSERT INTO log VALUES ('@shard');")
    first = migrate(store, files, events=1).ok()
    assert first.works() == {"done": 16}
    assert {e["step"] for e in first.events} == {None, "0001_score.sql", "0002_log.sql"}
    for shard in SHARDS:
        database = _of(servers, shard)
        assert "score" in _columns(database, shard)
        assert database.value(f"SELECT t FROM shard{shard:04}.log") == f"shard{shard:04}"
        assert ledger(database, shard) == {
            "1": ("0001_score.sql", files.digest("0001_score.sql"), True, 0, None),
            "2": ("0002_log.sql", files.digest("0002_log.sql"), True, 0, None),
        }
    again = migrate(store, files).ok()
    assert again.works() == {"unchanged": 16}


def test_a_new_file_runs_alone(store, servers, files):
    files.write("1_a.sql", "CREATE TABLE a (t int); INSERT INTO a VALUES (1);")
    files.write("3_c.sql", "INSERT INTO a VALUES (3);")
    migrate(store, files).ok()
    files.write("2_b.sql", "INSERT INTO a VALUES (2);")
    files.write("10_d.sql", "INSERT INTO a VALUES (10);")
    assert migrate(store, files).ok().works() == {"done": 16}
    for shard in SHARDS:
        rows = _of(servers, shard).query(f"SELECT t FROM shard{shard:04}.a ORDER BY t")
        assert [row[0] for row in rows] == [1, 2, 3, 10]


def test_only_the_shards_of_the_rollout(store, servers, files):
    files.write("1_a.sql", "CREATE TABLE a ();")
    assert migrate(store, files, shards="2-4,12").ok().works() == {"done": 3}
    assert migrate(store, files, skip="two").ok().works() == {"done": 6, "unchanged": 2}
    assert migrate(store, files).ok().works() == {"done": 7, "unchanged": 9}


def test_a_file_may_be_empty(store, servers, files):
    files.write("1_empty.sql", "")
    files.write("2_comment.sql", "-- nothing\n/* at all */")
    files.write("3_apart.sql", "-- hv: no-transaction\n")
    assert migrate(store, files).ok().works() == {"done": 16}
    assert sorted(ledger(servers[0], 1)) == ["1", "2", "3"]
    assert migrate(store, files).ok().works() == {"unchanged": 16}


def test_texts_of_every_kind(store, servers, files):
    files.write(
        "1_body.sql",
        "CREATE FUNCTION @shard.where() RETURNS text LANGUAGE plpgsql AS $$ BEGIN\n"
        "  RETURN (SELECT count(*) || ' @shard;' FROM @shard.entities); -- @shard\n"
        "END $$;\n"
        "/* @shard; */ COMMENT ON TABLE entities IS 'it''s @shard, not a@shard';",
    )
    files.write("2_windows.sql", b"\xef\xbb\xbfCREATE TABLE w (\r\n  t int\r\n);\r\n")
    files.write("3_quoted.sql", 'CREATE TABLE "@shard"."o""k @shard;" (t text)')
    files.write("4_tail.sql", "CREATE TABLE tail () -- the end")
    files.write("5_d'q\"x$hv$.sql", "CREATE TABLE odd ()")
    migrate(store, files).ok()
    database = servers[1]
    assert database.value("SELECT shard0012.where()") == "0 shard0012;"
    comment = database.value("SELECT obj_description('shard0012.entities'::regclass)")
    assert comment == "it's shard0012, not a@shard"
    assert database.value("SELECT to_regclass('shard0012.w') IS NOT NULL")
    assert database.value("""SELECT to_regclass('shard0012."o""k shard0012;"') IS NOT NULL""")
    assert database.value("SELECT to_regclass('shard0012.tail') IS NOT NULL")
    assert ledger(database, 12)["5"][0] == "5_d'q\"x$hv$.sql"


def test_what_a_file_sets_is_nothing_to_the_next(store, servers, files):
    files.write(
        "1_set.sql",
        "SET search_path TO pg_catalog; SET ROLE pg_monitor; SET lock_timeout TO '7s';"
        " CREATE TEMP TABLE entities (); PREPARE p AS SELECT 1;",
    )
    files.write(
        "2_look.sql",
        "RESET ROLE; CREATE TABLE seen AS SELECT current_setting('search_path') AS path,"
        " current_setting('lock_timeout') AS lock, session_user = current_user AS own,"
        " (SELECT count(*) FROM pg_prepared_statements) AS prepared,"
        " 'entities'::regclass::text AS entities;",
    )
    files.write("3_role.sql", "SET ROLE pg_monitor;")
    migrate(store, files).ok()
    (row,) = servers[0].query("SELECT * FROM shard0003.seen")
    assert row == ("shard0003, public", "100ms", True, 0, "entities")
    assert _columns(servers[0], 3, "entities") == ["body", "id", "type"]


# ---- refusals ----


def test_a_syntax_error_has_its_line_shard_and_server(store, servers, files):
    files.write("0001_a.sql", "CREATE TABLE a ();\n-- @shard @shard\nCRATE TABLE b ();\n")
    outcome = migrate(store, files)
    assert outcome.status == "HV_REFUSED"
    assert outcome.error["message"] == '0001_a.sql:3: syntax error at or near "CRATE"'
    assert outcome.error["sqlstate"] == "42601"
    assert (outcome.error["server"], outcome.error["shard"]) == ("one", 1)
    # the canary
    assert outcome.works() == {"failed": 1, "not begun": 15}
    assert servers[0].value("SELECT to_regclass('shard0001.a')") is None
    assert states(store, files)[1] == ["pending"]


@pytest.mark.parametrize(
    "text, message",
    [
        ("SELECT 1;\n\nSELECT '@shard', nothing;", '1_a.sql:3: column "nothing" does not exist'),
        ("SELECT 1;\nSELECT 'é@shard',\n 'ü', nothing;", '1_a.sql:3: column "nothing" does not'),
        ("SELECT 1;\n SELECT\n 1/0;", "1_a.sql:2: division by zero"),
        ("DO $$\nBEGIN\nRAISE 'so';\nEND $$;", "1_a.sql:1: so"),
        ("SELECT 1;\nDO $$ BEGIN COMMIT; END $$", "1_a.sql:2: invalid transaction termination"),
        (
            "CREATE TABLE x (t int UNIQUE DEFERRABLE INITIALLY DEFERRED);\n"
            "INSERT INTO x VALUES (1), (1);",
            "1_a.sql: duplicate key value violates unique constraint",
        ),
    ],
    ids=["position", "characters", "statement", "function", "commit", "deferred"],
)
def test_an_error_has_its_line(store, files, text, message):
    files.write("1_a.sql", text)
    outcome = migrate(store, files)
    assert outcome.status == "HV_REFUSED"
    assert outcome.error["message"].startswith(message)
    assert states(store, files)[1] == ["pending"]


def test_what_cannot_be_in_a_transaction(store, files):
    files.write("1_a.sql", "SELECT 1;\nCREATE INDEX CONCURRENTLY i ON entities (type);")
    outcome = migrate(store, files)
    assert outcome.error["message"].startswith("1_a.sql:2: CREATE INDEX CONCURRENTLY cannot run")
    assert '"-- hv: no-transaction"' in outcome.error["hint"]


def test_files_that_cannot_be_read_are_refused_before_anything_happens(store, servers, files):
    files.write("1_a.sql", "CREATE TABLE a ();")
    files.write("2_b.sql", "SELECT 1;\nCOMMIT;")
    outcome = migrate(store, files)
    assert outcome.status == "HV_INVALID"
    assert outcome.error["message"] == "2_b.sql:2: a statement that begins or ends a transaction"
    files.remove("2_b.sql")
    files.write("01_b.sql", "")
    outcome = migrate(store, files)
    assert outcome.error["message"] == '"01_b.sql" and "1_a.sql" have the same number'
    files.remove("01_b.sql")
    files.remove("1_a.sql")
    assert "there are no migrations" in migrate(store, files).error["message"]
    assert servers[0].value(f"SELECT to_regclass('shard0001.{LEDGER}')") is None


def test_a_file_that_was_changed_after_it_ran(store, servers, files):
    files.write("1_a.sql", "CREATE TABLE a ();").write("2_b.sql", "CREATE TABLE b ();")
    migrate(store, files, shards="1-4").ok()
    before = files.digest("1_a.sql")
    files.write("1_a.sql", "CREATE TABLE a (t int);")
    files.write("3_c.sql", "CREATE TABLE c ();")
    outcome = migrate(store, files, max_failures="all", canary="off")
    assert outcome.status == "HV_MISMATCH"
    assert outcome.works() == {"failed": 3, "done": 13}
    assert outcome.error["message"] == '"1_a.sql" was changed after it ran'
    assert before in outcome.error["detail"] and files.digest("1_a.sql") in outcome.error["detail"]
    assert servers[0].value("SELECT to_regclass('shard0001.c')") is None
    assert states(store, files)[1] == ["changed", "done", "pending"]
    assert states(store, files)[5] == ["done", "done", "done"]


def test_a_ledger_that_has_more_than_the_directory(store, servers, files):
    files.write("1_a.sql", "").write("2_b.sql", "")
    migrate(store, files).ok()
    files.remove("1_a.sql")
    files.write("3_c.sql", "CREATE TABLE c ();")
    outcome = migrate(store, files)
    assert outcome.status == "HV_MISMATCH"
    assert outcome.error["message"] == '"1_a.sql" has run, but is not in the directory'
    found = status(store, files).ok()
    assert found.files == ["1_a.sql", "2_b.sql", "3_c.sql"]
    assert states(store, files)[7] == ["no file", "done", "pending"]
    assert servers[0].value("SELECT to_regclass('shard0001.c')") is None


def test_a_renamed_file_is_the_same(store, files):
    files.write("1_a.sql", "CREATE TABLE a ();")
    migrate(store, files).ok()
    files.remove("1_a.sql")
    files.write("001_better.sql", "CREATE TABLE a ();")
    assert migrate(store, files).ok().works() == {"unchanged": 16}


# ---- status ----


def test_status_without_a_directory(store, files):
    files.write("1_a.sql", "").write("2_b.sql", "")
    migrate(store, files, shards="1-3").ok()
    found = status(store, "-").ok()
    assert found.files == ["1_a.sql", "2_b.sql"]
    assert [s["shard"] for s in found.shards] == list(SHARDS)
    assert [[state for state, _ in s["files"]] for s in found.shards[:3]] == [
        ["done", "done"],
        ["done", "done"],
        ["pending", "pending"],
    ]
    assert found.shards[0]["files"][0][1] == files.digest("1_a.sql")


def test_a_shard_that_cannot_be_read_is_in_the_table(store, servers, files):
    files.write("1_a.sql", "")
    servers[0].sql("ALTER SCHEMA shard0003 RENAME TO away")
    servers[1].sql(f"CREATE VIEW shard0010.{LEDGER} AS SELECT 1")
    servers[1].sql(f"CREATE TABLE shard0011.{LEDGER} (id text, name text)")
    found = status(store, files).ok()
    errors = {s["shard"]: s["error"] for s in found.shards if s["error"] is not None}
    assert {shard: error["status"] for shard, error in errors.items()} == {
        3: "HV_NOT_INITIALIZED",
        10: "HV_MISMATCH",
        11: "HV_MISMATCH",
    }
    assert errors[11]["message"] == f"shard0011.{LEDGER} is not a ledger of migrations"
    outcome = migrate(store, files, max_failures="all")
    assert outcome.works() == {"done": 13, "failed": 3}
    assert set(outcome.failed()) == {3, 10, 11}


# ---- new shards ----


def test_hv_init_runs_all_migrations_on_new_shards(tmp_path, servers, files):
    one, _ = servers
    files.write("1_a.sql", "CREATE TABLE a ();")
    files.write("2_b.sql", "-- hv: no-transaction\nCREATE INDEX CONCURRENTLY b ON entities (type);")
    servers_of = {"one": (one, "1-4")}
    path = tmp_path / "init.conf"
    config = store_config(path, servers_of)
    made = Outcome(program("migrate_tool", config, "init").ok().out).ok()
    assert made.created == 3
    assert set(states(config, files)[1]) == {"pending"}
    # Those that are there are not touched; the new ones get everything.
    config = store_config(path, {"one": (one, "1-7")}, migrations=files.path)
    made = Outcome(program("migrate_tool", config, "init").ok().out).ok()
    assert made.created == 3
    assert [states(config, files)[s] for s in (1, 4)] == [["pending"] * 2, ["done"] * 2]
    assert sorted(ledger(one, 4)) == ["1", "2"]
    assert one.value("SELECT to_regclass('shard0006.b') IS NOT NULL")
    again = Outcome(program("migrate_tool", config, "init").ok().out).ok()
    assert again.created == 0


def test_an_interrupted_init_is_finished_by_the_next_one(tmp_path, servers, files):
    one, _ = servers
    files.write("1_a.sql", "CREATE TABLE a ();").write("2_b.sql", "CREATE TABLE b (); SELECT 1/0;")
    path = tmp_path / "init.conf"
    config = store_config(path, {"one": (one, "1-4")}, migrations=files.path)
    failed = Outcome(program("migrate_tool", config, "init").ok().out)
    assert failed.error["message"] == "2_b.sql:1: division by zero"
    assert failed.created == 3
    assert set(ledger(one, 1)) == {"1", "new"}
    files.write("2_b.sql", "CREATE TABLE b ();")
    Outcome(program("migrate_tool", config, "init").ok().out).ok()
    assert states(config, files)[3] == ["done", "done"]
    assert set(ledger(one, 1)) == {"1", "2"}


def test_the_directory_is_relative_to_the_configuration(tmp_path, servers, files):
    files.write("1_a.sql", "CREATE TABLE a ();")
    config = store_config(tmp_path / "x.conf", {"one": (servers[0], "1-3")}, migrations="migrations")
    Outcome(program("migrate_tool", config, "init").ok().out).ok()
    assert states(config, files)[1] == ["done"]
    config = store_config(tmp_path / "x.conf", {"one": (servers[0], "1-4")}, migrations="nowhere")
    failed = Outcome(program("migrate_tool", config, "init").ok().out)
    assert failed.status == "HV_BAD_CONFIG" and str(tmp_path / "nowhere") in failed.error["message"]
    # before anything was made
    assert servers[0].value("SELECT to_regnamespace('shard0003')") is None
