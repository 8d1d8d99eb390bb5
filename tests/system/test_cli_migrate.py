"""hv migrate, migrate status, migrate plan: what people and programs see, and the exit codes."""

import hashlib
import json
import re
import signal

import pytest

from harness import eventually, hv, make_shards, spawn, store_config

SCORE = "ALTER TABLE entities ADD COLUMN score bigint NOT NULL DEFAULT 0;\n"
NOTES = "CREATE TABLE notes (entity bigint NOT NULL, note text NOT NULL);\n"
INDEX = "-- hv: no-transaction\nCREATE INDEX CONCURRENTLY notes_by_entity ON notes (entity);\n"
THREE = {"0001_add_score.sql": SCORE, "0002_notes.sql": NOTES, "0003_by_entity.sql": INDEX}


@pytest.fixture
def folder(tmp_path):
    """A function that writes files into the directory of migrations, and returns its path."""

    def write(files):
        path = tmp_path / "migrations"
        path.mkdir(exist_ok=True)
        for name, text in files.items():
            (path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def migrate(store, *args, **how):
    return hv("migrate", *args, config=store, **how)


def status(store, folder, *args):
    done = hv("migrate", "status", folder, "--json", *args, config=store)
    return done.code, {file["name"]: file for file in done.json()["files"]}


# ---- migrating ----


def test_files_run_once_on_every_shard(store, folder, servers):
    path = folder(THREE)
    done = migrate(store, path).ok()
    assert done.lines[0].split() == ["server", "shards", "done", "unchanged", "failed", "not", "begun"]
    assert [line.split() for line in done.lines[1:]] == [
        ["one", "8", "8", "0", "0", "0"],
        ["two", "8", "8", "0", "0", "0"],
    ]
    assert servers[0].value("SELECT to_regclass('shard0003.notes_by_entity') IS NOT NULL")
    again = migrate(store, path, "--json").ok().json()
    assert (again["done"], again["unchanged"], again["failed"]) == (0, 16, 0)
    assert [file["name"] for file in again["files"]] == sorted(THREE)
    assert [file["in_transaction"] for file in again["files"]] == [True, True, False]
    digest = hashlib.sha256(SCORE.encode()).hexdigest()
    assert again["files"][0]["digest"] == digest
    assert again["failures"] == [] and again["shards_not_begun"] == ""


def test_status_is_a_line_for_each_file(store, folder):
    path = folder(THREE)
    before = hv("migrate", "status", path, config=store)
    assert before.code == 1 and len(before.lines) == 4
    assert before.lines[1].split() == ["0001_add_score.sql", "0", "16", "pending", "on", "1-17"]
    migrate(store, path, "--shards", "1-9").ok()
    partly = hv("migrate", "status", path, config=store)
    assert partly.lines[3].split() == ["0003_by_entity.sql", "8", "8", "pending", "on", "9-17"]
    narrowed = hv("migrate", "status", path, "--shards", "3", config=store).ok()
    assert narrowed.lines[1].split() == ["0001_add_score.sql", "1", "all"]
    migrate(store, path).ok()
    code, files = status(store, path)
    assert code == 0 and files["0002_notes.sql"]["done"] == 16
    assert files["0002_notes.sql"]["pending_in"] == ""
    known = hv("migrate", "status", config=store).ok()
    assert [line.split()[0] for line in known.lines[1:]] == sorted(THREE)


def test_status_of_many_files_and_shards_fits_a_screen(servers, folder, tmp_path):
    config = store_config(tmp_path / "many.conf", {"one": (servers[0], "0-60")})
    make_shards(config, servers[0])
    path = folder({f"{n:04}_f{n}.sql": f"CREATE TABLE t{n} ();" for n in range(1, 81)})
    migrate(config, path, "--parallel", 8).ok()
    folder({"0081_later.sql": "CREATE TABLE later ();"})
    migrate(config, path, "--shards", "0,2,4,6,8,10,12,14,16,18,20,22,24,26,28,30-40").ok()
    shown = hv("migrate", "status", path, config=config)
    assert shown.code == 1 and len(shown.lines) == 3
    assert shown.lines[1].startswith("0001_f1.sql to 0080_f80.sql (80)")
    assert shown.lines[2].split()[:3] == ["0081_later.sql", "25", "35"]
    assert max(map(len, shown.lines)) < 150


def test_no_migrations_yet(store):
    assert "No migration has run" in hv("migrate", "status", config=store).ok().out


def test_a_plan_names_locks_and_rewrites(store, folder, servers):
    servers[0].sql("INSERT INTO shard0001.entities (type, body) VALUES (1, '')")
    path = folder(
        {
            **THREE,
            "0004_type.sql": "-- slow\nALTER TABLE entities ALTER COLUMN type TYPE int;\n",
        }
    )
    plan = hv("migrate", "plan", path, config=store).ok()
    assert plan.lines[0].split()[:3] == ["statement", "shards", "lock"]
    steps = hv("migrate", "plan", path, "--json", config=store).ok().json()["steps"]
    by_file = {step["file"]: step for step in steps}
    score, change = by_file["0001_add_score.sql"], by_file["0004_type.sql"]
    assert (score["lock"], score["table"], score["rewrites"]) == ("ACCESS EXCLUSIVE", "entities", False)
    assert (change["line"], change["rewrites"], change["shards"]) == (2, True, 16)
    assert change["warning"] and "0004_type.sql:2" in plan.out
    assert re.search(r"0004_type.sql:2.*ACCESS EXCLUSIVE.*writes all of it anew", plan.out)
    assert servers[0].value("SELECT to_regclass('shard0001.notes') IS NULL")
    code, files = status(store, path)
    assert code == 1 and files["0001_add_score.sql"]["pending"] == 16
    migrate(store, path).ok()
    assert "nothing to run" in hv("migrate", "plan", path, config=store).ok().out


def test_a_recorded_digest_is_text_of_any_origin(store, folder):
    path = folder({"1_a.sql": "CREATE TABLE a ();"})
    migrate(store, path).ok()
    evil = r"UPDATE hypervault_migrations SET digest = E'\x1b]0;evil\x07'"
    hv("sql", "--write", evil, config=store).ok()
    shown = hv("migrate", "status", path, config=store)
    assert shown.code == 1 and r"it ran with \x1b]0;evil\x07, and is now" in shown.out
    assert status(store, path)[1]["1_a.sql"]["recorded_digest"] == "\x1b]0;evil\x07"


# ---- new shards ----


def test_new_shards_get_all_files(servers, folder, tmp_path):
    path = folder(THREE)
    config = store_config(tmp_path / "a.conf", {"one": (servers[0], "1-5")}, migrations=path)
    made = hv("init", config=config).ok()
    assert f'3 migrations of "{path}" were run on each new shard.' in made.err
    hv("migrate", "status", config=config).ok()
    assert hv("migrate", "--json", config=config).ok().json()["unchanged"] == 4
    config = store_config(
        tmp_path / "a.conf", {"one": (servers[0], "1-5"), "two": (servers[1], "5-7")}, migrations=path
    )
    made = hv("init", "--json", config=config).ok().json()
    assert [server.get("migrations") for server in made] == [None, 3]
    hv("schema", "check", config=config).ok()


def test_new_shards_do_not_depend_on_what_old_ones_have_run(servers, folder, tmp_path):
    path = folder({"0001_a.sql": "CREATE TABLE a ();"})
    config = store_config(tmp_path / "a.conf", {"one": (servers[0], "1-3")})
    hv("init", config=config).ok()
    migrate(config, path).ok()
    folder({"0001_a.sql": "CREATE TABLE a (); -- changed"})
    config = store_config(tmp_path / "a.conf", {"one": (servers[0], "1-6")}, migrations=path)
    hv("init", config=config).ok()
    assert hv("migrate", "--shards", "3-6", "--json", config=config).ok().json()["unchanged"] == 3
    assert "was changed after it ran" in hv("migrate", config=config).err


def test_init_says_what_new_shards_lack(servers, folder, tmp_path):
    config = store_config(tmp_path / "a.conf", {"one": (servers[0], "1-5")})
    assert "migrations" not in hv("init", config=config).ok().err
    migrate(config, folder(THREE)).ok()
    config = store_config(tmp_path / "a.conf", {"one": (servers[0], "1-6")})
    assert "0001_add_score.sql and so on, which the new ones lack" in hv("init", config=config).ok().err
    assert "new ones lack" not in hv("init", config=config).ok().err


# ---- bad input ----


@pytest.mark.parametrize(
    "files, message",
    [
        ({}, "migrations"),
        ({"notes.sql": "SELECT 1"}, "notes.sql"),
        ({"1_a.sql": "SELECT 1", "0001_b.sql": "SELECT 1"}, "0001_b.sql"),
        ({"1_a.sql": "SELECT 1;\n\nCOMMIT;"}, "1_a.sql:3"),
        ({"1_a.sql": "SELECT 1;\nSELECT 'a"}, "1_a.sql:2"),
        ({"1_a.sql": "\n\\copy a from b"}, "1_a.sql:2"),
        ({"1_a.sql": "-- hv: quickly\nSELECT 1"}, "1_a.sql:1"),
        ({"1_a.sql": b"SELECT '\xff'"}, "1_a.sql"),
    ],
)
def test_a_bad_directory_is_refused(store, folder, files, message):
    path = folder(files)
    for command in (["migrate"], ["migrate", "plan"], ["migrate", "status"]):
        refused = hv(*command, path, config=store)
        assert (refused.code, refused.out) == (2, "") and message in refused.err, refused


def test_a_directory_is_needed(store, tmp_path):
    refused = migrate(store)
    assert refused.code == 2 and "there is no directory of migrations" in refused.err
    assert "option `migrations`" in refused.err
    missing = migrate(store, tmp_path / "none")
    assert missing.code == 1 and "none" in missing.err
    odd = hv("migrate", "--json", "status", config=store)
    assert odd.code == 2 and "directory or a command" in odd.err


def test_an_error_has_file_line_shard_and_server(store, folder):
    path = folder({**THREE, "0004_bad.sql": "-- one\nSELECT 1;\nCREATE TABL x ();\n"})
    failed = migrate(store, path)
    assert failed.code == 1 and "0004_bad.sql:3" in failed.err and "syntax error" in failed.err
    assert re.search(r'on server "(one|two)", shard \d+', failed.err)
    assert [line.split()[-2:] for line in failed.lines[1:]] in (
        [["1", "7"], ["0", "8"]],
        [["0", "8"], ["1", "7"]],
    )
    result = migrate(store, path, "--json")
    (failure,) = result.json()["failures"]
    assert result.code == 1 and failure["count"] == 1 and failure["error"]["sqlstate"] == "42601"
    code, files = status(store, path)
    assert files["0003_by_entity.sql"]["done"] == 1 and files["0004_bad.sql"]["done"] == 0


def test_the_same_failure_on_many_shards_is_reported_once(store, folder):
    path = folder({"1_bad.sql": "SELECT nothing FROM entities;"})
    failed = migrate(store, path, "--max-failures", "all", "--no-canary")
    assert failed.code == 1 and failed.err.count("does not exist") == 1
    assert "on shards 1-17" in failed.err


def test_some_shards_fail(store, folder, servers):
    servers[0].sql("CREATE TABLE shard0005.notes ()")
    path = folder(THREE)
    partly = migrate(store, path, "--max-failures", "all", "--json")
    result = partly.json()
    assert partly.code == 5 and (result["done"], result["failed"]) == (15, 1)
    assert result["failures"][0]["shards"] == "5"
    assert "0002_notes.sql:1" in result["failures"][0]["error"]["message"]
    code, files = status(store, path)
    assert code == 1 and files["0001_add_score.sql"]["done"] == 16
    assert files["0002_notes.sql"]["pending_in"] == "5"
    servers[0].sql("DROP TABLE shard0005.notes")
    result = migrate(store, path, "--json").ok().json()
    assert (result["done"], result["unchanged"]) == (1, 15)


def test_a_statement_that_cannot_run_in_a_transaction(store, folder):
    path = folder({"1_a.sql": "CREATE INDEX CONCURRENTLY a ON entities (type);"})
    failed = migrate(store, path)
    assert failed.code == 1 and "1_a.sql:1" in failed.err and "-- hv: no-transaction" in failed.err


def test_a_file_that_was_changed_is_refused_with_both_digests(store, folder):
    path = folder(THREE)
    migrate(store, path).ok()
    folder({"0002_notes.sql": NOTES + "-- more\n", "0004_new.sql": "CREATE TABLE new ();"})
    digests = [hashlib.sha256(text.encode()).hexdigest() for text in (NOTES, NOTES + "-- more\n")]
    refused = migrate(store, path)
    assert refused.code == 1 and "0002_notes.sql" in refused.err
    assert all(digest in refused.err for digest in digests)
    shown = hv("migrate", "status", path, config=store)
    assert shown.code == 1 and "changed on 1-17" in shown.out
    assert all(digest in shown.out for digest in digests)
    code, files = status(store, path)
    assert files["0002_notes.sql"]["changed"] == 16 and files["0004_new.sql"]["done"] == 0


def test_a_ledger_that_says_more_than_the_directory_is_refused(store, folder):
    path = folder(THREE)
    migrate(store, path).ok()
    (path / "0003_by_entity.sql").unlink()
    folder({"0004_new.sql": "CREATE TABLE new ();"})
    refused = migrate(store, path)
    assert refused.code == 1 and "0003_by_entity.sql" in refused.err
    shown = hv("migrate", "status", path, config=store)
    assert shown.code == 1 and "no file on 1-17" in shown.out


def test_a_role_without_rights(store, folder, servers, tmp_path):
    for server in servers:
        server.sql("DROP ROLE IF EXISTS reader")
        server.sql("CREATE ROLE reader LOGIN")
        server.sql("GRANT USAGE ON SCHEMA hypervault TO reader")
        server.sql("GRANT SELECT ON hypervault.layout TO reader")
    config = store_config(
        tmp_path / "reader.conf",
        {
            "one": (servers[0].params(user="reader"), "1-9"),
            "two": (servers[1].params(user="reader"), "9-17"),
        },
    )
    failed = migrate(config, folder(THREE))
    assert failed.code == 1 and "permission denied" in failed.err
    for server in servers:
        server.sql("DROP OWNED BY reader")
        server.sql("DROP ROLE reader")


def test_a_shard_that_waits_is_named_and_the_others_are_done(store, folder, servers):
    path = folder({"0001_add_score.sql": SCORE})
    with servers[0].connect(application_name="nightly") as holder, holder.cursor() as cursor:
        holder.autocommit = False
        cursor.execute("SELECT count(*) FROM shard0005.entities")
        pid = holder.info.backend_pid
        partly = migrate(store, path, "--max-wait", "4s", "--no-canary", "--max-failures", "all")
        assert partly.code == 5 and f"process {pid}" in partly.err and "shard 5" in partly.err
        holder.rollback()
    _, files = status(store, path)
    assert files["0001_add_score.sql"]["pending_in"] == "5"
    migrate(store, path).ok()


def test_bars_and_what_waits_on_a_terminal(store, folder, servers, on_terminal):
    path = folder({"0001_add_score.sql": SCORE})
    with servers[0].connect() as holder, holder.cursor() as cursor:
        holder.autocommit = False
        cursor.execute("SELECT count(*) FROM shard0005.entities")
        shown = on_terminal(
            *("migrate", path, "--max-wait", "6s", "--no-canary", "--max-failures", "all"),
            config=store, columns=120,
        )
        holder.rollback()
    assert shown.code == 5 and "/8 shards" in shown.out
    assert re.search(r"shard 5 waits: .*process \d+", shown.out)


@pytest.mark.parametrize("columns", [40, 80])
def test_a_narrow_terminal(store, folder, on_terminal, columns):
    path = folder(THREE)
    for command in (["migrate", "plan"], ["migrate", "status"], ["migrate"], ["migrate", "status"]):
        shown = on_terminal(*command, path, config=store, columns=columns).out
        lines = re.sub(r"\x1b\[[0-9;]*[mKJAF]\r?", "", shown).splitlines()
        assert lines and max(map(len, lines)) <= columns, shown


def test_an_interrupt_leaves_a_state_from_which_the_next_run_goes_on(store, folder, servers):
    slow = {"0001_slow.sql": "SELECT pg_sleep(0.3); CREATE TABLE slow ();", **THREE}
    path = folder({f"{n}_{name}": text for n, (name, text) in enumerate(sorted(slow.items()), 1)})
    child = spawn("hv", "migrate", path, "--json", "--parallel", 1, config=store)

    def any_table():
        return any(
            server.value("SELECT count(*) FROM pg_tables WHERE tablename = 'slow'")
            for server in servers
        )

    eventually(any_table, what="a file has run")
    child.send_signal(signal.SIGINT)
    out, _ = child.communicate(timeout=30)
    assert child.returncode == -signal.SIGINT
    result = json.loads(out)
    assert result["not_begun"] > 0 and result["shards"] == 16
    migrate(store, path).ok()
    hv("migrate", "status", path, config=store).ok()
    hv("schema", "check", config=store).ok()


def test_a_server_that_goes_down(own_store, own_servers, folder):
    path = folder(THREE)
    own_servers[1].server.stop()
    partly = migrate(own_store, path, "--max-failures", "all", "--json")
    result = partly.json()
    assert partly.code == 5 and (result["done"], result["failed"]) == (8, 8)
    (failure,) = result["failures"]
    assert failure["shards"] == "9-17" and failure["error"]["status"] == "HV_UNAVAILABLE"
    code, files = status(own_store, path)
    assert code == 1 and files["0001_add_score.sql"]["done"] == 8
    migrate(own_store, path, "--skip-server", "two").ok()
    own_servers[1].server.start()
    result = migrate(own_store, path, "--json").ok().json()
    assert (result["done"], result["unchanged"]) == (8, 8)
