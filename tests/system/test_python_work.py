"""Migrations, indexes and the comparison of schemas from Python."""

import datetime
import os
import time

import pytest

from finding import in_thread
from harness import eventually, python
from harness.python import connections, databases, db, own_connections  # noqa: F401
from test_python_each import sleepers

python.provide()

from hv.datastore import (
    ConnectionError,
    Datastore,
    DatastoreError,
    MigrationState,
    PoolError,
    SchemaGroup,
    Summary,
)

SHARDS = list(range(1, 17))

FILES = {
    "0001_score.sql": "ALTER TABLE entities ADD COLUMN score bigint DEFAULT 0;\n",
    "0002_notes.sql": "CREATE TABLE @shard.notes (id bigint PRIMARY KEY, note text);\n",
    "0003_index.sql": (
        "-- hv: no-transaction\n"
        "CREATE INDEX CONCURRENTLY notes_note ON @shard.notes (note);\n"
    ),
}


@pytest.fixture
def directory(tmp_path, databases):  # noqa: F811
    """A directory with migrations, whose traces are removed at the end."""
    path = tmp_path / "migrations"
    path.mkdir()
    for name, text in FILES.items():
        (path / name).write_text(text)
    yield path
    for number, database in enumerate(databases):
        for shard in range(1 + 8 * number, 9 + 8 * number):
            name = f"shard{shard:04d}"
            database.sql(
                f"ALTER TABLE {name}.entities DROP COLUMN IF EXISTS score;"
                f"DROP TABLE IF EXISTS {name}.notes, {name}.hypervault_migrations"
            )


def shards_of(works):
    return [each.shard for each in works]


# ---- migrations ----


@pytest.mark.parametrize("form", [str, os.fsencode, lambda path: path], ids=["str", "bytes", "path"])
def test_all_shards_get_all_files_once(db, directory, form):  # noqa: F811
    summary = db.migrate(form(directory))
    assert isinstance(summary, Summary) and shards_of(summary) == SHARDS
    assert shards_of(summary.done) == SHARDS
    assert repr(summary) == "<Summary: 16 done>"
    assert repr(db.migrate(form(directory))) == "<Summary: 16 unchanged>"
    for each in db.each_shard("SELECT score FROM entities, notes"):
        assert each.rows == []


def test_the_status_is_a_table_of_shards_and_files(db, directory):  # noqa: F811
    before = datetime.datetime.utcnow() - datetime.timedelta(seconds=5)
    db.migrate(directory, shards="1-5")
    status = db.migrate_status(directory)
    assert status.files == tuple(FILES)
    assert [each.shard for each in status.shards] == SHARDS
    assert [each.server for each in status.shards] == ["server 1"] * 8 + ["server 2"] * 8
    assert [each.complete for each in status.shards] == [True] * 4 + [False] * 12
    assert not status.complete
    assert repr(status) == "<MigrationStatus: 3 files, 4 of 16 shards complete>"
    assert status.shards[4].files["0001_score.sql"] == MigrationState("pending", None, None)
    done = status.shards[3].files["0001_score.sql"]
    assert done.state == "done" and len(done.digest) == 64
    assert before < done.applied_at < datetime.datetime.utcnow() + datetime.timedelta(seconds=5)
    (directory / "0002_notes.sql").write_text("SELECT 1;\n")
    (directory / "0003_index.sql").unlink()
    states = db.migrate_status(directory, shards=3).shards[0].files
    assert {name: each.state for name, each in states.items()} == {
        "0001_score.sql": "done",
        "0002_notes.sql": "changed",
        "0003_index.sql": "no file",
    }


def test_the_directory_is_that_of_the_option(connections, directory):  # noqa: F811
    with Datastore(connections, migrations=directory) as db:  # noqa: F811
        assert len(db.migrate().done) == 16
        assert db.migrate_status().complete
        assert all(step.shards == 0 for step in db.migrate_plan())


def test_without_a_directory(db, directory):  # noqa: F811
    for call in (db.migrate, db.migrate_plan):
        with pytest.raises(DatastoreError) as caught:
            call()
        assert caught.value.status == "HV_INVALID" and caught.value.hint
    db.migrate(directory)
    status = db.migrate_status()
    assert status.files == tuple(FILES) and status.complete


