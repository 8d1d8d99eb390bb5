"""PgBouncer in the harness lends a few server connections to many clients."""

import contextlib

import psycopg2
import pytest

from harness import PgBouncer

pytestmark = pytest.mark.plain


def test_a_bouncer_shares_one_server_connection_among_clients(server):
    with PgBouncer(server.server, pool_size=1) as bouncer:
        pids = set()
        for _ in range(3):
            connection = psycopg2.connect(**bouncer.params(server.dbname))
            with contextlib.closing(connection), connection.cursor() as cursor:
                cursor.execute("SELECT pg_backend_pid()")
                pids.add(cursor.fetchone()[0])
                connection.commit()
        assert len(pids) == 1
    assert bouncer.process.returncode is not None


def test_a_bouncer_in_session_mode_keeps_a_session(server):
    with PgBouncer(server.server, pool_mode="session") as bouncer:
        connection = psycopg2.connect(**bouncer.params(server.dbname))
        with contextlib.closing(connection), connection.cursor() as cursor:
            cursor.execute("SET statement_timeout = 1234")
            connection.commit()
            cursor.execute("SHOW statement_timeout")
            assert cursor.fetchone() == ("1234ms",)
