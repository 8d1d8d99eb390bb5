"""Servers whose clock the tests set.

    from harness.clock import clock  # noqa: F401

    database = make_server("one", env=clock.env).create_database("test")
    clock.set(-3600, database)
"""

import glob
import pathlib
import time

import pytest

from . import scratch

LIBFAKETIME = next(iter(glob.glob("/usr/lib/*/faketime/libfaketime.so.1")), None)


class Clock:
    """The clock of a server, which a preloaded library shifts."""

    def __init__(self):
        self._path = pathlib.Path(scratch.folder("clock-"), "offset")
        self.set(0)
        self.env = {
            "LD_PRELOAD": LIBFAKETIME,
            "FAKETIME_TIMESTAMP_FILE": str(self._path),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, seconds, database=None):
        """Set the clock so many seconds ahead of the true one, and check that the server's is."""
        new = self._path.with_suffix(".new")
        new.write_text(f"{seconds:+d}s\n", encoding="ascii")
        new.replace(self._path)
        if database is not None:
            shown = database.value("SELECT extract(epoch FROM clock_timestamp())::float8")
            assert abs(shown - time.time() - seconds) < 60


@pytest.fixture
def clock():
    if LIBFAKETIME is None:
        pytest.skip("libfaketime is not installed")
    return Clock()
