"""The contents of the log: statements and their outcomes, and no user data unless asked for."""

import concurrent.futures
import io
import logging
import re

import psycopg2
import psycopg2.extras
import psycopg2.sql
import pytest

from harness import python, store_config
from harness.python import connections, databases  # noqa: F401

python.provide()

from hv.datastore import Datastore, DatastoreError


def test_a_logger_sees_the_statements_of_put_and_get_too(connections, caplog):
    logger = logging.getLogger("hv.test")
    caplog.set_level(logging.DEBUG, "hv.test")
    with Datastore(connections, logger=logger) as db:
        connection = db.get_connection(5)
        assert isinstance(connection, psycopg2.extras.LoggingConnection)
        assert connection.autocommit
        with connection.cursor() as cursor:
            cursor.execute("SELECT 'by hand'")
        db.put_connection(connection)
        key = db.put(5, 1, name="it's me")
        db.get(key)
    records = [record for record in caplog.records if record.name == "hv.test"]
    texts = [record.getMessage() for record in records]
    assert "SELECT 'by hand'" in texts
    (put,) = [text for text in texts if "INSERT" in text]
    assert re.search(r"shard0005\.entities .* -- server 1, shard 5; \d+\.\d{3} ms; HV_OK$", put)
    assert not any("it''s me" in text or str(key.id) in text for text in texts)
    for record in (record for record in records if "entities" in record.getMessage()):
        assert (record.hv_server, record.hv_shard, record.hv_status) == ("server 1", 5, "HV_OK")
        assert 0 < record.hv_duration < 30 and record.hv_sqlstate is None


def test_a_logger_learns_of_what_the_server_refuses(connections, caplog):
    caplog.set_level(logging.DEBUG, "hv.test")
    with Datastore(connections, logger=logging.getLogger("hv.test")) as db:
        with db.cursor(5) as cursor:
            cursor.execute("ALTER TABLE shard0005.entities ADD CONSTRAINT c CHECK (type <> 9)")
        with pytest.raises(DatastoreError):
            db.put(5, 9)
        last = caplog.records[-1]
        with db.cursor(5) as cursor:
            cursor.execute("ALTER TABLE shard0005.entities DROP CONSTRAINT c")
    assert (last.hv_status, last.hv_sqlstate) == ("HV_REFUSED", "23514")
    assert last.getMessage().endswith("; HV_REFUSED 23514")


@pytest.mark.parametrize("options", [{}, {"log_parameters": False}, {"log_parameters": True}])
def test_a_log_has_values_only_if_they_are_asked_for(connections, options):
    secret = "a user's \\ data"
    file = io.StringIO()
    with Datastore(connections, logger=file, **options) as db:
        key = db.put(5, 1, {secret: secret})
        db.put_key(db.reserve(5)[0], 1, {secret: secret})
        db.get(key)
        db.put_many([(5, 1, {secret: secret}), (12, 1, {secret: secret})])
        for statement in (
            "SELECT %s, 'by hand'",
            b"SELECT %s, 'by hand'",
            psycopg2.sql.SQL("SELECT %s, 'by hand'"),
        ):
            with db.cursor(5) as cursor:
                cursor.execute(statement, (secret,))
                assert cursor.fetchone()[0] == secret
        composed = psycopg2.sql.SQL("SELECT {}, {}").format(
            psycopg2.sql.Literal(secret), psycopg2.sql.Identifier("entities", "id")
        )
        with db.cursor(5) as cursor, pytest.raises(psycopg2.Error):
            cursor.execute(composed)
        with db.cursor(5) as cursor:
            cursor.callproc("length", (secret,))
    text = file.getvalue()
    asked = options.get("log_parameters", False)
    assert ("user" in text) == asked
    assert (str(key.id) in text) == asked
    assert ("SELECT %s, 'by hand'" in text) != asked and text.count("by hand") == 3
    assert "FROM length(...)" in text or asked


def test_the_parameters_of_a_file_are_heeded(connections, databases, tmp_path):
    servers = {"one": (databases[0], "1-9"), "two": (databases[1], "9-17")}
    file = io.StringIO()
    path = store_config(tmp_path / "x.conf", servers, log_parameters="yes")
    with Datastore.from_config(path, logger=file) as db:
        db.put(5, 1, a="tell it")
        with db.cursor(5) as cursor:
            cursor.execute("SELECT %s", ("this too",))
    assert "tell it" in file.getvalue() and "this too" in file.getvalue()


def test_lanes_stay_on_with_a_logger(connections):
    """Many threads' puts are fewer statements, and commits, than puts."""
    file = io.StringIO()
    with Datastore(connections, logger=file, lanes=1) as db:
        with db.cursor(5) as cursor:
            cursor.execute(
                "CREATE FUNCTION public.slow() RETURNS trigger LANGUAGE plpgsql AS"
                " 'BEGIN PERFORM pg_catalog.pg_sleep(0.02); RETURN NULL; END';"
                "CREATE TRIGGER slow AFTER INSERT ON shard0005.entities"
                " FOR EACH STATEMENT EXECUTE FUNCTION public.slow()"
            )
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda n: db.put(5, 1, n=n), range(160)))
        with db.cursor(5) as cursor:
            cursor.execute("DROP FUNCTION public.slow() CASCADE")
    assert 1 <= file.getvalue().count("INSERT INTO shard0005.entities") < 120


def test_a_file_may_be_the_logger(connections):
    file = io.StringIO()
    with Datastore(connections, logger=file) as db:
        with db.cursor(5) as cursor:
            cursor.execute("SELECT 'by hand'")
        db.put(5, 1, a=None)
    lines = file.getvalue().splitlines()
    assert any("SELECT 'by hand'" in line for line in lines)
    assert any("INSERT" in line and "shard0005" in line for line in lines)


def test_a_logger_that_raises_does_no_harm(connections, monkeypatch):
    class Broken:
        """A file on a full disk."""

        def write(self, text):
            raise OSError("disk full")

    unraisable = []
    monkeypatch.setattr("sys.unraisablehook", unraisable.append)
    with Datastore(connections, logger=Broken()) as db:
        key = db.put(5, 1, a="b")
        assert db.get(key)["body"] == {"a": "b"}
    assert unraisable and all(isinstance(each.exc_value, OSError) for each in unraisable)
