"""Where all contenders of bench/compare meet: one server with one set of data, near and far.

Writes go to shards 1 to 8, which are emptied before each run that writes, and filled with as many new
entities as it may merge into or delete; shards 9 to 16 hold the entities for gets. The keys of all
these can be computed, so that every program finds them without a list. The server's commits wait for the machine's disk (fsync, synchronous_commit). Checkpoints and
autovacuum, which could come at any moment, are kept out of the runs. "Far" is the same server
through a relay that delivers everything half a millisecond later, each way.
"""

import csv
import struct

import report  # noqa: F401 (makes the harness importable)

from harness import DelayRelay, PostgresServer, hv, store_config
from harness.installation import bindir_with_extension, why_not

DELAY = 0.0005
KIND = 7
ATTRIBUTES = {"name": "Ada Lovelace", "email": "ada@analytical.example", "beep": "boop"}
MERGED = {"beep": "bleep"}  # is set in each by merges
WRITE_SHARDS = range(1, 9)
GET_SHARDS = range(9, 17)
ENTITIES = 10_000  # in each shard that is read
FIRST_MOMENT = 1000
STEP = 15485863  # see bench/callers.c
CONNECTIONS = 10
LANES = 2
FAR_LANES = 4

SETTINGS = {
    "shared_buffers": "256MB",
    "max_wal_size": "8GB",
    "min_wal_size": "1GB",  # recycled files of the log
    "checkpoint_timeout": "1d",
    "autovacuum": "off",
    "max_connections": "200",
}


def schema(shard):
    return f"shard{shard:04d}"


def hstore_text(attributes):
    return ",".join(f'"{name}"=>"{value}"' for name, value in attributes.items())


def shards_text(shards):
    return f"{shards.start}-{shards.stop}"


class Arena:
    """The server, its data, and the settings with which contenders find them. A context manager."""

    def __init__(self, rows_to_import):
        bindir = None if why_not() else bindir_with_extension()
        self.rows_to_import = rows_to_import
        self.server = PostgresServer(
            "bench", tcp=True, fsync=True, wal_segment_mb=16, settings=SETTINGS, bindir=bindir
        )
        self.place = self.server.place

    def __enter__(self):
        self.server.start()
        try:
            self.relay = DelayRelay(self.server, DELAY)
            self._make()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        if hasattr(self, "relay"):
            self.relay.close()
        self.server.destroy()

    # ---- paths and addresses ----

    def params(self, far):
        """libpq's parameters; near means by the server's socket."""
        if far:
            return self.relay.params("bench")
        return {**self.server.socket_params(), "user": "postgres", "dbname": "bench"}

    def conninfo(self, far=False):
        """The same as a connection string, for a command line; the password is not in it."""
        params = self.params(far).items()
        return " ".join(f"{name}='{value}'" for name, value in params if name != "password")

    def environment(self):
        return {"PGPASSWORD": self.server.password}

    def config(self, far=False):
        return f"{self.place}/{'far' if far else 'near'}.conf"

    def import_config(self):
        return f"{self.place}/import.conf"

    def rows_file(self):
        return f"{self.place}/rows.csv"

    def copy_file(self, shard):
        return f"{self.place}/rows_{shard}.copy"

    # ---- setting it up ----

    def _make(self):
        self.database = self.server.create_database("bench")
        every = range(WRITE_SHARDS.start, GET_SHARDS.stop)
        for far, lanes in ((False, LANES), (True, FAR_LANES)):
            servers = {"bench": (self.params(far), shards_text(every))}
            store_config(self.config(far), servers, pool_max=CONNECTIONS, lanes=lanes)
        servers = {"bench": (self.params(False), shards_text(WRITE_SHARDS))}
        store_config(self.import_config(), servers, pool_max=CONNECTIONS)
        hv("init", config=self.config()).ok()
        self.keys = "portable" if why_not() else "strict"
        for shard in GET_SHARDS:
            self._fill(shard, ENTITIES)
        self.database.sql("VACUUM ANALYZE")
        self._write_rows()

    def _fill(self, shard, entities):
        self.database.sql(
            f"INSERT INTO {schema(shard)}.entities (id, type, body)"
            " SELECT ((%s OPERATOR(pg_catalog.+) number) OPERATOR(pg_catalog.<<) 23)"
            " OPERATOR(pg_catalog.|) %s, %s, %s::public.hstore"
            " FROM pg_catalog.generate_series(0::bigint, %s) number",
            FIRST_MOMENT,
            shard << 10,
            KIND,
            hstore_text(ATTRIBUTES),
            entities - 1,
        )

    def _write_rows(self):
        """Write the same rows as CSV for `hv import`, and as binary files, one for each shard, for
        \\copy."""
        with open(self.rows_file(), "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(ATTRIBUTES)
            writer.writerows([list(ATTRIBUTES.values())] * self.rows_to_import)
        fields = b""
        for texts in ATTRIBUTES.items():
            for text in texts:
                fields += struct.pack(">i", len(text)) + text.encode()
        body = struct.pack(">i", len(ATTRIBUTES)) + fields
        row = struct.pack(">hihi", 2, 2, KIND, len(body)) + body
        for shard in WRITE_SHARDS:
            with open(self.copy_file(shard), "wb") as file:
                file.write(b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0))
                file.write(row * (self.rows_to_import // len(WRITE_SHARDS)))
                file.write(struct.pack(">h", -1))

    # ---- around a run ----

    def refill(self, entities=0):
        """Before a run that writes: empty its tables and put so many new entities into each.

        No checkpoint is due during the run, and none comes after the tables are filled: a write to
        them is then logged as itself, and not, the first time, with the page around it."""
        tables = ", ".join(f"{schema(shard)}.entities" for shard in WRITE_SHARDS)
        self.database.sql(f"TRUNCATE {tables}")
        self.database.sql("CHECKPOINT")
        if entities > 0:
            for shard in WRITE_SHARDS:
                self._fill(shard, entities)
            self.database.sql(f"VACUUM (ANALYZE) {tables}")

    def stored(self):
        """Count the entities that are there since then: (as they were put, as they are after a
        merge). Fail if one of them is neither."""
        totals = [0, 0]
        good = (
            "pg_catalog.count(*) FILTER (WHERE"
            " (id OPERATOR(pg_catalog.>>) 10) OPERATOR(pg_catalog.&) 8191"
            " OPERATOR(pg_catalog.=) %s AND type OPERATOR(pg_catalog.=) %s"
            " AND body OPERATOR(public.=) %s::public.hstore)"
        )
        for shard in WRITE_SHARDS:
            count, *found = self.database.query(
                f"SELECT pg_catalog.count(*), {good}, {good} FROM {schema(shard)}.entities",
                *(shard, KIND, hstore_text(ATTRIBUTES)),
                *(shard, KIND, hstore_text(ATTRIBUTES | MERGED)),
            )[0]
            if count != sum(found):
                raise RuntimeError(f"{count - sum(found)} entities of shard {shard} are not as put")
            totals = [total + each for total, each in zip(totals, found)]
        return tuple(totals)
