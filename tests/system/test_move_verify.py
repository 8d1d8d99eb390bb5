"""Before a shard is switched over, the copy is compared with it, while callers write."""

import pytest
from harness import PostgresServer, eventually
from verifying import COPY, SCHEMA, Streamed, Verifier, Writers

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
    assert first["ranges"] > 6, "entities have several ranges"
    assert verifier("last")["status"] == "HV_OK"


def test_writers_cause_no_false_alarm(streamed, verifier):
    with Writers(streamed.source):
        for _ in range(3):
            answer = verifier("run 50")
            assert answer["status"] == "HV_OK", answer
            for _ in range(2):
                answer = verifier("again")
                assert answer["status"] == "HV_OK", answer
            answer = verifier("last")
            assert answer["status"] == "HV_OK", answer


TAMPERINGS = {
    "a byte of an entity": (
        "UPDATE {c}.entities SET body = body || 'name=>m57' WHERE id = 5700",
        "UPDATE {c}.entities SET body = body || 'name=>n57' WHERE id = 5700",
        ("Table entities", "keys up to ", "key 5700", "other values"),
    ),
    "a kind": (
        "UPDATE {c}.entities SET type = type + 1 WHERE id = 5700",
        "UPDATE {c}.entities SET type = type - 1 WHERE id = 5700",
        ("Table entities", "key 5700", "other values"),
    ),
    "a missing entity": (
        "DELETE FROM {c}.entities WHERE id = 11000700 RETURNING id, type, body",
        "INSERT INTO {c}.entities (id, type, body) VALUES (%s, %s, %s)",
        ("Table entities", "keys from ", "key 11000700", 'only server "one" has'),
    ),
    "an entity too many": (
        "INSERT INTO {c}.entities (id, type, body) VALUES (99, 1, '')",
        "DELETE FROM {c}.entities WHERE id = 99",
        ("Table entities", "key 99,", 'only server "two" has'),
    ),
    "a number written otherwise": (
        "UPDATE {c}.names SET score = 1.00 WHERE name = 'name 7'",
        "UPDATE {c}.names SET score = 1.0 WHERE name = 'name 7'",
        ("Table names", "all keys", "key name 7"),
    ),
    "a missing name": (
        "DELETE FROM {c}.names WHERE name = 'name 57' RETURNING name, score, seen, words, said",
        "INSERT INTO {c}.names (name, score, seen, words, said) VALUES (%s, %s, %s, %s, %s::text::jsonb)",
        ("Table names", "key name 57", 'only server "one" has'),
    ),
    "an enum": (
        "UPDATE {c}.pairs SET mood = 'good' WHERE b LIKE '%57' AND a = 19",
        "UPDATE {c}.pairs SET mood = 'so-so' WHERE b LIKE '%57' AND a = 19",
        ("Table pairs", "all keys", "19"),
    ),
    "a pair too many": (
        "INSERT INTO {c}.pairs (a, b) VALUES (-5, 'x''y\\\"')",
        "DELETE FROM {c}.pairs WHERE a = -5",
        ("Table pairs", "-5", 'only server "two" has'),
    ),
    "an interval": (
        """UPDATE {c}."Odd ""Ones" SET span = '175 h' WHERE id = md5('7')::uuid""",
        """UPDATE {c}."Odd ""Ones" SET span = 7 * interval '25 h' WHERE id = md5('7')::uuid""",
        None,  # the same text: it is not different
    ),
    "a day for 24 hours": (
        """UPDATE {c}."Odd ""Ones" SET span = '7 days 7 h' WHERE id = md5('7')::uuid""",
        """UPDATE {c}."Odd ""Ones" SET span = 7 * interval '25 h' WHERE id = md5('7')::uuid""",
        ('Table Odd "Ones', "8f14e45f-ceea-167a-5a36-dedd4bea2543"),
    ),
    "a row without a key": (
        "UPDATE {c}.keyless SET size = -1 WHERE what = 'x7'",
        "UPDATE {c}.keyless SET size = 7 WHERE what = 'x7'",
        ("Table keyless", "of which"),
    ),
    "one of two equal rows": (
        "DELETE FROM {c}.keyless WHERE ctid = (SELECT min(ctid) FROM {c}.keyless WHERE what = 'x8')",
        "INSERT INTO {c}.keyless (what, size) VALUES ('x8', 8)",
        ("Table keyless", "of which 1 differs"),
    ),
}


def tamper(database, statement, values=()):
    with database.connect() as connection, connection.cursor() as cursor:
        cursor.execute(statement.format(c=COPY), values or None)
        return cursor.fetchall() if cursor.description else []


@pytest.fixture(scope="module")
def writers(streamed):
    with Writers(streamed.source, hot=False) as running:
        yield running


@pytest.mark.parametrize("what", TAMPERINGS)
def test_a_difference_is_found_and_named(streamed, verifier, writers, what):
    change, undo, named = TAMPERINGS[what]
    rows = tamper(streamed.target, change)
    try:
        answer = verifier("run")
    finally:
        for row in rows or [()]:
            tamper(streamed.target, undo, row)
    if named is None:
        assert answer["status"] == "HV_OK"
        return
    assert answer["status"] == "HV_MISMATCH", answer
    assert 'copy of shard 12 on server "two" differs' in answer["message"]
    for text in named:
        assert text in answer["detail"], answer["detail"]
    assert "\n" not in answer["detail"], answer["detail"]
    assert verifier("run")["status"] == "HV_OK", "nothing else differs"


def test_what_is_tampered_with_later_is_found_by_another_pass(streamed, verifier):
    assert verifier("run")["status"] == "HV_OK"
    tamper(streamed.target, "UPDATE {c}.entities SET type = 9 WHERE id = 5700")
    try:
        answer = verifier("again")
    finally:
        tamper(streamed.target, "UPDATE {c}.entities SET type = 57 % 7 WHERE id = 5700")
    assert answer["status"] == "HV_MISMATCH" and "key 5700" in answer["detail"], answer


def test_a_row_that_is_missing_and_always_written_to_is_found_by_the_fence(streamed, verifier):
    with Writers(streamed.source, count=1):
        rows = tamper(streamed.target, "DELETE FROM {c}.entities WHERE id = 100 RETURNING id, type, body")
        try:
            answer = verifier("run")
            if answer["status"] == "HV_OK":
                assert answer["left"] > 0
                answer = verifier("last")
        finally:
            for row in rows:
                tamper(streamed.target, "INSERT INTO {c}.entities (id, type, body) VALUES (%s, %s, %s)", row)
    assert answer["status"] == "HV_MISMATCH" and "key 100," in answer["detail"], answer


def test_an_empty_copy_is_noticed_at_once(streamed, verifier):
    streamed.target.sql(f"CREATE TABLE {COPY}.aside AS SELECT * FROM {COPY}.entities")
    streamed.target.sql(f"ALTER TABLE {COPY}.entities DISABLE TRIGGER ALL")
    streamed.target.sql(f"TRUNCATE {COPY}.entities")
    try:
        answer = verifier("run")
    finally:
        streamed.target.sql(f"INSERT INTO {COPY}.entities SELECT * FROM {COPY}.aside")
        streamed.target.sql(f"DROP TABLE {COPY}.aside")
    assert answer["status"] == "HV_MISMATCH"
    assert '0 on "two"' in answer["detail"]
    assert answer["seconds"] < 10
    eventually(lambda: verifier("run")["status"] == "HV_OK")


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
