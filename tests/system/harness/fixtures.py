"""Fixtures of the tests on real servers: two PostgreSQL servers, and a store on them.

Each folder of such tests has a conftest.py that imports all of this file.

Ordinary tests share two servers for the whole session and get a fresh database on each. Tests that
kill, freeze or reconfigure servers take `own_servers` or `make_server`.
"""

import contextlib
import os
import pty
import subprocess

import pytest

from . import command, installation
from .command import make_shards
from .config import store_config
from .relay import TcpRelay
from .server import PostgresServer

LOG_LINES = 60  # lines of each server's log that are shown when a test fails


# ---- servers ----


@pytest.fixture(scope="session")
def shared_servers():
    """Two servers for the whole session: one that is reached by its socket, one by TCP."""
    with PostgresServer("one") as one, PostgresServer("two", tcp=True) as two:
        yield one, two


def _watch(request, server):
    """If the test fails, show what the server logs from now on."""
    logs = request.node.stash.setdefault(_LOGS, [])
    if all(server is not known for known, _ in logs):
        logs.append((server, server.log_size()))


@contextlib.contextmanager
def _databases(request, servers):
    databases = []
    try:
        for server in servers:
            _watch(request, server)
            databases.append(server.create_database())
        yield databases
    finally:
        for database in databases:
            database.drop()


@pytest.fixture
def servers(request, shared_servers):
    """A fresh, empty database on each of the two shared servers, as two Databases.

    Do not stop these servers, nor change their settings: take own_servers for that.
    """
    with _databases(request, shared_servers) as databases:
        yield databases


@pytest.fixture
def server(request, shared_servers):
    """The first of `servers`, for tests that need only one; then the other is not made."""
    if "servers" in request.fixturenames:
        yield request.getfixturevalue("servers")[0]
    else:
        with _databases(request, shared_servers[:1]) as (database,):
            yield database


@pytest.fixture
def make_server(request):
    """A function that starts a server of the test's own: make_server(name, tcp=…, settings=…)."""
    with contextlib.ExitStack() as stack:

        def make(name=None, **how):
            server = PostgresServer(name, **how)
            stack.callback(server.destroy)
            _watch(request, server)
            return server.start()

        yield make


@pytest.fixture(scope="session")
def extension_bindir():
    """For PostgresServer(bindir=…): a PostgreSQL that has the extension hypervault."""
    reason = installation.why_not()
    if reason is not None:
        pytest.skip(reason)
    return installation.bindir_with_extension()


@pytest.fixture(scope="session")
def shared_extension_server(extension_bindir):
    # Tests measure how much is written to its log; autovacuum would add to that.
    settings = {"autovacuum": "off"}
    with PostgresServer("extension", bindir=extension_bindir, settings=settings) as server:
        yield server


@pytest.fixture
def extension_server(request, shared_extension_server):
    """A fresh database with the extension, on a server for the whole session: a Database."""
    with _databases(request, [shared_extension_server]) as (database,):
        database.sql("CREATE EXTENSION hypervault")
        yield database


@pytest.fixture
def make_extension_server(make_server, extension_bindir):
    """Like make_server, with the extension: returns a Database that has it."""

    def make(name=None, **how):
        database = make_server(name, bindir=extension_bindir, **how).create_database("test")
        database.sql("CREATE EXTENSION hypervault")
        return database

    return make


@pytest.fixture
def own_servers(make_server):
    """Two servers of the test's own, by TCP, to be killed at will: two Databases (see .server)."""
    return [make_server(name, tcp=True).create_database("test") for name in ("one", "two")]


@pytest.fixture
def relay():
    """A function that puts a TcpRelay in front of a server with TCP: relay(database.server)."""
    with contextlib.ExitStack() as stack:
        yield lambda server: stack.enter_context(TcpRelay(server))


# ---- stores ----


@pytest.fixture
def config(tmp_path, servers):
    """A configuration file: shards 1-8 on server one, 9-16 on server two; no shard is made yet."""
    one, two = servers
    return store_config(tmp_path / "hypervault.conf", {"one": (one, "1-9"), "two": (two, "9-17")})


@pytest.fixture
def store(config, servers):
    """The same with its shards made: ready to use."""
    make_shards(config, *servers)
    return config


@pytest.fixture
def own_store(tmp_path, own_servers):
    """A ready store on `own_servers`, otherwise like `store`."""
    one, two = own_servers
    path = store_config(tmp_path / "own.conf", {"one": (one, "1-9"), "two": (two, "9-17")})
    make_shards(path, one, two)
    return path


# ---- the command ----


@pytest.fixture
def on_terminal():
    """A function that runs hv with a terminal for all three streams, and returns what was shown."""
    descriptors = []

    def run(*args, typed="", columns=100, **how):
        ours, theirs = pty.openpty()
        descriptors.append(ours)
        os.set_blocking(ours, True)
        subprocess.run(["stty", "-F", os.ttyname(theirs), "cols", str(columns)], check=True)
        env = {"TERM": "xterm", **how.pop("env", {})}
        child = command.spawn("hv", *args, env=env, stdin=theirs, stdout=theirs, stderr=theirs, **how)
        os.close(theirs)
        if typed:
            os.write(ours, typed.encode())
        shown = b""
        while True:
            try:
                piece = os.read(ours, 65536)
            except OSError:  # the other side is closed
                break
            if not piece:
                break
            shown += piece
        return command.Result(args, child.wait(60), shown.replace(b"\r\n", b"\n"), b"")

    yield run
    for descriptor in descriptors:
        os.close(descriptor)


# ---- output of failing tests ----


@pytest.fixture(autouse=True)
def no_sanitizer_report():
    """Fail a test if a sanitizer found something in any program that it ran."""
    yield
    report = command.take_sanitizer_reports()
    if report:
        pytest.fail(report, pytrace=False)


_LOGS = pytest.StashKey()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if report.failed:
        for server, since in item.stash.get(_LOGS, []):
            with contextlib.suppress(OSError):  # the server failed to start, or is destroyed
                lines = server.log_text(since).splitlines()[-LOG_LINES:]
                report.sections.append((f"log of server {server.name}", "\n".join(lines)))
