"""Stores over encrypted connections: TLS messages between statements are not taken for the
server's."""

import pytest

from harness import eventually, make_shards, store_config
from harness.store_tool import make_tool, step  # noqa: F401

pytestmark = pytest.mark.threads

BODY = {"a": "b"}


@pytest.fixture
def tls_store(make_server, tmp_path):
    """A server that encrypts, as a Database, and the configuration of a store that insists on it."""
    server = make_server("tls", tcp=True)
    server.encrypt()
    database = server.create_database("test")
    config = store_config(
        tmp_path / "tls.conf", {"tls": (database.params(sslmode="require"), "1-9")}
    )
    make_shards(config, database)
    return database, config


def test_an_encrypted_connection_is_lent_again_and_again(make_tool, tls_store):
    _, config = tls_store
    tool = make_tool(config)
    ann = tool.threads("ann")[0]
    for _ in range(5):
        assert ann.get(ann.put(3, 1, BODY).ok().key).ok().dict == BODY
    ann.acquire(3).ok()
    encrypted = "SELECT ssl, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
    assert ann.sql(encrypted).ok().rows == [["t", "TLSv1.3"]]
    ann.release().ok()
    assert tool.stats().opened == 1


def test_a_large_value_passes_an_encrypted_connection(make_tool, tls_store):
    _, config = tls_store
    ann = make_tool(config).main
    body = {"big": "x" * 3_000_000}
    assert ann.get(ann.put(3, 1, body).ok().key).ok().dict == body


def test_an_encrypted_connection_that_the_server_ended_is_replaced_unseen(make_tool, tls_store):
    database, config = tls_store
    tool = make_tool(config)
    key = tool.main.put(3, 1, BODY).ok().key
    assert database.terminate_clients() == 1
    assert tool.main.get(key).ok().dict == BODY
    assert tool.stats().opened == 2


def test_an_encrypted_connection_in_the_middle_of_something_is_closed(make_tool, tls_store):
    database, config = tls_store
    tool = make_tool(config)
    ann = tool.threads("ann")[0]
    ann.acquire(3).ok()
    ann.send("SELECT pg_sleep(5)")
    assert ann.release().ok().ms < 4500
    assert tool.stats().open == 0
    ann.put(3, 1, BODY).ok()
    eventually(lambda: len(database.clients()) == 1)


def test_a_child_leaves_its_parents_encrypted_connection_alone(make_tool, tls_store):
    _, config = tls_store
    tool = make_tool(config)
    ann = tool.threads("ann")[0]
    key = ann.put(3, 1, BODY).ok().key
    fork = ann.fork([step("put", 3, 1, BODY), step("close", 0)]).ok()
    assert fork.exit_status == 0
    assert [reply.status for reply in fork.child] == ["HV_OK", "HV_OK"]
    assert ann.get(key).ok().dict == BODY
    assert tool.stats().opened == 1
