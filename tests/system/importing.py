"""Shared by the tests of `hv import`: reading the stored entities, and rejects files."""

import base64
import contextlib
import json
import pathlib

from harness import hv

SHARDS = (range(1, 9), range(9, 17))  # of the two servers, as in the fixture `store`


def entities(databases):
    """All entities in the order of their keys, as (shard, kind, attributes)."""
    found = []
    for database, shards in zip(databases, SHARDS):
        selects = (
            f"SELECT id, {shard}, type, hstore_to_json(body) FROM shard{shard:04}.entities"
            for shard in shards
        )
        found += database.query(" UNION ALL ".join(selects))
    return [tuple(row[1:]) for row in sorted(found, key=lambda row: row[0])]


def bodies(databases):
    """The attributes of all entities in the order of their keys."""
    return [body for _, _, body in entities(databases)]


def numbers(databases):
    """The attribute "n" of all entities as numbers, ascending."""
    return sorted(int(body["n"]) for body in bodies(databases))


def count(databases):
    """The number of entities."""
    found = 0
    for database, shards in zip(databases, SHARDS):
        counts = (f"(SELECT count(*) FROM shard{shard:04}.entities)" for shard in shards)
        found += database.query("SELECT " + " + ".join(counts))[0][0]
    return found


def refuse(databases, condition, sqlstate="P0001"):
    """Make a trigger refuse rows for which this is true: "new.body->'n' = '7'"."""
    for database, shards in zip(databases, SHARDS):
        database.sql(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
            f" $$BEGIN RAISE SQLSTATE '{sqlstate}' USING MESSAGE = 'not this one'; END$$"
        )
        for shard in shards:
            database.sql(
                f"CREATE TRIGGER refuse BEFORE INSERT ON shard{shard:04}.entities"
                f" FOR EACH ROW WHEN ({condition}) EXECUTE FUNCTION public.refuse()"
            )


class HeldUp:
    """Imports that are not over before a test wants it: in the `with`, the row whose "n" is `number`
    waits for its end.

        held_up = HeldUp(servers, 1000)
        with held_up:
            …
    """

    def __init__(self, databases, number):
        self.databases = databases
        for database, shards in zip(databases, SHARDS):
            database.sql(
                "CREATE FUNCTION hold_up() RETURNS trigger LANGUAGE plpgsql AS"
                " $$BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN new; END$$"
            )
            for shard in shards:
                database.sql(
                    f"CREATE TRIGGER hold_up BEFORE INSERT ON shard{shard:04}.entities FOR EACH ROW"
                    f" WHEN (new.body->'n' = '{number}') EXECUTE FUNCTION public.hold_up()"
                )

    def __enter__(self):
        self.holders = contextlib.ExitStack()
        for database in self.databases:
            holder = self.holders.enter_context(database.connect())
            holder.cursor().execute("SELECT pg_advisory_lock(1)")

    def __exit__(self, *_):
        self.holders.close()

    def reached(self):
        """Is the row waiting?"""
        waiting = (
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event = 'advisory'"
        )
        return any(database.value(waiting) for database in self.databases)


def clear(databases):
    """Remove all entities."""
    for database, shards in zip(databases, SHARDS):
        database.sql("TRUNCATE " + ", ".join(f"shard{shard:04}.entities" for shard in shards))


def rejects(path):
    """The rows of a rejects file by line, "row" as the exact bytes that were in the input."""
    found = []
    for line in pathlib.Path(path).read_bytes().splitlines():
        row = json.loads(line)
        assert row.pop("number") <= row["line"] and row.pop("import").startswith("import/")
        exact = row.pop("row_base64", None)
        row["row"] = row["row"].encode("utf-8") if exact is None else base64.b64decode(exact)
        found.append(row)
    return sorted(found, key=lambda row: row["line"])


def write_numbers(path, first, last):
    """Write an NDJSON file with the rows {"n": first} to {"n": last}."""
    with open(path, "w", encoding="ascii") as file:
        file.writelines(f'{{"n":{n}}}\n' for n in range(first, last + 1))
    return path


def import_file(store, path, *args, **how):
    """Run `hv import PATH --kind 1 --json` in the file's folder, and return the Result."""
    path = pathlib.Path(path)
    return hv("import", path, "--kind", 1, "--json", *args, config=store, cwd=path.parent, **how)


def import_bytes(store, tmp_path, name, data, *args):
    """The same for a file of this name and content."""
    path = tmp_path / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode("utf-8"))
    return import_file(store, path, *args)
