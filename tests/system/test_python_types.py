"""Python in a database whose types are recreated: puts and gets go on, cursors return dicts."""

import io

import psycopg2.extras
import pytest

from harness import python
from test_types_made_anew import extension_made_anew, restored

python.provide()

from hv.datastore import Datastore

SHARD = 3
SELECT = f"SELECT id, type, body FROM shard{SHARD:04}.entities ORDER BY id"


@pytest.fixture
def connections(servers, store):
    return [dict(shards="1-9", **servers[0].params()), dict(shards="9-17", **servers[1].params())]


@pytest.fixture(params=[False, True], ids=["plain", "logged"])
def db(request, connections):
    with Datastore(connections, logger=io.StringIO() if request.param else None) as opened:
        yield opened


@pytest.fixture(params=[restored, extension_made_anew], ids=["pg_restore", "extension"])
def make_anew(request, servers, tmp_path):
    return request.param(servers[0], tmp_path)


def fill(database):
    """Two entities, without the library."""
    database.sql(f"DELETE FROM shard{SHARD:04}.entities")
    for n in (1, 2):
        database.sql(
            f"INSERT INTO shard{SHARD:04}.entities (type, body) VALUES (%s, hstore('n', %s))",
            n,
            str(n),
        )


BODIES = [{"n": "1"}, {"n": "2"}]


def test_borrowed_cursors_give_dicts_again(db, servers, make_anew):
    """Only cursors are used, so that only they can notice."""
    fill(servers[0])

    def bodies(fetch):
        with db.cursor(SHARD) as cursor:
            cursor.execute(SELECT)
            return [row[2] for row in fetch(cursor)]

    ways = [
        lambda cursor: cursor.fetchall(),
        lambda cursor: [cursor.fetchone(), cursor.fetchone()],
        lambda cursor: cursor.fetchmany(5),
        list,
    ]
    for fetch in ways:
        for _ in range(2):
            make_anew()
            fill(servers[0])
            assert bodies(fetch) == BODIES
            assert bodies(fetch) == BODIES


def test_rows_and_arrays_of_a_cursor_are_as_before(connections, servers, tmp_path):
    with Datastore(connections) as db:
        fill(servers[0])
        make_anew = extension_made_anew(servers[0], tmp_path)
        connection = db.get_connection(SHARD)
        cursor = connection.cursor()
        make_anew()
        fill(servers[0])
        cursor.execute("SELECT body, ARRAY[body, NULL] AS both, 'x' AS x FROM shard0003.entities")
        row = cursor.fetchone()
        assert isinstance(row, psycopg2.extras.DictRow)
        assert (row["body"], row["both"], row["x"]) == ({"n": "1"}, [{"n": "1"}, None], "x")
        assert cursor.fetchone()["body"] == {"n": "2"}
        assert cursor.fetchone() is None
        cursor.execute("SELECT NULL::hstore")
        assert cursor.fetchone()[0] is None
        cursor.execute("CREATE TYPE mood AS ENUM ('fine')")
        cursor.execute("SELECT 'fine'::mood, 'a=>b'::hstore")
        assert list(cursor.fetchone()) == ["fine", {"a": "b"}]
        db.put_connection(connection)


def test_puts_and_gets_go_on(db, servers, make_anew):
    def use(number):
        key = db.put(SHARD, 1, n=number)
        assert db.get(key)["body"] == {"n": str(number)}
        keys = db.put_many([(SHARD, 1, {"n": n}) for n in range(20)])
        assert [row["body"]["n"] for row in db.get_many(keys)] == [str(n) for n in range(20)]
        with db.load("server 1", f"load {number}") as load:
            load.add(SHARD, 1, {"n": number})
            load.send()
            load.commit(1)
        with db.cursor(SHARD) as cursor:
            cursor.execute("SELECT body FROM shard0003.entities WHERE id = %s", (key.id,))
            assert cursor.fetchone()[0] == {"n": str(number)}

    for number in range(2):
        use(number)
    for number in range(2, 5):
        make_anew()
        use(number)
        use(number + 100)
