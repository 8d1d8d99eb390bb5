"""Moves a shard between two servers by hand, in SQL, leaving the records that a move leaves.

    moving = Moving(3, one, two)     # Databases of initialised servers
    moving.copy()                    # the shard's objects on `two`, under another name, and no rows
    moving.arrive()                  # two: "arriving", with the SQL that publishes
    moving.switch()                  # the rows; one: "gone", and the schema has another name
    moving.publish()                 # unless a store does

or `moved(3, one, two)`, all at once. While `switch()` waits for its locks, others use the shard.
"""

import io
import os
import secrets
import subprocess

from .server import binaries, environment, identity


def server_name(database):
    return database.value("SELECT server FROM hypervault.layout")


def row(database, shard):
    """(state, generation, server) of the shard's row there; None: there is none."""
    rows = database.query(
        "SELECT state, generation, server FROM hypervault.shard_locations WHERE shard = %s", shard
    )
    return rows[0] if rows else None


def is_there(database, shard):
    return database.value("SELECT to_regclass(%s) IS NOT NULL", f"shard{shard:04}.entities")


class Moving:
    def __init__(self, shard, source, target, generation=None):
        self.shard, self.source, self.target = shard, source, target
        self.live = f"shard{shard:04}"
        self.name = f"hypervault_{shard:04}_{secrets.token_hex(4)}"
        known = [row(database, shard) for database in (source, target)]
        self.generation = generation or 1 + max(found[1] if found else 0 for found in known)

    def copy(self):
        """All objects of the schema. Nobody sees them under the live name."""
        dump = self._dump("--schema-only")
        with self.target.connect() as connection, connection.cursor() as cursor:
            cursor.execute(
                f"BEGIN; SET LOCAL check_function_bodies = off; {dump};"
                f"ALTER SCHEMA {self.live} RENAME TO {self.name}; COMMIT"
            )
        return self

    def _dump(self, *options):
        params = self.source.params()
        env = {**environment(), "PGPASSWORD": params.get("password") or ""}
        env["PATH"] = os.environ["PATH"]
        place = ["-h", params["host"], "-p", params["port"], "-U", params["user"]]
        done = subprocess.run(
            [os.path.join(binaries(), "pg_dump"), *options, *place]
            + ["--schema", self.live, params["dbname"]],
            capture_output=True,
            text=True,
            check=True,
            cwd="/",
            env=env,
            **identity(),
        )
        lines = done.stdout.splitlines()
        return "\n".join(line for line in lines if not line.startswith(("SET ", "SELECT ", "--", "\\")))

    def arrive(self, publish=None, generation=None):
        """`publish`: the SQL, if it is not the one that publishes the copy."""
        self._write(
            self.target,
            "arriving",
            server_name(self.source),
            publish or f"ALTER SCHEMA {self.name} RENAME TO {self.live}",
            generation,
        )
        return self

    def _write(self, database, state, server, publish="", generation=None):
        database.sql(*self._row(state, server, publish, generation))

    def _row(self, state, server, publish="", generation=None):
        return (
            "INSERT INTO hypervault.shard_locations (shard, generation, state, server, publish)"
            " VALUES (%s, %s, %s, %s, %s) ON CONFLICT (shard) DO UPDATE SET state = EXCLUDED.state,"
            " generation = EXCLUDED.generation, server = EXCLUDED.server,"
            " publish = EXCLUDED.publish, changed = clock_timestamp()",
            self.shard,
            self.generation if generation is None else generation,
            state,
            server,
            publish,
        )

    def switch(self, to=None, commit=True, before_commit=None):
        """`to`: another server's name in the row. `before_commit` is called when all is prepared;
        `commit=False`: all of it is undone, as if the mover had been killed."""
        with self.source.connect() as connection, connection.cursor() as cursor:
            cursor.execute(f"BEGIN; LOCK TABLE {self.live}.entities IN ACCESS EXCLUSIVE MODE")
            self._copy_rows(cursor)
            self._copy_sequences(cursor)
            statement, *args = self._row("gone", to or server_name(self.target))
            cursor.execute(statement, args)
            cursor.execute(f"ALTER SCHEMA {self.live} RENAME TO {self.name}_old")
            if before_commit is not None:
                before_commit()
            cursor.execute("COMMIT" if commit else "ROLLBACK")
        return self

    def _copy_rows(self, cursor):
        rows = io.BytesIO()
        cursor.copy_expert(f"COPY {self.live}.entities (id, type, body) TO STDOUT (FORMAT binary)", rows)
        rows.seek(0)
        with self.target.connect() as connection, connection.cursor() as to:
            to.execute(f"TRUNCATE {self.name}.entities")
            to.copy_expert(
                f"COPY {self.name}.entities (id, type, body) FROM STDIN (FORMAT binary)", rows
            )

    def _copy_sequences(self, cursor):
        cursor.execute("SELECT sequencename FROM pg_sequences WHERE schemaname = %s", [self.live])
        for (sequence,) in cursor.fetchall():
            cursor.execute(f'SELECT last_value, is_called FROM {self.live}."{sequence}"')
            value, is_called = cursor.fetchone()
            self.target.sql(
                "SELECT setval(%s, %s, %s)", f'{self.name}."{sequence}"', value, is_called
            )

    def publish(self):
        answer = self.target.value(
            "SELECT hypervault.publish_shard(%s, %s)", self.shard, self.generation
        )
        assert answer == "here"
        return self


def moved(shard, source, target):
    return Moving(shard, source, target).copy().arrive().switch().publish()
