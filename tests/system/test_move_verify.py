"""Before a shard is switched over, the copy is compared with it, while callers write."""

import contextlib

import pytest
from harness import PostgresServer
from verifying import COPY, SCHEMA, Streamed, Verifier, Writers, quoted

SETTINGS = {"wal_level": "logical", "autovacuum_naptime": "1s"}


@pytest.fixture(scope="module")
def streamed():
    with PostgresServer("one", settings=SETTINGS) as one, PostgresServer("two") as two:
        yield Streamed(one.create_database("test"), two.create_database("test"))


@pytest.fixture
def verifier(tmp_path, streamed):
    with Verifier(tmp_path, streamed) as tool:
        yield tool


def test_a_copy_that_follows_is_the_same(verifier):
    first = verifier("run")
    assert first["status"] == "HV_OK", first
    assert first["pass"] == 2 and first["left"] == 0
    assert first["ranges"] > 5, "entities have several ranges"
    assert verifier("last")["status"] == "HV_OK"


def test_writers_cause_no_false_alarm(streamed, verifier):
    with Writers(streamed.source):
        for said in ("run 50", "again", "last", "run", "again", "last"):
            answer = verifier(said)
            assert answer["status"] == "HV_OK", (said, answer)


# What is done to the copy; the table, and which of its rows are put right afterwards; what is named.
TAMPERINGS = {
    "a byte of an entity": (
        "UPDATE {t} SET body = body || 'name=>m57' WHERE id = 5700",
        ("entities", "id = 5700"),
        ("keys up to ", "key 5700", "other values"),
    ),
    "a kind": (
        "UPDATE {t} SET type = type + 1 WHERE id = 5700",
        ("entities", "id = 5700"),
        ("key 5700", "other values"),
    ),
    "a missing entity": (
        "DELETE FROM {t} WHERE id = 5000700",
        ("entities", "id = 5000700"),
        ("keys ", "key 5000700", 'only server "one" has'),
    ),
    "an entity too many": (
        "INSERT INTO {t} (id, type, body) VALUES (99, 1, '')",
        ("entities", "id = 99"),
        ("key 99,", 'only server "two" has'),
    ),
    "a number written otherwise": (
        "UPDATE {t} SET score = 1.00 WHERE name = 'name 7'",
        ("names", "name = 'name 7'"),
        ("all keys", "key name 7,", "other values"),
    ),
    "a missing name": (
        "DELETE FROM {t} WHERE name = 'name 57'",
        ("names", "name = 'name 57'"),
        ("key name 57", 'only server "one" has'),
    ),
    "an enum": (
        "UPDATE {t} SET mood = 'good' WHERE a = 19 AND b LIKE '%57'",
        ("pairs", "a = 19"),
        ("all keys", "{19,", "other values"),
    ),
    "a pair too many": (
        r"""INSERT INTO {t} (a, b) VALUES (-5, 'x''y"\z')""",
        ("pairs", "a = -5"),
        ("{-5,", 'only server "two" has'),
    ),
    "a day for 24 hours": (
        "UPDATE {t} SET span = '7 days 7 h' WHERE price = 7",
        ('Odd "Ones', "price = 7"),
        ("8f14e45f-ceea-167a-5a36-dedd4bea2543", "other values"),
    ),
    "a row without a key": (
        "UPDATE {t} SET size = -1 WHERE what = 'x7'",
        ("keyless", "what = 'x7'"),
        ("of which",),
    ),
    "one of two equal rows": (
        "DELETE FROM {t} WHERE ctid = (SELECT min(ctid) FROM {t} WHERE what = 'x8')",
        ("keyless", "what = 'x8'"),
        ("of which 1 differs",),
    ),
}


@contextlib.contextmanager
def tampered(streamed, statement, table, where):
    """Afterwards the rows are as they were."""
    name = f"{COPY}.{quoted(table)}"
    streamed.target.sql(f"CREATE TABLE public.aside AS SELECT * FROM {name} WHERE {where}")
    columns = streamed.target.value(
        "SELECT string_agg(quote_ident(attname), ', ') FROM pg_attribute"
        " WHERE attrelid = %s::regclass AND attnum > 0 AND attgenerated = ''",
        name,
    )
    streamed.target.sql(statement.format(t=name))
    try:
        yield
    finally:
        streamed.target.sql(
            f"DELETE FROM {name} WHERE {where};"
            f"INSERT INTO {name} ({columns}) SELECT {columns} FROM public.aside;"
            "DROP TABLE public.aside"
        )


@pytest.fixture(scope="module")
def writers(streamed):
    with Writers(streamed.source, hot=False) as running:
        yield running


@pytest.mark.usefixtures("writers")
@pytest.mark.parametrize("what", TAMPERINGS)
def test_a_difference_is_found_and_named(streamed, verifier, what):
    statement, (table, where), named = TAMPERINGS[what]
    with tampered(streamed, statement, table, where):
        answer = verifier("run")
    assert answer["status"] == "HV_MISMATCH", answer
    assert 'copy of shard 12 on server "two" differs' in answer["message"]
    for text in (f"Table {table}, ", *named):
        assert text in answer["detail"], answer["detail"]
    assert "\n" not in answer["detail"], answer["detail"]


@pytest.mark.usefixtures("writers")
def test_afterwards_nothing_differs(verifier):
    answer = verifier("run")
    assert answer["status"] == "HV_OK", answer


