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

from arena import (
    ATTRIBUTES,
    CONNECTIONS,
    ENTITIES,
    FIRST_MOMENT,
    GET_SHARDS,
    KIND,
    MERGED,
    STEP,
    WRITE_SHARDS,
    hstore_text,
    schema,
)
from harness import build_dir, run
from harness.server import binaries, environment

GO_PACKAGES = "/usr/share/gocode"  # where Debian installs Go's

# By verb: what an operation adds to the number of entities as they were put, and of merged ones.
WRITES = {"put": (1, 0), "merge": (-1, 1), "delete": (-1, 0)}
CHANGES = ("merge", "delete")  # each of these takes an entity that is there, once

# How many entities these find for each second, one by one and many at once: more than they take.
FRESH = 100_000
FRESH_FOR_MANY = 300_000


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


def client_cpu():
    """The CPU time of all programs that we have started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def server_cpu(server):
    """The CPU time of the server's processes, including those that have ended."""
    ticks = 0
    for pid in server.processes():
        with contextlib.suppress(OSError):
            words = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(map(int, words[11:15] if pid == server.pid else words[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")


class Runs:
    """Runs on one arena, of `seconds` each unless another time is given, and of half of that where
    entities must be made before."""

    def __init__(self, arena, seconds):
        self.arena = arena
        self.seconds = seconds
        self._written = {}  # the scripts for pgbench: see _scripts()
        self._pgxpool = None

    def _measure(self, work, verb, fresh=0):
        """Run `work`, which returns (operations in all, per second). If it writes, it gets shards
        with `fresh` entities each, and what it has done must be seen in them afterwards."""
        if verb in WRITES:
            self.arena.refill(fresh)
        client, server = client_cpu(), server_cpu(self.arena.server)
        operations, per_second = work()
        client, server = client_cpu() - client, server_cpu(self.arena.server) - server
        if verb in WRITES:
            before = fresh * len(WRITE_SHARDS)
            put, merged = (each * operations for each in WRITES[verb])
            expected, found = (before + put, merged), self.arena.stored()
            if found != expected:
                raise RuntimeError(
                    f"{operations} of {verb} were counted with {before} entities: {found[0]} as put"
                    f" and {found[1]} merged are there, not {expected[0]} and {expected[1]}"
                )
        return Result(operations, per_second, client, server)

    def _seconds(self, verb):
        """How long a run of the usual length is."""
        return self.seconds / 2 if verb in CHANGES else self.seconds

    def _pgbench_seconds(self, verb):
        return max(1, round(self._seconds(verb)))

    def _fresh(self, verb, many=False):
        """How many entities each shard has at first in a run that writes: enough for the warm-up,
        too, which is a fifth of it."""
        if verb not in CHANGES:
            return 0
        seconds, rate = self._pgbench_seconds(verb), FRESH
        if many:
            seconds, rate = self._seconds(verb), FRESH_FOR_MANY
        return round(rate * seconds * 1.2 / len(WRITE_SHARDS))

    # ---- programs that call from many threads ----

    def callers(self, contender, verb, callers, batch=1, far=False, length=1, build=None):
        """libhypervault and libpq: a run of `callers` threads, `length` times as long as usual; see
        bench/callers.c. `build`: the folder of another build than that under test."""
        command = [(build or build_dir()) / "bench" / "callers"]
        return self._callers(command, contender, verb, callers, batch, far, length)

    def can(self, build, verb):
        """Whether the program of this build, which may be an older one, knows the verb."""
        usage = run(build / "bench" / "callers").err
        return verb in re.search(r"CONTENDER (\S+)", usage).group(1).split("|")

    def python_callers(self, contender, verb, callers, batch=1, far=False):
        """The package hv and psycopg2: see bench/python_callers.py."""
        command = [sys.executable, report.ROOT / "bench" / "python_callers.py"]
        return self._callers(command, contender, verb, callers, batch, far)

    def _callers(self, command, contender, verb, callers, batch, far, length=1):
        shards = GET_SHARDS if verb == "get" else WRITE_SHARDS
        fresh = self._fresh(verb, many=batch > 1)
        settings = {
            "callers": callers,
            "connections": CONNECTIONS,
            "batch": batch,
            "seconds": self._seconds(verb) * length,
            "config": self.arena.config(far),
            "server": self.arena.conninfo(far),
            "first_shard": shards.start,
            "shard_count": len(shards),
            "first_moment": FIRST_MOMENT,
            "entities_of_shard": fresh or ENTITIES,
        }
        arguments = [f"{name}={value}" for name, value in settings.items()]
        env = {**self.arena.environment(), "PYTHONPATH": str(build_dir() / "python")}

        def work():
            found = run(*command, contender, verb, *arguments, env=env).ok().json()
            return found["operations"], found["per_second"]

        return self._measure(work, verb, fresh)

    # ---- pgbench ----

    def _scripts(self, verb):
        """pgbench's arguments: a script for each shard, chosen at random."""
        if verb not in self._written:
            script, self._written[verb] = self._script(verb), []
            for shard in GET_SHARDS if verb == "get" else WRITE_SHARDS:
                path = pathlib.Path(self.arena.place) / f"{verb}_{shard}.sql"
                path.write_text(
                    script.replace("SCHEMA", schema(shard)).replace("SHARD", str(shard))
                )
                self._written[verb] += [f"--define=taken_{shard}=0", "-f", path]
        return self._written[verb]

    def _script(self, verb):
        """For the shard SHARD in the schema SCHEMA."""
        key = f"\\set key ({FIRST_MOMENT} + :number) * {1 << 23} + SHARD * {1 << 10}\n"
        if verb == "put":
            return "INSERT INTO SCHEMA.entities (type, body) VALUES (:kind, :body) RETURNING id;\n"
        if verb == "get":
            return (
                f"\\set number random(0, {ENTITIES - 1})\n{key}"
                "SELECT id, type, body FROM SCHEMA.entities"
                " WHERE id OPERATOR(pg_catalog.=) :key;\n"
            )
        # Each client takes its own share of a shard's entities, as a thread of callers.c does.
        return (
            f"\\set number (:taken_SHARD * :clients + :client_id) * {STEP} % :fresh\n"
            f"\\set taken_SHARD :taken_SHARD + 1\n{key}{self._sent(verb)};\n"
        )

    def _sent(self, verb):
        """The statement that hypervault sends for one change, taken from the server's log."""
        shard, entities = WRITE_SHARDS.start, 1000
        name = self.arena.database.dbname
        command = [build_dir() / "bench" / "callers", "hv", verb, f"config={self.arena.config()}"]
        command += [f"first_shard={shard}", f"first_moment={FIRST_MOMENT}"]
        command += [f"entities_of_shard={entities}", "seconds=0"]
        self.arena.refill(entities)
        self.arena.database.sql(f"ALTER DATABASE {name} SET log_statement TO 'all'")
        since = self.arena.server.log_size()
        run(*command, env=self.arena.environment()).ok()
        self.arena.database.sql(f"ALTER DATABASE {name} RESET log_statement")
        pattern = rf"execute \w+: (.*\b{schema(shard)}\.entities\b.*)"
        sent = re.search(pattern, self.arena.server.log_text(since)).group(1)
        for number, variable in enumerate(("key", "merged", "removed"), start=1):
            sent = sent.replace(f"${number}", f":{variable}")
        return sent.replace(schema(shard), "SCHEMA")

    def pgbench(self, verb, clients):
        params = self.arena.params(far=False)
        fresh = self._fresh(verb)
        command = ["pgbench", "--no-vacuum", "--protocol=prepared", f"--client={clients}"]
        command += [f"--jobs={min(clients, os.cpu_count())}", f"--time={self._pgbench_seconds(verb)}"]
        command += [f"--define=kind={KIND}", f"--define=body={hstore_text(ATTRIBUTES)}"]
        command += [f"--define=merged={hstore_text(MERGED)}", "--define=removed= "]
        command += [f"--define=clients={clients}", f"--define=fresh={fresh}", *self._scripts(verb)]
        command += [f"--host={params['host']}", f"--port={params['port']}"]
        command += [f"--username={params['user']}", params["dbname"]]

        def work():
            done = run(os.path.join(binaries(), command[0]), *command[1:]).ok()
            processed = re.search(r"transactions actually processed: (\d+)", done.out)
            per_second = re.search(r"tps = ([\d.]+) \(without initial", done.out)
            return int(processed.group(1)), float(per_second.group(1))

        return self._measure(work, verb, fresh)

    # ---- files ----

    def _import(self, command, *arguments, **how):
        def work():
            start = time.perf_counter()
            run(command, *arguments, **how).ok()
            rows = self.arena.rows_to_import
            return rows, rows / (time.perf_counter() - start)

        return self._measure(work, "put")

    def hv_import(self, build=None):
        hv = (build or build_dir()) / "cli" / "hv"
        arguments = ["import", self.arena.rows_file(), f"--kind={KIND}", "--again"]
        return self._import(hv, *arguments, config=self.arena.import_config())

    def copy(self):
        script = "".join(
            f"\\copy {schema(shard)}.entities (type, body)"
            f" from '{self.arena.copy_file(shard)}' (format binary)\n"
            for shard in WRITE_SHARDS
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

        return self._measure(work, "borrow")
