"""Indexes and migrations on many shards under traffic: nobody waits long, and one shard that cannot be
changed is named while the others are done.

$HV_TEST_SHARDS is the number of shards (256 for the real size), $HV_TEST_ROWS that of entities in each,
$HV_TEST_RATE that of operations a second. `pytest -s` shows the latencies.
"""

import contextlib
import json
import os
import signal

import pytest

from harness import eventually, hv, make_shards, spawn, store_config
from harness.command import TIMEOUT

pytestmark = pytest.mark.plain

SHARDS = int(os.environ.get("HV_TEST_SHARDS", "32"))
ROWS = int(os.environ.get("HV_TEST_ROWS", "300"))
RATE = int(os.environ.get("HV_TEST_RATE", "400"))
CALLERS = 32
KIND = 32767  # that of the traffic
LIMIT = 300  # ms

LOCKED = 5  # the shard with the long transaction

COLUMN = "ALTER TABLE @shard.entities ADD COLUMN score bigint NOT NULL DEFAULT 7;\n"
CONCURRENTLY = (
    "-- hv: no-transaction\n"
    "CREATE INDEX CONCURRENTLY entities_score ON @shard.entities (score);\n"
    "ANALYZE @shard.entities;\n"
)
CHECK = "ALTER TABLE @shard.entities ADD CONSTRAINT few CHECK (score < 1000) NOT VALID;\n"


def schema(shard):
    return f"shard{shard:04}"


class Hall:
    """A store on two servers of its own: even and odd halves of its shards."""

    def __init__(self, databases, folder):
        self.databases = databases
        middle = SHARDS // 2 + 1
        self.parts = range(1, middle), range(middle, SHARDS + 1)
        self.config = store_config(
            folder / "traffic.conf",
            {
                name: (database, f"{shards.start}-{shards.stop}")
                for name, database, shards in zip(("one", "two"), databases, self.parts)
            },
            pool_max=CALLERS,
        )
        make_shards(self.config, *databases)
        for database, shards in zip(databases, self.parts):
            for shard in shards:
                database.sql(
                    f"INSERT INTO {schema(shard)}.entities (id, type, body)"
                    f" SELECT n << 23 | {shard << 10}, 1, hstore('user', (n % 50)::text)"
                    f" FROM generate_series(1000::bigint, {999 + ROWS}) n"
                )
            database.sql("ANALYZE")

    def stored(self):
        """The number of the traffic's entities."""
        return sum(
            database.value(
                "SELECT sum(n) FROM ("
                + " UNION ALL ".join(
                    f"SELECT count(*) AS n FROM {schema(shard)}.entities WHERE type = {KIND}"
                    for shard in shards
                )
                + ") counts"
            )
            for database, shards in zip(self.databases, self.parts)
        )

    def find(self, sql):
        """The shards for which the SQL, with "@shard" for the schema, is true."""
        return [
            shard
            for database, shards in zip(self.databases, self.parts)
            for shard in shards
            if database.value(sql.replace("@shard", schema(shard)))
        ]


@pytest.fixture
def hall(make_server, tmp_path):
    settings = {"max_connections": "200", "shared_buffers": "128MB", "max_wal_size": "1GB"}
    databases = [
        make_server(name, settings=settings).create_database("test") for name in ("one", "two")
    ]
    return Hall(databases, tmp_path)


class Traffic:
    """Callers that put and get at a steady rate, as a context manager. Latencies count from the
    moment at which an operation is due, so that all who wait behind a lock are counted."""

    def __init__(self, hall):
        self.hall = hall
        self.report = None

    def __enter__(self):
        before = self.hall.stored()
        options = {"callers": CALLERS, "rate": RATE, "mix": 30, "entities": 100, "seconds": 3600}
        words = [f"--{name}={value}" for name, value in options.items()]
        self.process = spawn(
            "hv", "bench", "mix", "--keep", "--warmup=1", "--json", *words, config=self.hall.config
        )
        # Most of them are puts, so this many are there only after the warm-up.
        eventually(lambda: self.hall.stored() >= before + 100 + RATE, what="traffic flows")
        self._before = before
        return self

    def __exit__(self, kind, *_):
        self.process.send_signal(signal.SIGINT)
        out, err = self.process.communicate(timeout=TIMEOUT)
        if kind is None:
            self.report = json.loads(out)
            assert (self.report["failed"], self.report["outcome_unknown"]) == (0, 0), err.decode()
            assert self.hall.stored() == self._before + self.report["stored"]  # nothing is lost

    def latency(self, percentile):
        """In ms, of the verb for which it is the longest."""
        return max(self.report["latency_ns"][verb][percentile] for verb in ("put", "get")) / 1e6


