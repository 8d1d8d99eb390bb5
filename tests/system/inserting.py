"""Shared by the tests of `hv find`, `hv count` and `hv feed`: entities under chosen keys."""

import datetime

import pytest

from importing import SHARDS

EPOCH = 1379365531352
DAY = 86400000


def key_of(created, shard, added_id=0):
    """The key of a moment, in milliseconds since the epoch."""
    return created << 23 | shard << 10 | added_id


def moment(text):
    """Milliseconds since the epoch of a time in ISO 8601, in UTC unless it has an offset."""
    time = datetime.datetime.fromisoformat(text)
    if time.tzinfo is None:
        time = time.replace(tzinfo=datetime.timezone.utc)
    return int(time.timestamp() * 1000) - EPOCH


def shard_of(key):
    return key >> 10 & 8191


def insert(databases, *entities):
    """Put entities under any keys: (key, kind, attributes) each."""
    for database, shards in zip(databases, SHARDS):
        for key, kind, attributes in entities:
            if shard_of(key) in shards:
                database.sql(
                    f"INSERT INTO shard{shard_of(key):04}.entities (id, type, body)"
                    " VALUES (%s, %s, hstore(%s::text[], %s::text[]))",
                    key,
                    kind,
                    list(attributes),
                    list(attributes.values()),
                )


def fill(databases, shard, count, created=0):
    """Put many small entities into a shard, a millisecond apart."""
    (database,) = (found for found, shards in zip(databases, SHARDS) if shard in shards)
    database.sql(
        f"INSERT INTO shard{shard:04}.entities SELECT (({created} + n) << 23) | ({shard} << 10), 1,"
        f" hstore('n', n::text) FROM generate_series(1::bigint, {count}) n"
    )


def objects(entities):
    """The same entities as `hv export`, `hv find` and `hv feed` write them."""
    return [
        {"id": str(key), "shard_id": shard_of(key), "kind": kind, "body": attributes}
        for key, kind, attributes in entities
    ]


def make_photos():
    """48 entities, in the order of their keys: ties in time, two kinds, some attributes."""
    found = []
    for n in range(48):
        attributes = {"n": str(n), "user": str(n % 5), "title": f"a, \"{n}\""}
        if n % 3 == 0:
            attributes["place"] = None if n % 2 else "x,y"
        found.append((key_of(n // 4 * DAY, 1 + n * 7 % 16, n), 1 + n % 2, attributes))
    return sorted(found)


PHOTOS = make_photos()
KEYS = [key for key, _, _ in PHOTOS]


@pytest.fixture
def photos(store, servers):
    insert(servers, *PHOTOS)
    return store
