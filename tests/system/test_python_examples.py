"""The old package's examples run as they are, except for the servers' addresses."""

import datetime

from harness import python
from harness.python import connections, databases  # noqa: F401

python.provide()

import hv.datastore
import hv.entity

GOLDEN = 307821103844175873
PLACE = "host='…', port='5432', user='x', password='x', database='x'"

CONNECTIONS = f"""
connections = [
  dict(shards='1-9',  {PLACE}),
  dict(shards='9-17', {PLACE})]
"""
OPEN = "db = Datastore(connections)"
CURSOR = """
with db.cursor(5) as cur:
    cur.execute('SELECT version()'); ver = cur.fetchone()
"""
PUT = "key = db.put(12, 1, **dict(beep='boop'))"
GET = "res = db.get(Key(307821103844175873))"


def with_places(code, connections):
    for params in connections:
        place = "host={host!r}, port={port!r}, user={user!r}, password={password!r}, database={dbname!r}"
        code = code.replace(PLACE, place.format(**{"password": "", **params}), 1)
    assert PLACE not in code
    return code


def test_the_examples_of_the_old_package_run_as_they_stand(databases, connections):
    one, two = databases
    names = {"Datastore": hv.datastore.Datastore, "Key": hv.entity.Key}
    exec(with_places(CONNECTIONS, connections), names)
    exec(OPEN, names)
    assert not one.clients() and not two.clients()

    exec(CURSOR, names)
    assert names["ver"][0].startswith("PostgreSQL ")
    assert names["cur"].closed

    exec(PUT, names)
    key = names["key"]
    assert key.shard_id == 12
    assert abs(key.created - datetime.datetime.utcnow()) < datetime.timedelta(seconds=60)
    assert two.query("SELECT id, type, body -> 'beep' FROM shard0012.entities") == [
        (key.id, 1, "boop")
    ]

    exec(GET, names)
    assert names["res"] is None
    two.sql("INSERT INTO shard0012.entities VALUES (%s, 3, 'a=>b, n=>NULL')", GOLDEN)
    exec(GET, names)
    res = names["res"]
    assert (res[0], res[1], res[2]) == (GOLDEN, 3, {"a": "b", "n": None})
    assert (res["id"], res["type"], res["body"]) == (GOLDEN, 3, {"a": "b", "n": None})
    names["db"].disconnect()
