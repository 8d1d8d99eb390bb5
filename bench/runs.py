"""The runs of the benchmarks: each starts a program that works for some seconds, checks that it did
what it claims, and reports how fast that was and what it cost."""

import contextlib
import dataclasses
import os
import pathlib
import re
import resource
import shutil
import statistics
import subprocess
import sys
import time

import report

from arena import ATTRIBUTES, CONNECTIONS, ENTITIES, FIRST_MOMENT, GET_SHARDS, KIND, PUT_SHARDS
from harness import build_dir, run
from harness.server import binaries, environment

GO_PACKAGES = "/usr/share/gocode"  # where Debian installs Go's


@dataclasses.dataclass
class Result:
    """The result of a run. The CPU times are that of the whole program, including its start, and
    that of all processes of the server meanwhile."""

    operations: int
    per_second: float
    client_cpu: float = 0.0  # seconds
    server_cpu: float = 0.0


def mean(results):
    """Combine several runs of the same length into one Result."""
    return Result(
        sum(each.operations for each in results),
        statistics.mean(each.per_second for each in results),
        sum(each.client_cpu for each in results),
        sum(each.server_cpu for each in results),
    )


def _client_cpu():
    """The CPU time of all programs that we have started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _server_cpu(server):
    """The CPU time of the server's processes, including those that have ended."""
    ticks = 0
    for pid in server.processes():
        with contextlib.suppress(OSError):
            words = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(map(int, words[11:15] if pid == server.pid else words[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")


class Runs:
    """Runs on one arena, of `seconds` each unless another time is given."""

    def __init__(self, arena, seconds):
        self.arena = arena
        self.seconds = seconds
        self._scripts = self._write_scripts()
        self._pgxpool = None

    def _measure(self, work, puts):
        """Run `work`, which returns (operations in all, per second). If it puts, it gets empty
        shards, and the rows must be there afterwards."""
        if puts:
            self.arena.empty()
        client, server = _client_cpu(), _server_cpu(self.arena.server)
        operations, per_second = work()
        client, server = _client_cpu() - client, _server_cpu(self.arena.server) - server
        stored = self.arena.stored() if puts else operations
        if stored != operations:
            raise RuntimeError(f"{operations} puts were counted, and {stored} entities are there")
        return Result(operations, per_second, client, server)

    # ---- programs that call from many threads ----

    def callers(self, contender, verb, callers, batch=1, far=False, length=1, build=None):
        """libhypervault and libpq: a run of `callers` threads, `length` times as long as usual; see
        bench/callers.c. `build`: the folder of another build than that under test."""
        command = [(build or build_dir()) / "bench" / "callers"]
        return self._callers(command, contender, verb, callers, batch, far, length)

    def python_callers(self, contender, verb, callers, batch=1, far=False):
        """The package hv and psycopg2: see bench/python_callers.py."""
        command = [sys.executable, report.ROOT / "bench" / "python_callers.py"]
        return self._callers(command, contender, verb, callers, batch, far)

    def _callers(self, command, contender, verb, callers, batch, far, length=1):
        shards = GET_SHARDS if verb == "get" else PUT_SHARDS
        settings = {
            "callers": callers,
            "connections": CONNECTIONS,
            "batch": batch,
            "seconds": self.seconds * length,
            "config": self.arena.config(far),
            "server": self.arena.conninfo(far),
            "first_shard": shards.start,
            "shard_count": len(shards),
            "first_moment": FIRST_MOMENT,
            "entities_of_shard": ENTITIES,
        }
        arguments = [f"{name}={value}" for name, value in settings.items()]
        env = {**self.arena.environment(), "PYTHONPATH": str(build_dir() / "python")}

        def work():
            found = run(*command, contender, verb, *arguments, env=env).ok().json()
            return found["operations"], found["per_second"]

        return self._measure(work, puts=verb == "put")

    # ---- pgbench ----

    def _write_scripts(self):
        """{verb: pgbench's arguments}: a script for each shard, chosen at random."""
        folder = pathlib.Path(self.arena.place)
        found = {"put": [], "get": []}
        for shard in PUT_SHARDS:
            path = folder / f"put_{shard}.sql"
            path.write_text(
                f"INSERT INTO shard{shard:04d}.entities (type, body) VALUES (:kind, :body)"
                " RETURNING id;\n"
            )
            found["put"] += ["-f", path]
        for shard in GET_SHARDS:
            path = folder / f"get_{shard}.sql"
            path.write_text(
                f"\\set key ({FIRST_MOMENT} + random(0, {ENTITIES - 1})) * {1 << 23}"
                f" + {shard << 10}\n"
                f"SELECT id, type, body FROM shard{shard:04d}.entities"
                " WHERE id OPERATOR(pg_catalog.=) :key;\n"
            )
            found["get"] += ["-f", path]
        return found

    def pgbench(self, verb, clients):
        params = self.arena.params(far=False)
        body = ",".join(f'"{name}"=>"{value}"' for name, value in ATTRIBUTES.items())
        command = ["pgbench", "--no-vacuum", "--protocol=prepared", f"--client={clients}"]
        command += [f"--jobs={min(clients, os.cpu_count())}", f"--time={max(1, self.seconds):.0f}"]
        command += [f"--define=kind={KIND}", f"--define=body={body}", *self._scripts[verb]]
        command += [f"--host={params['host']}", f"--port={params['port']}"]
        command += [f"--username={params['user']}", params["dbname"]]

        def work():
            done = run(os.path.join(binaries(), command[0]), *command[1:]).ok()
            processed = re.search(r"transactions actually processed: (\d+)", done.out)
            per_second = re.search(r"tps = ([\d.]+) \(without initial", done.out)
            return int(processed.group(1)), float(per_second.group(1))

        return self._measure(work, puts=verb == "put")

    # ---- files ----

    def _import(self, command, *arguments, **how):
        def work():
            start = time.perf_counter()
            run(command, *arguments, **how).ok()
            rows = self.arena.rows_to_import
            return rows, rows / (time.perf_counter() - start)

        return self._measure(work, puts=True)

    def hv_import(self, build=None):
        hv = (build or build_dir()) / "cli" / "hv"
        arguments = ["import", self.arena.rows_file(), f"--kind={KIND}", "--again"]
        return self._import(hv, *arguments, config=self.arena.import_config())

    def copy(self):
        script = "".join(
            f"\\copy shard{shard:04d}.entities (type, body)"
            f" from '{self.arena.copy_file(shard)}' (format binary)\n"
            for shard in PUT_SHARDS
        )
        arguments = ["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", self.arena.conninfo()]
        return self._import(os.path.join(binaries(), "psql"), *arguments, input=script)

    # ---- pgxpool ----

    def why_no_pgxpool(self):
        """Build the program; return why that is impossible, or None."""
        if shutil.which("go") is None:
            return "there is no Go here (Debian's package golang-go)"
        if not os.path.isdir(f"{GO_PACKAGES}/src/github.com/jackc/pgx/v4/pgxpool"):
            return "there is no pgx here (Debian's package golang-github-jackc-pgx-v4-dev)"
        built = build_dir() / "bench" / "pgxpool"
        done = subprocess.run(
            ["go", "build", "-o", built, report.ROOT / "bench/pgxpool/main.go"],
            env={
                **environment(),
                "GO111MODULE": "off",
                "GOPATH": GO_PACKAGES,
                "GOCACHE": str(build_dir() / "bench" / "go-cache"),
            },
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            return f"the Go program does not build: {done.stderr.strip()}"
        self._pgxpool = built
        return None

    def pgxpool(self, goroutines):
        arguments = [goroutines, CONNECTIONS, self.seconds, self.arena.conninfo()]

        def work():
            result = run(self._pgxpool, *arguments).ok().json()
            return result["operations"], result["per_second"]

        return self._measure(work, puts=False)