def test_a_plan_says_which_locks_are_taken(db, directory):  # noqa: F811
    (directory / "0004_type.sql").write_text(
        "ALTER TABLE entities ALTER COLUMN type TYPE integer;\n"
    )
    steps = db.migrate_plan(directory)
    assert [(step.file, step.line) for step in steps] == [
        ("0001_score.sql", 1), ("0002_notes.sql", 1), ("0003_index.sql", 2), ("0004_type.sql", 1)
    ]  # fmt: skip
    assert [step.shards for step in steps] == [16] * 4
    assert (steps[0].lock, steps[0].relation, steps[0].rewrites) == (
        "ACCESS EXCLUSIVE", "entities", False
    )  # fmt: skip
    assert steps[3].rewrites and steps[3].warning
    assert steps[3].bytes >= 0
    assert steps[2].statement.startswith("CREATE INDEX CONCURRENTLY")
    assert not db.migrate_status(directory).complete  # nothing was run


def test_a_shard_that_fails_is_in_the_summary_of_the_error(db, directory, databases):  # noqa: F811
    databases[0].sql("CREATE TABLE shard0005.notes (other text)")
    with pytest.raises(DatastoreError) as caught:
        db.migrate(directory, max_failures="all")
    error = caught.value
    assert (error.status, error.shard, error.server) == ("HV_REFUSED", 5, "server 1")
    assert "0002_notes.sql" in error.message
    assert str(error).endswith('\nWHERE:  shard 5, server "server 1"')
    assert shards_of(error.summary.failed) == [5] and len(error.summary.done) == 15
    assert error.summary.failed[0].error.sqlstate == "42P07"
    databases[0].sql("DROP TABLE shard0005.notes")
    assert shards_of(db.migrate(directory).done) == [5]


def test_a_file_that_was_changed_is_refused(db, directory):  # noqa: F811
    db.migrate(directory)
    (directory / "0001_score.sql").write_text("SELECT 1;\n")
    with pytest.raises(DatastoreError) as caught:
        db.migrate(directory)
    assert caught.value.status == "HV_MISMATCH"


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"score.sql": "SELECT 1"},
        {"1_a.sql": "SELECT 1", "01_b.sql": "SELECT 2"},
        {"1_a.sql": "SELECT 'x"},
        {"1_a.sql": "SELECT 1;\nCOMMIT"},
    ],
    ids=["empty", "number", "twice", "quote", "commit"],
)
def test_a_bad_directory_is_refused_before_anything_is_sent(connections, tmp_path, files):  # noqa: F811
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with Datastore(connections) as db:  # noqa: F811
        for call in (db.migrate, db.migrate_status, db.migrate_plan):
            with pytest.raises(DatastoreError) as caught:
                call(tmp_path)
            assert caught.value.status == "HV_INVALID"
        with pytest.raises(DatastoreError) as caught:
            db.migrate(tmp_path / "nowhere")
        assert caught.value.status == "HV_BAD_CONFIG"
        assert db.pool_stats()["opened"] == 0


# ---- indexes ----


def names_of(indexes):
    return [index.name for index in indexes]


def test_an_index_is_made_listed_and_dropped(db):  # noqa: F811
    assert names_of(db.index_list()) == ["entities_pkey"]
    assert repr(db.index_create("user")) == "<Summary: 16 done>"
    assert repr(db.index_create("user")) == "<Summary: 16 unchanged>"
    primary, index = db.index_list()
    assert (index.name, index.shards, index.missing, index.invalid) == ("entities_user_idx", 16, 0, 0)
    assert (index.building, index.different) == (0, 0)
    assert "@shard.entities" in index.definition and index.bytes > 0 and index.scans >= 0
    assert (index.missing_in, index.invalid_in, index.different_in) == ("", "", "")
    assert repr(db.index_drop("entities_user_idx", shards="1-9")) == "<Summary: 8 done>"
    primary, index = db.index_list()
    assert (index.shards, index.missing, index.missing_in) == (8, 8, "1-9")
    summary = db.index_drop("entities_user_idx")
    assert shards_of(summary.unchanged) == SHARDS[:8] and shards_of(summary.done) == SHARDS[8:]
    assert names_of(db.index_list()) == ["entities_pkey"]


@pytest.mark.parametrize(
    "attributes,more,said",
    [
        (["user", ("score", "bigint")], {"name": "both"}, "bigint"),
        ([("at", "timestamptz"), ("user", None)], {"kind": 2, "name": "both"}, "WHERE (type = '2'::smallint)"),
        ([("user", "text")], {"unique": True, "name": "both"}, "UNIQUE"),
        ([], {"all": True, "name": "both"}, "gin"),
    ],
    ids=["type", "kind", "unique", "all"],
)
def test_definitions(db, attributes, more, said):  # noqa: F811
    summary = db.index_create(*attributes, **more, shards=[3, 12])
    (index,) = [each for each in db.index_list() if each.name == "both"]
    db.index_drop("both")
    assert shards_of(summary.done) == [3, 12]
    assert said in index.definition and index.shards == 2


