"""Triggers and rules that keep rows from being stored without any error."""

SHARDS = range(1, 9)  # of server one, as in the fixture `store`


def swallow(database, condition="true", shards=SHARDS):
    """Make a trigger silently drop rows for which this is true: "new.type = 5"."""
    database.sql(
        "CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NULL; END$$"
    )
    for shard in shards:
        database.sql(
            f"CREATE TRIGGER swallow BEFORE INSERT ON shard{shard:04}.entities"
            f" FOR EACH ROW WHEN ({condition}) EXECUTE FUNCTION public.swallow()"
        )


def rule(database, shards=SHARDS):
    """Make a rule do nothing instead of each INSERT."""
    for shard in shards:
        database.sql(
            f"CREATE RULE swallow AS ON INSERT TO shard{shard:04}.entities DO INSTEAD NOTHING"
        )


def rename(database, new_key="new.id + 1", condition="true", shards=SHARDS):
    """Make a trigger give rows another key."""
    database.sql(
        "CREATE FUNCTION rename() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$BEGIN new.id := {new_key}; RETURN new; END$$"
    )
    for shard in shards:
        database.sql(
            f"CREATE TRIGGER rename BEFORE INSERT ON shard{shard:04}.entities"
            f" FOR EACH ROW WHEN ({condition}) EXECUTE FUNCTION public.rename()"
        )


def stored(database, shards=SHARDS):
    """All entities, as {key: (kind, the attribute "n")}."""
    found = {}
    for shard in shards:
        rows = database.query(
            f"SELECT id, type, (body -> 'n')::int FROM shard{shard:04}.entities"
        )
        found.update({key: (kind, number) for key, kind, number in rows})
    return found
