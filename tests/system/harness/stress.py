"""Runs store_stress, a program with many threads, and checks what it reports.

    run = stress(config, threads=64)      # the fixture ends it in any case
    run.flows(databases, ONE)
    puts = run.finish()
    one, two = check(puts, databases)     # how many puts of each status, by server
"""

import collections
import os
import threading
import time

import pytest

from .command import spawn
from .wait import eventually

ONE, TWO = 0, 1
THREADS = 16
SECONDS = float(os.environ.get("HV_TEST_SECONDS", "1"))  # of traffic, once it flows
Put = collections.namedtuple("Put", "writer number shard status key ended")

# Long, because a busy machine may make a healthy server slow.
POOL_MAX, OPERATION_TIMEOUT = 4, 15


class Stress:
    """A running store_stress. finish() ends it and checks what can be checked without a server."""

    def __init__(
        self,
        config,
        operation_timeout=OPERATION_TIMEOUT,
        threads=THREADS,
        writers=0,
        ways="put",
        **options,
    ):
        self.operation_timeout = operation_timeout
        options = {
            "pool_max": POOL_MAX,
            "pool_block_timeout": f"{operation_timeout * 2 / 3}s",
            "operation_timeout": f"{operation_timeout}s",
            **options,
        }
        options.update(writers=writers, ways=ways)
        texts = [f"{name}={value}" for name, value in options.items()]
        self.process = spawn("store_stress", config, threads, 1, 17, *texts)
        self.output = None
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def _read(self):
        self.output = self.process.stdout.read().decode("utf-8")

    def finish(self):
        self.process.stdin.close()
        self.reader.join()
        errors = self.process.stderr.read().decode("utf-8")
        code = self.process.wait(60)
        self.process.stdout.close()
        self.process.stderr.close()
        lines = self.output.splitlines()
        assert (code, errors) == (0, ""), f"ended with {code}: {errors} {lines[-1:]}"
        slowest = int(lines.pop().removeprefix("slowest "))
        # The wait for a connection is part of an operation's time; the rest is the machine's.
        assert slowest <= (self.operation_timeout + 15) * 1000
        puts = []
        for line in lines:
            writer, number, shard, status, key, ended = line.split()
            puts.append(Put(int(writer), int(number), int(shard), status, int(key), int(ended)))
        return puts

    def flows(self, databases, server, count=3 * THREADS):
        """Wait until this many more entities are on that server: a few may have been in flight."""
        goal = stored(databases, server) + count

        def enough():
            if self.process.poll() is not None:
                self.reader.join()
                raise RuntimeError(f"it has ended: {self.output.splitlines()[-1:]}")
            return stored(databases, server) >= goal

        eventually(enough, what="puts are done")

    @staticmethod
    def now():
        """By the program's clock, CLOCK_MONOTONIC, in milliseconds."""
        return time.monotonic() * 1000


@pytest.fixture
def stress():
    running = []

    def start(config, **options):
        running.append(Stress(config, **options))
        return running[-1]

    yield start
    for one in running:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait()


def stored(databases, server):
    """The number of entities on one of the servers."""
    shards = range(1, 9) if server == ONE else range(9, 17)
    counts = (f"(SELECT count(*) FROM shard{shard:04}.entities)" for shard in shards)
    return databases[server].value(f"SELECT {' + '.join(counts)}")


def pause(seconds):
    """Let traffic flow; nothing depends on how much."""
    threading.Event().wait(seconds)


def check(puts, databases):
    """Every acknowledged put is there under its key, every other only if its outcome was unknown,
    and none twice. Returns how many there were of each status, by server."""
    by_number = {(put.writer, put.number): put for put in puts}
    assert len(by_number) == len(puts)
    there = {}
    for shard in range(1, 17):
        database = databases[ONE] if shard < 9 else databases[TWO]
        for key, kind, writer, number in database.query(
            f"SELECT id, type, (body->'writer')::int, (body->'number')::int"
            f" FROM shard{shard:04}.entities"
        ):
            assert (writer, number) not in there, "stored twice"
            put = there[writer, number] = by_number[writer, number]
            assert put.status in ("HV_OK", "HV_OUTCOME_UNKNOWN"), f"reported as failed: {put}"
            assert put.shard == shard
            assert kind == number % 1000
            assert put.status != "HV_OK" or put.key in (key, 0)
    for name, put in by_number.items():
        assert put.status != "HV_OK" or name in there, f"lost: {put}"
    return [
        collections.Counter(put.status for put in puts if (put.shard < 9) == (server == ONE))
        for server in (ONE, TWO)
    ]