@pytest.mark.parametrize("what", TAMPERINGS)
def test_what_is_tampered_with_later_is_found_by_another_pass(streamed, verifier, what):
    statement, (table, where), named = TAMPERINGS[what]
    assert verifier("run")["status"] == "HV_OK"
    with tampered(streamed, statement, table, where):
        answer = verifier("again")
    assert answer["status"] == "HV_MISMATCH", answer
    for text in (f"Table {table}, ", *named):
        assert text in answer["detail"], answer["detail"]


def test_a_transaction_that_began_before_a_pass_is_noticed_by_the_next(streamed, verifier):
    """Its number is older than many that the pass has seen."""
    with streamed.target.connect() as connection, connection.cursor() as cursor:
        cursor.execute(f"BEGIN; UPDATE {COPY}.entities SET type = type + 1 WHERE id = 5700")
        streamed.source.sql(f"UPDATE {SCHEMA}.entities SET type = type WHERE id = 5600")
        assert verifier("run")["status"] == "HV_OK"
        cursor.execute("COMMIT")
        answer = verifier("again")
        cursor.execute(f"UPDATE {COPY}.entities SET type = type - 1 WHERE id = 5700")
    assert answer["status"] == "HV_MISMATCH" and "key 5700" in answer["detail"], answer


def test_a_row_that_is_missing_and_always_written_to_is_found_by_the_fence(streamed, verifier):
    with Writers(streamed.source, count=1):
        with tampered(streamed, "DELETE FROM {t} WHERE id = 100", "entities", "id = 100"):
            answer = verifier("run")
            if answer["status"] == "HV_OK":
                assert answer["left"] > 0
                answer = verifier("last")
    assert answer["status"] == "HV_MISMATCH" and "key 100," in answer["detail"], answer
    streamed.source.sql(f"UPDATE {SCHEMA}.entities SET body = '' WHERE id = 100")


def test_an_empty_copy_is_noticed_at_once(streamed, verifier):
    with tampered(streamed, "TRUNCATE {t}", 'Odd "Ones', "true"):
        answer = verifier("run")
    assert answer["status"] == "HV_MISMATCH"
    assert '500 rows on "one" and 0 on "two", of which 500 differ' in answer["detail"]


def test_a_long_transaction_of_a_writer_is_no_difference(streamed, verifier):
    with streamed.source.connect() as connection, connection.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute(f"UPDATE {SCHEMA}.entities SET type = 99 WHERE id = 5700")
        cursor.execute(f"DELETE FROM {SCHEMA}.names WHERE name = 'name 107'")
        assert verifier("run")["status"] == "HV_OK"
        cursor.execute("ROLLBACK")


def test_a_table_or_column_that_the_copy_lacks_is_named(streamed, verifier):
    streamed.target.sql(f"ALTER TABLE {COPY}.keyless RENAME TO other")
    try:
        answer = verifier("run")
    finally:
        streamed.target.sql(f"ALTER TABLE {COPY}.other RENAME TO keyless")
    assert answer["status"] == "HV_MISMATCH" and "no table" in answer["detail"]
    streamed.target.sql(f"ALTER TABLE {COPY}.pairs RENAME COLUMN ratio TO rate")
    try:
        answer = verifier("run")
    finally:
        streamed.target.sql(f"ALTER TABLE {COPY}.pairs RENAME COLUMN rate TO ratio")
    assert answer["status"] == "HV_MISMATCH" and "no column ratio" in answer["detail"]


DRIFTS = {
    "a table": ("CREATE TABLE {s}.late ()", "DROP TABLE {s}.late", "+table late"),
    "an index": ("CREATE INDEX late ON {s}.pairs (ratio)", "DROP INDEX {s}.late", "+index pairs.late"),
    "a function": (
        "CREATE FUNCTION {s}.f() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
        "DROP FUNCTION {s}.f()",
        "+function f()",
    ),
    "a grant": (
        "GRANT SELECT ON {s}.pairs TO PUBLIC",
        "REVOKE SELECT ON {s}.pairs FROM PUBLIC",
        "+grant on table pairs to PUBLIC",
    ),
    "a trigger": (
        "CREATE TRIGGER t BEFORE UPDATE ON {s}.pairs FOR EACH ROW"
        " EXECUTE FUNCTION suppress_redundant_updates_trigger()",
        "DROP TRIGGER t ON {s}.pairs",
        "+trigger pairs.t",
    ),
}


@pytest.mark.parametrize("what", DRIFTS)
def test_a_change_of_the_schema_is_noticed(streamed, verifier, what):
    change, undo, line = DRIFTS[what]
    assert verifier("take")["status"] == "HV_OK"
    assert verifier("check")["status"] == verifier("quick")["status"] == "HV_OK"
    streamed.source.sql(change.format(s=SCHEMA))
    try:
        answer, quick = verifier("check"), verifier("quick")
    finally:
        streamed.source.sql(undo.format(s=SCHEMA))
    assert answer["status"] == quick["status"] == "HV_MISMATCH", (answer, quick)
    assert "schema of shard 12 was changed" in answer["message"]
    assert line in answer["detail"]
    assert verifier("check")["status"] == "HV_OK"


def test_what_a_move_itself_does_is_no_change(streamed, verifier):
    """Roots are attached at one moment and not at the other."""
    assert verifier("take")["status"] == "HV_OK"
    streamed.source.sql(f"ALTER TABLE {COPY}.names DETACH PARTITION {SCHEMA}.names")
    try:
        answer, quick = verifier("check"), verifier("quick")
    finally:
        streamed.source.sql(f"ALTER TABLE {COPY}.names ATTACH PARTITION {SCHEMA}.names DEFAULT")
    assert answer["status"] == quick["status"] == "HV_OK", (answer, quick)
