"""The Python package hv as it was built, in the tests' own process and in others.

    from harness import python

    python.provide()  # or skips the whole file
    from hv.datastore import Datastore

    def test_…(connections, db):
        python.run("db = Datastore(connections); print(db.put(3, 1))", connections).ok()

With a build for AddressSanitizer Python must be started with that preloaded, as dev/check does. Without,
the files test_python_*.py are left out.
"""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap

import psycopg2
import pytest

from . import command, scratch
from .config import store_config
from .wait import eventually

PRELUDE = """
import faulthandler, gc, json, logging, os, signal, sys, threading, time
import psycopg2
from hv.datastore import ChangedError, ConnectionError, Datastore, DatastoreError, PoolError
from hv.entity import Change, Key

connections = json.loads(os.environ["HV_TEST_CONNECTIONS"])

# It is ignored in what a shell runs in the background, and then Python leaves it so.
signal.signal(signal.SIGINT, signal.default_int_handler)

def say(*what):
    print(*what, flush=True)

# The end of the store is an error to threads that use it. Should one be writing that to stderr when
# Python flushes it for the last time, Python itself aborts.
def quiet_threads():
    threading.excepthook = lambda _: None

def wait_for(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.005)
"""


def folder():
    """Where the package is: for PYTHONPATH."""
    return str(command.build_dir() / "python")


def is_usable():
    """Can this process load the built package? Not if it was built for a sanitizer and Python runs
    without."""
    return not command.sanitizers() or "LD_PRELOAD" in os.environ


def _require_usable():
    if not is_usable():
        reason = "the build is for a sanitizer that Python was not started with"
        pytest.skip(reason, allow_module_level=True)


def provide():
    """Make hv importable in this process, or skip the file that calls this."""
    _require_usable()
    if not os.path.isdir(os.path.join(folder(), "hv")):
        reason = "the Python package is not built: it takes Python's development files"
        pytest.skip(reason, allow_module_level=True)
    if folder() not in sys.path:
        sys.path.insert(0, folder())


def environment(connections=(), **more):
    """The environment of a process that uses the package; skips the test if it cannot be used."""
    _require_usable()
    env = {
        "PYTHONPATH": folder(),
        "PYTHONDONTWRITEBYTECODE": "1",
        "HV_TEST_CONNECTIONS": json.dumps(list(connections)),
        **more,
    }
    if command.sanitizers():
        env["LD_PRELOAD"] = os.environ["LD_PRELOAD"]
        env["PYTHONMALLOC"] = "malloc"  # which the sanitizer checks
    return env


# -X dev checks how the package uses Python's memory, and shows where it crashed.
_DEVELOPMENT = [sys.executable, "-X", "dev"]


def _source(code):
    return PRELUDE + textwrap.dedent(code)


def run(code, connections=(), development=True, args=(), **how):
    """Run code after PRELUDE in a process of its own, with `args` in sys.argv, and return a Result,
    as command.run() does."""
    program, *options = _DEVELOPMENT if development else _DEVELOPMENT[:1]
    env = environment(connections)
    return command.run(program, *options, "-c", _source(code), *args, env=env, **how)


def run_file(path, *args, connections=(), env=None):
    """The same for a file, without PRELUDE and with more in its environment."""
    program, *options = _DEVELOPMENT
    env = environment(connections, **(env or {}))
    return command.run(program, *options, path, *args, env=env)


class Process:
    """Code after PRELUDE that runs in a process of its own: a context manager that ends it."""

    def __init__(self, code, connections=()):
        self._process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "--", *_DEVELOPMENT, "-c", _source(code)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=command.clean_environment(environment(connections)),
            cwd=scratch.root(),
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.kill()
        self._process.communicate()

    def read(self):
        """The next line of its output."""
        line = self._process.stdout.readline()
        assert line, f"it said nothing more: {self._process.stderr.read()}"
        return line.rstrip("\n")

    def write(self, line):
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def sleeps(self):
        """Wait until its main thread is waiting."""

        def asleep():
            with open(f"/proc/{self._process.pid}/stat", encoding="utf-8") as file:
                return file.read().rpartition(")")[2].split()[0] == "S"

        eventually(lambda: all(asleep() for _ in range(5)), what="it sleeps")

    def interrupt(self):
        """Send SIGINT, as Ctrl-C does."""
        self._process.send_signal(signal.SIGINT)

    def end(self, timeout=120):
        """Wait for its end: (exit code, the rest of its output, its errors)."""
        out, err = self._process.communicate(timeout=timeout)
        return self._process.returncode, out, err


# ---- fixtures ----


@pytest.fixture(scope="module")
def databases(shared_servers, tmp_path_factory):
    """Two databases with shards 1-8 and 9-16, for all tests of a file."""
    made = [server.create_database() for server in shared_servers]
    one, two = made
    place = tmp_path_factory.mktemp("store") / "hypervault.conf"
    command.make_shards(store_config(place, {"one": (one, "1-9"), "two": (two, "9-17")}), one, two)
    yield made
    for database in made:
        database.drop()


@pytest.fixture
def connections(databases):
    """The argument of Datastore() for `databases`. At the end no connection may be left."""
    one, two = databases
    yield [dict(shards="1-9", **one.params()), dict(shards="9-17", **two.params())]
    try:
        eventually(lambda: not one.clients() and not two.clients(), what="nobody is connected")
    finally:
        one.terminate_clients()
        two.terminate_clients()


@pytest.fixture
def own_connections(own_servers, own_store):
    """The argument of Datastore() for servers of the test's own."""
    one, two = own_servers
    return [dict(shards="1-9", **one.params()), dict(shards="9-17", **two.params())]


@pytest.fixture
def db(connections):
    """A Datastore on `connections`."""
    from hv.datastore import Datastore

    with Datastore(connections) as store:
        yield store


@pytest.fixture
def session(db):
    """A Session's methods, each in a call that blocks."""
    from hv import aio

    class Blocking:
        def __getattr__(self, name):
            def call(*args, **kwargs):
                async def work():
                    async with aio.Session(db) as opened:
                        return await getattr(opened, name)(*args, **kwargs)

                return asyncio.run(work())

            return call

    return Blocking()


@pytest.fixture(params=["db", "session"])
def either(request):
    """A Datastore, or a Session: they have the same methods."""
    return request.getfixturevalue(request.param)


def plain(database, **more):
    """A plain psycopg2 connection to a database, in autocommit; a `with` closes it."""
    connection = psycopg2.connect(**database.params(**more))
    connection.autocommit = True
    return contextlib.closing(connection)
