"""A disk that fills: a small file system in memory, where the tests may mount one.

    with small_disk(24) as disk:       # megabytes; skips the test if nothing can be mounted
        database = disk.database(server)
        ...
        disk.grow(200)
"""

import contextlib
import os
import secrets
import subprocess

import pytest

from . import scratch
from .server import own


class SmallDisk:
    def __init__(self, place):
        self.place = place

    def grow(self, megabytes):
        subprocess.run(["mount", "-o", f"remount,size={megabytes}m", self.place], check=True)

    def fill(self):
        """Leave no room on it; returns the file to be removed."""
        path = os.path.join(self.place, "filler")
        with open(path, "wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(b"x" * 4096)
        return path

    def folder(self, name):
        path = os.path.join(self.place, name)
        os.mkdir(path, 0o700)
        own(path)
        return path

    def database(self, server):
        """A database whose tables and indexes are on it; the server's WAL is not."""
        name = f"small_{secrets.token_hex(4)}"
        server.sql(f"CREATE TABLESPACE {name} LOCATION '{self.folder(name)}'")
        return server.create_database(name, more=f"TABLESPACE {name}")


@contextlib.contextmanager
def small_disk(megabytes):
    place = scratch.folder("disk-")
    try:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0711", "tmpfs", place],
            capture_output=True,
            text=True,
            check=False,
        )
        why = done.stderr.strip()
    except OSError as error:
        why = str(error)
    else:
        why = why if done.returncode != 0 else None
    if why is not None:
        pytest.skip(f"nothing can be mounted here: {why}")
    try:
        own(place)
        yield SmallDisk(place)
    finally:
        subprocess.run(["umount", "--lazy", place], check=False)