def quiet(hall):
    """The traffic alone."""
    with Traffic(hall) as alone:
        goal = hall.stored() + 3 * RATE
        eventually(lambda: hall.stored() >= goal, what="traffic flows")
    return alone


def limit(alone):
    """How long a writer may wait. A machine that is busy with other things delays writers without
    any rollout: the small form of this test adds what it did before."""
    noise = alone.latency("max")
    if SHARDS >= 256 or noise < 50:
        return LIMIT
    print(f"the machine is slow: {noise:.0f} ms without a rollout are added to the limit")
    return LIMIT + noise


def show(name, traffic):
    median, most_but_one, most = (traffic.latency(each) for each in ("p50", "p99", "max"))
    print(
        f"{name:<28} p50 {median:6.1f} ms  p99 {most_but_one:6.1f} ms  max {most:6.1f} ms"
        f"  {traffic.report['succeeded']:,} operations"
    )


@contextlib.contextmanager
def long_transaction(hall, shard):
    """A transaction that has read the table of a shard, and stays open."""
    (database,) = (found for found, part in zip(hall.databases, hall.parts) if shard in part)
    with database.connect(application_name="a long report") as connection:
        connection.autocommit = False
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT count(*) FROM {schema(shard)}.entities")
            yield connection.info.backend_pid


def test_nobody_waits_long_and_one_locked_shard_does_not_stop_the_others(hall, tmp_path):
    files = tmp_path / "migrations"
    files.mkdir()
    (files / "0001_add_score.sql").write_text(COLUMN)
    (files / "0002_index_score.sql").write_text(CONCURRENTLY)
    print()
    alone = quiet(hall)
    show("before", alone)
    during = {}

    with Traffic(hall) as during["an index"]:
        made = hv("index", "create", "user", "--json", config=hall.config).ok().json()
    assert (made["done"], made["shards"]) == (SHARDS, SHARDS)

    with Traffic(hall) as during["a column, an index"]:
        migrated = hv("migrate", files, "--json", config=hall.config).ok().json()
    assert (migrated["done"], migrated["shards"]) == (SHARDS, SHARDS)

    (files / "0003_few.sql").write_text(CHECK)
    more = ["--max-failures=1", "--max-wait=3s", "--json"]
    with Traffic(hall) as during["a constraint, one locked"]:
        with long_transaction(hall, LOCKED) as pid:
            partly = hv("migrate", files, *more, config=hall.config)
    assert partly.code == 5
    found = partly.json()
    (failure,) = found["failures"]
    assert failure["shards"] == str(LOCKED)
    assert f"process {pid}" in json.dumps(failure["error"])
    assert "a long report" in json.dumps(failure["error"])
    assert (found["done"], found["failed"], found["not_begun"]) == (SHARDS - 1, 1, 0)

    has_constraint = (
        "SELECT count(*) FROM pg_constraint WHERE conname = 'few'"
        " AND conrelid = '@shard.entities'::regclass"
    )
    assert hall.find(has_constraint) == [n for n in range(1, SHARDS + 1) if n != LOCKED]
    again = hv("migrate", files, "--json", config=hall.config).ok().json()
    assert (again["done"], again["unchanged"]) == (1, SHARDS - 1)
    assert len(hall.find(has_constraint)) == SHARDS
    assert hv("schema", "check", "--json", config=hall.config).ok().json()["alike"]
    is_valid = (
        "SELECT count(*) = 3 AND bool_and(indisvalid) FROM pg_index"
        " WHERE indrelid = '@shard.entities'::regclass"
    )
    assert len(hall.find(is_valid)) == SHARDS

    for name, traffic in during.items():
        show(name, traffic)
    most = limit(alone)
    for name, traffic in during.items():
        assert traffic.latency("max") <= most, name
