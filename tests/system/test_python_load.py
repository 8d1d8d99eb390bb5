"""Loads from Python: many entities into one server, each once."""

import pytest

from harness import python
from harness.python import connections, databases, db  # noqa: F401

python.provide()

from hv.datastore import DatastoreError, PoolError


# The tests share their databases: each has a shard and a load of its own.


def rows(database, shard):
    return database.query(f"SELECT body -> 'n' FROM shard{shard:04}.entities ORDER BY id")


def test_a_load_stores_its_rows_when_it_commits(db, databases):
    server = db.server_of(3)
    with db.load(server, "people 0") as load:
        assert (load.position, load.note, load.count) == (0, None, 0)
        for n in range(3):
            load.add(3, 1, {"n": n})
        load.send()
        assert [load.row(n) for n in range(3)] == [False] * 3
        assert rows(databases[0], 3) == []
        load.commit(3, "half of it")
        assert (load.position, load.note, load.count) == (3, "half of it", 0)
    assert rows(databases[0], 3) == [("0",), ("1",), ("2",)]
    assert db.loads(server, "people 0") == [("people 0", 3, "half of it")]
    assert db.loads(server, "x") == []
    with pytest.raises(PoolError):
        load.send()


def test_a_load_goes_on_where_it_was_committed(db, databases):
    server = db.server_of(3)
    with db.load(server, "people 1") as load:
        load.add(4, 1, {"n": 0})
        load.send()
        load.commit(1)
        load.add(4, 1, {"n": 1})
        load.send()  # and is never committed
    with db.load(server, "people 1") as load:
        assert load.position == 1
        load.add(4, 1, {"n": 1})
        load.send()
        load.commit(2)
    assert rows(databases[0], 4) == [("0",), ("1",)]


def test_a_refused_row_is_reported_and_the_others_are_stored(db, databases):
    databases[0].sql("ALTER TABLE shard0005.entities ADD CONSTRAINT small CHECK (type < 5)")
    (reserved,) = db.reserve(5)
    with db.load(db.server_of(3), "people 2") as load:
        for n, kind in enumerate((1, 7, 1)):
            load.add(5, kind, {"n": n})
        load.add(reserved, 1, {"n": 3})
        load.send()
        refused = load.row(1)
        assert isinstance(refused, DatastoreError)
        assert (refused.status, refused.sqlstate, refused.constraint) == (
            "HV_REFUSED",
            "23514",
            "small",
        )
        assert [load.row(n) for n in (0, 2, 3)] == [False] * 3
        with pytest.raises(DatastoreError):
            load.row(4)
        load.commit(4)
        load.add(reserved, 1, {"n": 3})
        load.send()
        assert load.row(0) is True
        load.commit(5)
    assert sorted(rows(databases[0], 5)) == [("0",), ("2",), ("3",)]
    assert db.get(reserved)["body"] == {"n": "3"}


def test_a_row_of_another_server_is_an_error(db):
    with db.load(db.server_of(3), "people 3") as load:
        with pytest.raises(DatastoreError):
            load.add(9, 1, {})
        with pytest.raises(TypeError):
            load.add(6, 1, {"a": []})
        with pytest.raises(TypeError):
            load.add("3", 1, {})
        assert load.count == 0


@pytest.mark.parametrize("number", [2**32 + 3, -(2**32) + 3, 2**70])
def test_a_number_that_is_no_shard_or_kind_of_a_row_is_an_error(db, number):
    with db.load(db.server_of(3), "numbers") as load:
        for where, kind in ((number, 1), (3, number)):
            with pytest.raises(DatastoreError, match=f"{number} is out of range"):
                load.add(where, kind)
        assert load.count == 0
    with pytest.raises(DatastoreError, match=f"{number} is out of range"):
        db.scan(number)
