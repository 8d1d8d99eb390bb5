"""The PostgreSQL extension hypervault, on servers of a private installation that has it.

Crashes, standbys and clocks that step are in tests/failure/test_extension_faults.py.
"""

import concurrent.futures
import os
import subprocess
import threading
import time

import psycopg2
import pytest

from harness import build_dir, source_dir
from harness.server import SUPERUSER, binaries, environment

pytestmark = pytest.mark.plain

SECONDS = float(os.environ.get("HV_TEST_SECONDS", "2"))  # of generating keys in many sessions


def program(name, *args):
    """Run one of PostgreSQL's client programs."""
    done = subprocess.run(
        [os.path.join(binaries(), name), *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment(),
        check=False,
    )
    assert done.returncode == 0, done.stdout


def place_arguments(database):
    place = database.server.socket_params()
    return [f"--host={place['host']}", f"--port={place['port']}", f"--username={SUPERUSER}"]


def next_id(database, sequence="seq"):
    return database.value(f"SELECT hypervault.next_id('{sequence}', 12)")


# ---- the extension's own tests ----


def test_the_regression_tests_pass(shared_extension_server, tmp_path):
    place = shared_extension_server.socket_params()
    done = subprocess.run(
        ["make", "--silent", f"--file={source_dir()}/extension/Makefile", "installcheck"]
        + [f"PG_CONFIG={binaries()}/pg_config"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=dict(environment(), PGHOST=place["host"], PGPORT=place["port"], PGUSER=SUPERUSER),
        check=False,
    )
    differences = tmp_path / "regression.diffs"
    assert done.returncode == 0, differences.read_text() if differences.exists() else done.stdout


def test_the_whole_extension_is_built(extension_server):
    """Every C function that the script names is in the library."""
    functions = extension_server.query(
        "SELECT prosrc FROM pg_proc"
        " WHERE pronamespace = 'hypervault'::regnamespace AND probin <> ''"
    )
    names = subprocess.run(
        ["nm", "--dynamic", "--defined-only", os.path.join(build_dir(), "extension/hypervault.so")],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert functions
    assert [name for (name,) in functions if name not in names] == []


# ---- making and dropping it ----


def test_a_databases_owner_creates_it_without_being_a_superuser(shared_extension_server):
    server = shared_extension_server
    server.sql("CREATE ROLE plain_owner LOGIN")
    server.sql("CREATE DATABASE plain OWNER plain_owner")
    try:
        with server.connect("plain", user="plain_owner") as connection:
            cursor = connection.cursor()
            cursor.execute("CREATE EXTENSION hypervault")
            cursor.execute("CREATE SEQUENCE seq")
            cursor.execute("SELECT hypervault.next_id('seq', 12)")
            assert cursor.fetchone()[0] > 0
            cursor.execute("DROP EXTENSION hypervault")
    finally:
        server.sql("DROP DATABASE plain WITH (FORCE)")
        server.sql("DROP ROLE plain_owner")


def test_a_default_keeps_the_extension_from_being_dropped(extension_server):
    extension_server.sql("CREATE SEQUENCE seq")
    extension_server.sql("CREATE TABLE t (id bigint DEFAULT hypervault.next_id('seq', 12))")
    with pytest.raises(psycopg2.errors.DependentObjectsStillExist):
        extension_server.sql("DROP EXTENSION hypervault")


# ---- many keys ----


def test_ten_million_keys_of_one_statement_are_different_and_in_order(extension_server):
    extension_server.sql("CREATE SEQUENCE seq")
    count, not_greater, least, greatest = extension_server.query(
        "SELECT count(*), count(*) FILTER (WHERE k <= before), min(k), max(k)"
        " FROM (SELECT k, lag(k) OVER () AS before FROM"
        "  (SELECT hypervault.next_id('seq', 12) AS k FROM"
        "   (SELECT generate_series(1, 10000000)) AS x OFFSET 0) AS y) AS z"
    )[0]
    assert (count, not_greater) == (10_000_000, 0)
    # At most 1,024 keys have the same millisecond.
    assert (greatest >> 23) - (least >> 23) >= 10_000_000 // 1024 - 1


def test_a_million_keys_take_little_of_the_log(extension_server):
    extension_server.sql("CREATE SEQUENCE seq")
    next_id(extension_server)
    before = extension_server.value("SELECT pg_current_wal_insert_lsn()")
    extension_server.query(
        "SELECT count(hypervault.next_id('seq', 12)) FROM generate_series(1, 1000000)"
    )
    written = extension_server.value("SELECT pg_current_wal_insert_lsn() - %s::pg_lsn", before)
    assert 0 < written < 100_000


def test_sessions_at_once_never_get_a_key_twice(extension_server):
    """Eight sessions for $HV_TEST_SECONDS, in statements of one key and of many."""
    extension_server.sql("CREATE SEQUENCE seq")
    extension_server.sql("CREATE UNLOGGED TABLE made (session int, n bigint, k bigint)")
    together = threading.Barrier(8)
    one = "INSERT INTO made SELECT %s, %s, hypervault.next_id('seq', 12)"
    many = (
        "INSERT INTO made SELECT %s, %s + n, hypervault.next_id('seq', 12)"
        " FROM generate_series(0, 199) n"
    )
    reserved = (
        "INSERT INTO made SELECT %s, %s + n, k"
        " FROM hypervault.next_ids('seq', 12, 1100) WITH ORDINALITY x (k, n)"
    )

    def generate(session):
        with extension_server.connect() as connection:
            cursor = connection.cursor()
            n = 0
            together.wait(60)
            end = time.monotonic() + SECONDS
            while time.monotonic() < end:
                for statement in (one, one, many, reserved):
                    cursor.execute(statement, (session, n))
                    n += 10_000

    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        list(threads.map(generate, range(8)))
    with extension_server.connect() as connection:
        cursor = connection.cursor()
        cursor.execute("SET work_mem TO '256MB'")
        cursor.execute(
            "SELECT count(DISTINCT session), count(*) FILTER (WHERE k = before),"
            " count(*) FILTER (WHERE session <> session_before) FROM"
            " (SELECT session, k, lag(k) OVER w AS before, lag(session) OVER w AS session_before"
            "  FROM made WINDOW w AS (ORDER BY k)) x"
        )
        sessions, twice, alternations = cursor.fetchone()
        cursor.execute(
            "SELECT count(*) FROM"
            " (SELECT k <= lag(k) OVER (PARTITION BY session ORDER BY n) AS wrong FROM made) x"
            " WHERE wrong"
        )
        not_greater = cursor.fetchone()[0]
    assert (twice, not_greater) == (0, 0)
    assert sessions == 8
    assert alternations > 100  # they did work at once


def test_shards_of_one_database_have_sequences_of_their_own(extension_server):
    for shard in range(20):
        extension_server.sql(f"CREATE SEQUENCE seq{shard}")
    with extension_server.connect() as connection:
        cursor = connection.cursor()
        last = [0] * 20
        for _ in range(50):
            for shard in range(20):
                cursor.execute("SELECT hypervault.next_id(%s, %s)", (f"seq{shard}", shard))
                key = cursor.fetchone()[0]
                assert key > last[shard] and (key >> 10) & 8191 == shard
                last[shard] = key


def test_two_databases_have_nothing_in_common(extension_server):
    """Not even where the sequences have the same OID and the same file's name."""
    extension_server.sql("CREATE SEQUENCE seq")
    copy = extension_server.server.create_database(template=extension_server.dbname)
    try:
        ahead = copy.value("SELECT hypervault.make_key(now() + interval '1 hour', 12)")
        copy.sql("SELECT hypervault.advance('seq', %s)", ahead)
        assert next_id(extension_server) < ahead < next_id(copy)
        assert next_id(extension_server) < ahead
    finally:
        copy.drop()


# ---- other sessions change the sequence ----


def test_what_another_session_changes_is_noticed(extension_server):
    extension_server.sql("CREATE SEQUENCE seq")
    with extension_server.connect() as connection:
        cursor = connection.cursor()

        def key():
            cursor.execute("SELECT hypervault.next_id('seq', 12)")
            return cursor.fetchone()[0]

        first = key()
        extension_server.sql("ALTER SEQUENCE seq INCREMENT 2")
        with pytest.raises(psycopg2.errors.ObjectNotInPrerequisiteState):
            key()
        extension_server.sql("ALTER SEQUENCE seq INCREMENT 1")
        second = key()
        extension_server.sql("DROP SEQUENCE seq")
        with pytest.raises(psycopg2.errors.UndefinedTable):
            key()
        extension_server.sql("CREATE SEQUENCE seq")
        assert first < second < key()


def test_rights_taken_by_another_session_are_gone_within_a_transaction(extension_server):
    """As everywhere in PostgreSQL, which learns of others' changes whenever it locks something."""
    extension_server.sql("CREATE SEQUENCE seq")
    role = f"user_of_{extension_server.dbname}"
    extension_server.sql(f"CREATE ROLE {role} LOGIN")
    extension_server.sql(f"GRANT USAGE ON SCHEMA hypervault TO {role}")
    extension_server.sql(f"GRANT USAGE ON SEQUENCE seq TO {role}")
    with extension_server.connect(user=role) as connection:
        connection.autocommit = False
        cursor = connection.cursor()
        for _ in range(2):
            cursor.execute("SELECT hypervault.next_id('seq', 12)")
        extension_server.sql(f"REVOKE USAGE ON SEQUENCE seq FROM {role}")
        cursor.execute("LOCK TABLE pg_catalog.pg_sequence IN ACCESS SHARE MODE")
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            cursor.execute("SELECT hypervault.next_id('seq', 12)")
    extension_server.sql(f"DROP OWNED BY {role}")
    extension_server.sql(f"DROP ROLE {role}")


def test_a_sequence_in_use_by_an_open_transaction_cannot_be_dropped(extension_server):
    extension_server.sql("CREATE SEQUENCE seq")
    with extension_server.connect() as connection:
        connection.autocommit = False
        cursor = connection.cursor()
        for _ in range(2):
            connection.commit()
            cursor.execute("SELECT hypervault.next_id('seq', 12)")
        with extension_server.connect() as other:
            waiting = other.cursor()
            waiting.execute("SET lock_timeout TO '100ms'")
            with pytest.raises(psycopg2.errors.LockNotAvailable):
                waiting.execute("DROP SEQUENCE seq")
            connection.rollback()
            waiting.execute("DROP SEQUENCE seq")


def test_a_sequence_without_a_log_makes_keys_too(extension_server):
    if extension_server.value("SELECT current_setting('server_version_num')::int") < 150000:
        pytest.skip("unlogged sequences came with PostgreSQL 15")
    extension_server.sql("CREATE UNLOGGED SEQUENCE seq")
    before = extension_server.value("SELECT pg_current_wal_insert_lsn()")
    keys = []
    with extension_server.connect() as connection:
        cursor = connection.cursor()
        for _ in range(100):  # a transaction each
            cursor.execute("SELECT hypervault.next_id('seq', 12)")
            keys.append(cursor.fetchone()[0])
    assert keys == sorted(set(keys))
    written = extension_server.value("SELECT pg_current_wal_insert_lsn() - %s::pg_lsn", before)
    assert written < 100 * 50


def test_temporary_sequences_of_other_sessions_are_refused(extension_server):
    with extension_server.connect() as connection:
        cursor = connection.cursor()
        cursor.execute("CREATE TEMPORARY SEQUENCE seq")
        cursor.execute("SELECT 'seq'::regclass::oid")
        oid = cursor.fetchone()[0]
        with pytest.raises(psycopg2.errors.FeatureNotSupported, match="other sessions"):
            extension_server.query(f"SELECT hypervault.next_id({oid}::regclass, 12)")


@pytest.mark.parametrize(
    "call",
    [
        "PERFORM hypervault.next_id('seq', 12)",
        "PERFORM hypervault.next_ids('seq', 12, 3)",
        "PERFORM hypervault.advance('seq', 1)",
    ],
)
def test_parallel_workers_change_no_sequence(extension_server, call):
    """Though a function that calls it is declared safe there."""
    extension_server.sql("CREATE SEQUENCE seq")
    extension_server.sql(
        "CREATE FUNCTION unsafe() RETURNS int LANGUAGE plpgsql PARALLEL SAFE"
        f" AS $$ BEGIN {call}; RETURN 1; END $$;"
        "CREATE TABLE t AS SELECT generate_series(1, 1000)"
    )
    version = extension_server.value("SELECT current_setting('server_version_num')::int")
    force = "force_parallel_mode" if version < 160000 else "debug_parallel_query"
    with extension_server.connect() as connection, connection.cursor() as cursor:
        cursor.execute(f"SET {force} = on")
        with pytest.raises(psycopg2.errors.InvalidTransactionState, match="cannot execute hypervault"):
            cursor.execute("SELECT unsafe() FROM t")
        cursor.execute("SELECT last_value, is_called FROM seq")
        assert cursor.fetchone() == (1, False)


def test_more_keys_than_anybody_waits_for_can_be_interrupted(extension_server):
    extension_server.sql("CREATE SEQUENCE seq")
    with extension_server.connect() as connection, connection.cursor() as cursor:
        before = 0
        for source in ("SELECT count(k) FROM {} k", "SELECT count(k) FROM (SELECT {} AS k) x"):
            cursor.execute("SET statement_timeout TO '50ms'")
            with pytest.raises(psycopg2.errors.QueryCanceled):
                cursor.execute(source.format("hypervault.next_ids('seq', 12, 2147483647)"))
            cursor.execute("RESET statement_timeout")
            cursor.execute("SELECT hypervault.next_id('seq', 12)")
            key = cursor.fetchone()[0]
            assert key > before
            before = key


# ---- dump and restore ----


@pytest.mark.parametrize("format", ["custom", "plain"])
def test_a_restored_dump_goes_on_after_the_last_key(extension_server, tmp_path, format):
    """Also if the clock does not help, because the keys are ahead of it."""
    extension_server.sql(
        "CREATE SCHEMA shard0012;"
        "CREATE SEQUENCE shard0012.table_id_seq;"
        "CREATE TABLE hypervault.layout (version int);"
        "CREATE TABLE shard0012.entities (id bigint PRIMARY KEY"
        " DEFAULT hypervault.next_id('shard0012.table_id_seq', 12), type smallint);"
        "SELECT hypervault.advance('shard0012.table_id_seq',"
        " hypervault.make_key(now() + interval '1 day', 12));"
        "INSERT INTO shard0012.entities (type) SELECT 1 FROM generate_series(1, 5000)"
    )
    last = extension_server.value("SELECT max(id) FROM shard0012.entities")
    dump = str(tmp_path / "dump")
    where = place_arguments(extension_server)
    program("pg_dump", *where, f"--format={format}", f"--file={dump}", extension_server.dbname)
    restored = extension_server.server.create_database(template="template0")
    try:
        if format == "custom":
            program("pg_restore", *where, f"--dbname={restored.dbname}", "--exit-on-error", dump)
        else:
            program("psql", *where, "-qX", "-v", "ON_ERROR_STOP=1", "-f", dump, restored.dbname)
        assert restored.value("SELECT hypervault.version()")
        new = restored.value("INSERT INTO shard0012.entities (type) VALUES (2) RETURNING id")
        assert new > last
    finally:
        restored.drop()
