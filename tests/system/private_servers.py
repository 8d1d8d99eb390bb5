"""For the tests of `hv dev`: a folder for private servers, and functions that look at them.

Import the fixtures too: from private_servers import folder, place, standing
"""

import contextlib
import os
import pathlib

import psycopg2
import pytest

from harness import eventually, hv, scratch
from harness.server import binaries

ROOT = os.geteuid() == 0
needs_root = pytest.mark.skipif(not ROOT, reason="only root chooses the servers' user")
LITTLE = ("--servers", 1, "--shards", 1)  # is made faster
MARKER = "hypervault-dev.json"


def dev(command, folder, *args, **how):
    return hv("dev", command, "--dir", folder, *args, **how)


def servers_of(folder):
    """The entry of each server in `hv dev status`."""
    result = dev("status", folder, "--json")
    assert result.code in (0, 1), result
    return result.json()["servers"]


def config_of(folder):
    return os.path.join(folder, "hypervault.conf")


def postmasters(folder):
    """The processes that work in the folder, by their working directories."""
    found = []
    for entry in os.scandir("/proc"):
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and os.readlink(f"{entry.path}/cwd").startswith(f"{folder}/"):
                found.append(int(entry.name))
    return found


def listening(pid):
    """The TCP addresses that a process listens on."""
    sockets = set()
    for entry in os.scandir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            sockets.add(os.readlink(entry.path))
    found = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for line in pathlib.Path(table).read_text().splitlines()[1:]:
                words = line.split()
                if words[3] == "0A" and f"socket:[{words[9]}]" in sockets:
                    address, port = words[1].split(":")
                    found.append((address, int(port, 16)))
    return found


@contextlib.contextmanager
def connect(folder, number=0, **more):
    server = servers_of(folder)[number]
    params = {"host": server["host"], "port": server["port"], "user": "hypervault"}
    connection = psycopg2.connect(dbname="hypervault", **{**params, **more})
    with contextlib.closing(connection):
        yield connection


def fake_postgres(place, initdb):
    """A pg_config of a PostgreSQL whose initdb is this shell script."""
    bindir = pathlib.Path(place, "bin")
    bindir.mkdir()
    for program in ("pg_ctl", "postgres", "psql"):
        bindir.joinpath(program).symlink_to(os.path.join(binaries(), program))
    for name, script in (("initdb", initdb), ("pg_config", f"echo '{bindir}'")):
        path = bindir / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
    bindir.chmod(0o755)
    return str(bindir / "pg_config")


@pytest.fixture
def place():
    """A folder that the servers' user may enter and where anybody may make folders, as in /tmp."""
    path = scratch.folder("dev-")
    os.chmod(path, 0o1777)
    yield path
    for marker in list(pathlib.Path(path).rglob(MARKER)):
        dev("destroy", marker.parent, "--yes")
    eventually(lambda: not postmasters(path), what="no process is left")


@pytest.fixture
def folder(place):
    """The folder for a test's servers, which are destroyed after it."""
    return os.path.join(place, "d")


@pytest.fixture(scope="module")
def standing():
    """Two servers as `hv dev up` makes them without options, for tests that change nothing."""
    place = scratch.folder("dev-")
    os.chmod(place, 0o1777)
    path = os.path.join(place, "standing")
    result = dev("up", path)
    yield path, result
    dev("destroy", path, "--yes").ok()