def test_a_value_that_does_not_fit_is_named(db):  # noqa: F811
    keys = [db.put(5, 1, score="5"), db.put(5, 1, score="many")]
    with pytest.raises(DatastoreError) as caught:
        db.index_create(("score", "bigint"), max_failures="all")
    error = caught.value
    assert (error.status, error.shard, error.sqlstate) == ("HV_REFUSED", 5, "22P02")
    assert str(int(keys[1])) in str(error)
    assert len(error.summary.done) == 15
    assert db.index_list()[1].missing_in == "5" and db.index_list()[1].invalid == 0
    db.index_drop("entities_score_bigint_idx")
    db.delete_many(keys)


def test_a_name_that_is_taken(db):  # noqa: F811
    db.index_create("user", name="taken", shards=3)
    with pytest.raises(DatastoreError) as caught:
        db.index_create("owner", name="taken", shards=3)
    assert caught.value.status == "HV_MISMATCH"
    with pytest.raises(DatastoreError) as caught:
        db.index_drop("entities_pkey")
    assert caught.value.status == "HV_INVALID"
    db.index_drop("taken")


WRONG = [
    ("index_create", TypeError, [5], {}),
    ("index_create", TypeError, [("a", "b", "c")], {}),
    ("index_create", TypeError, [("a", 5)], {}),
    ("index_create", TypeError, ["a"], {"kinds": 5}),
    ("index_create", TypeError, ["a"], {"kind": "five"}),
    ("index_create", TypeError, ["a"], {"name": 5}),
    ("index_create", TypeError, ["a"], {"write": True}),
    ("index_create", DatastoreError, [], {}),
    ("index_create", DatastoreError, [("a", "colour")], {}),
    ("index_create", DatastoreError, ["a"], {"kind": 99999}),
    ("index_create", DatastoreError, ["a"], {"name": "x" * 64}),
    ("index_create", DatastoreError, ["a"], {"name": ""}),
    ("index_create", DatastoreError, ["a\0b"], {}),
    ("index_create", DatastoreError, ["a"], {"all": True}),
    ("index_create", DatastoreError, ["a"], {"shards": "99"}),
    ("index_drop", TypeError, [], {}),
    ("index_drop", TypeError, ["a", "b"], {}),
    ("index_drop", TypeError, [5], {}),
    ("index_list", TypeError, [3], {}),
    ("index_list", DatastoreError, [], {"skip": "nobody"}),
    ("schema_check", TypeError, [3], {}),
    ("schema_check", TypeError, [], {"once": "x"}),
    ("schema_check", DatastoreError, [], {"parallel": 100}),
    ("schema_check", TypeError, [], {"shards": b"12"}),
    ("schema_check", TypeError, [], {"shards": bytearray(b"12")}),
    ("schema_check", TypeError, [], {"shards": memoryview(b"12")}),
    ("schema_check", TypeError, [], {"skip": b"one"}),
    ("index_create", TypeError, ["a"], {"unique": "off"}),
    ("index_create", TypeError, [], {"all": b"off"}),
    ("migrate", TypeError, ["."], {"canary": "off"}),
    ("migrate", TypeError, ["."], {"canary": b"off"}),
    ("each_shard", TypeError, ["SELECT 1"], {"write": "off"}),
    ("each_shard", TypeError, ["SELECT 1"], {"per_server": "no"}),
    ("migrate", TypeError, [5], {}),
    ("migrate_status", TypeError, [], {"directory": 5}),
    ("migrate_plan", TypeError, ["x", "y"], {}),
]


@pytest.mark.parametrize(
    "method,kind,args,kwargs", WRONG, ids=[f"{i}-{each[0]}" for i, each in enumerate(WRONG)]
)
def test_what_is_wrong_is_refused_before_anything_is_sent(connections, method, kind, args, kwargs):  # noqa: F811
    with Datastore(connections) as db:  # noqa: F811
        with pytest.raises(kind) as caught:
            getattr(db, method)(*args, **kwargs)
        if kind is DatastoreError:
            assert caught.value.status == "HV_INVALID"
        assert db.pool_stats()["opened"] == 0


# ---- drift ----


