"""Where all contenders of bench/compare meet: one server with one set of data, near and far.

Puts go to shards 1 to 8, which are emptied before each run that puts; shards 9 to 16 hold the
entities for gets, whose keys can be computed, so that every program finds them without a list. The
server's commits wait for the machine's disk (fsync, synchronous_commit). Checkpoints and
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
PUT_SHARDS = range(1, 9)
GET_SHARDS = range(9, 17)
ENTITIES = 10_000  # in each shard that is read
FIRST_MOMENT = 1000
CONNECTIONS = 10
LANES = 2
FAR_LANES = 4

_SETTINGS = {
    "shared_buffers": "256MB",
    "max_wal_size": "8GB",
    "min_wal_size": "1GB",  # recycled files of the log
    "checkpoint_timeout": "1d",
    "autovacuum": "off",
    "max_connections": "200",
}


def shards_text(shards):
    return f"{shards.start}-{shards.stop}"


class Arena:
    """The server, its data, and the settings with which contenders find them. A context manager."""

    def __init__(self, rows_to_import):
        bindir = None if why_not() else bindir_with_extension()
        self.rows_to_import = rows_to_import
        self.server = PostgresServer(
            "bench", tcp=True, fsync=True, wal_segment_mb=16, settings=_SETTINGS, bindir=bindir
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
        every = range(PUT_SHARDS.start, GET_SHARDS.stop)
        for far, lanes in ((False, LANES), (True, FAR_LANES)):
            servers = {"bench": (self.params(far), shards_text(every))}
            store_config(self.config(far), servers, pool_max=CONNECTIONS, lanes=lanes)
        servers = {"bench": (self.params(False), shards_text(PUT_SHARDS))}
        store_config(self.import_config(), servers, pool_max=CONNECTIONS)
        hv("init", config=self.config()).ok()
        self.keys = "portable" if why_not() else "strict"
        for shard in GET_SHARDS:
            self.database.sql(
                f"INSERT INTO shard{shard:04d}.entities (id, type, body)"
                " SELECT ((%s OPERATOR(pg_catalog.+) number) OPERATOR(pg_catalog.<<) 23)"
                " OPERATOR(pg_catalog.|) %s, %s, "
                " public.hstore(%s::pg_catalog.text[], %s::pg_catalog.text[])"
                " FROM pg_catalog.generate_series(0::bigint, %s) number",
                FIRST_MOMENT,
                shard << 10,
                KIND,
                list(ATTRIBUTES),
                list(ATTRIBUTES.values()),
                ENTITIES - 1,
            )
        self.database.sql("VACUUM ANALYZE")
        self._write_rows()

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
        for shard in PUT_SHARDS:
            with open(self.copy_file(shard), "wb") as file:
                file.write(b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0))
                file.write(row * (self.rows_to_import // len(PUT_SHARDS)))
                file.write(struct.pack(">h", -1))

    # ---- around a run ----

    def empty(self):
        """Before a run that puts: give it empty tables and make sure that no checkpoint is due."""
        tables = ", ".join(f"shard{shard:04d}.entities" for shard in PUT_SHARDS)
        self.database.sql(f"TRUNCATE {tables}")
        self.database.sql("CHECKPOINT")

    def stored(self):
        """Count the entities put since then; fail if one of them is not as it should be."""
        total = 0
        for shard in PUT_SHARDS:
            count, good = self.database.query(
                "SELECT pg_catalog.count(*), pg_catalog.count(*) FILTER (WHERE"
                " (id OPERATOR(pg_catalog.>>) 10) OPERATOR(pg_catalog.&) 8191"
                " OPERATOR(pg_catalog.=) %s AND type OPERATOR(pg_catalog.=) %s"
                " AND body OPERATOR(public.=)"
                " public.hstore(%s::pg_catalog.text[], %s::pg_catalog.text[]))"
                f" FROM shard{shard:04d}.entities",
                shard,
                KIND,
                list(ATTRIBUTES),
                list(ATTRIBUTES.values()),
            )[0]
            if count != good:
                raise RuntimeError(f"{count - good} entities of shard {shard} are not as put")
            total += count
        return total