def test_schemas_that_are_alike_are_one_group(db):  # noqa: F811
    report = db.schema_check()
    assert report.alike and report.failures == (), report.groups[1].differences
    (group,) = report.groups
    assert isinstance(group, SchemaGroup)
    assert (group.size, group.shards, group.differences) == (16, "1-17", "")
    assert len(group.digest) == 64 and "entities" in group.description
    assert repr(group) == f"<SchemaGroup: shards 1-17, {group.digest[:12]}>"


def test_a_shard_that_differs_is_found(db, databases):  # noqa: F811
    databases[1].sql("ALTER TABLE shard0012.entities ADD COLUMN more int DEFAULT 5")
    report = db.schema_check()
    assert not report.alike
    assert [(each.size, each.shards) for each in report.groups] == [(15, "1-12,13-17"), (1, "12")]
    lines = report.groups[1].differences.splitlines()
    assert any(line.startswith("+") and "more" in line for line in lines)
    databases[1].sql("ALTER TABLE shard0012.entities DROP COLUMN more")
    assert db.schema_check().alike


# ---- servers that are down, and ends ----


def test_a_server_that_is_down(own_servers, own_connections, directory):  # noqa: F811
    with Datastore(own_connections, pool_block_timeout=1) as db:  # noqa: F811
        own_servers[0].server.stop("immediate")
        for call in (lambda **how: db.migrate(directory, **how), lambda **how: db.index_create("user", **how)):
            with pytest.raises(ConnectionError) as caught:
                call(max_failures="all", canary=False)
            assert caught.value.server == "server 1"
            assert shards_of(caught.value.summary.failed) == SHARDS[:8]
            assert shards_of(caught.value.summary.done) == SHARDS[8:]
        with pytest.raises(ConnectionError):
            db.index_list()
        assert names_of(db.index_list(skip="server 1")) == [
            "entities_pkey", "entities_user_idx"
        ]  # fmt: skip
        report = db.schema_check()
        assert not report.alike and [each.size for each in report.groups] == [8]
        assert [(each.server, each.shard) for each in report.failures] == [
            ("server 1", shard) for shard in SHARDS[:8]
        ]
        status = db.migrate_status(directory)
        assert [each.error is None for each in status.shards] == [False] * 8 + [True] * 8
        assert not status.complete


def test_ctrl_c_ends_a_migration(connections, databases, tmp_path):  # noqa: F811
    (tmp_path / "1_sleep.sql").write_text("SELECT pg_sleep(600);\n")
    code = f"""
db = Datastore(connections)
say("ready")
try:
    db.migrate({str(tmp_path)!r})
except KeyboardInterrupt as error:
    say("interrupted", error.__context__.summary)
say(db.pool_stats()["lent"])
db.close()
"""
    with python.Process(code, connections) as process:
        assert process.read() == "ready"
        eventually(lambda: sleepers(*databases) == 1)
        since = time.monotonic()
        process.interrupt()
        assert process.read() == "interrupted <Summary: 1 failed, 15 not begun>"
        assert time.monotonic() - since < 10
        assert process.read() == "0"
        assert process.end() == (0, "", "")
    eventually(lambda: sleepers(*databases) == 0)


def test_a_closed_store_does_no_work(connections, directory):  # noqa: F811
    db = Datastore(connections)  # noqa: F811
    db.close()
    for call in (
        lambda: db.migrate(directory),
        lambda: db.index_create("user"),
        lambda: db.index_drop("user"),
        db.index_list,
        db.schema_check,
        lambda: db.each_shard("SELECT 1"),
    ):
        with pytest.raises(PoolError) as caught:
            call()
        assert caught.value.status == "HV_CLOSED"


def test_a_store_is_closed_under_a_migration(connections, databases, tmp_path):  # noqa: F811
    (tmp_path / "1_sleep.sql").write_text("SELECT pg_sleep(1);\n")
    db = Datastore(connections)  # noqa: F811
    came, thread = in_thread(lambda: db.migrate(tmp_path, max_failures="all"))
    eventually(lambda: sleepers(*databases) == 1)
    with pytest.raises(PoolError) as caught:
        db.close(timeout=0)
    assert caught.value.status == "HV_BUSY"
    thread.join(60)
    db.close()
    (error,) = came
    assert isinstance(error, PoolError) and error.status == "HV_CLOSED"
    # Those that had their connections already went on.
    assert error.summary.done and error.summary.failed
    assert len(error.summary.done) + len(error.summary.failed) == 16
