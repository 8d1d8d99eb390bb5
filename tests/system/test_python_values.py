"""Attributes go to the server and come back as they were, and are what plain psycopg2 reads."""

import collections
import enum
import types
from random import Random

import hypothesis
import psycopg2.extras
import pytest
from hypothesis import strategies

from harness import python
from harness.python import connections, databases, db, plain  # noqa: F401

python.provide()

from hv.datastore import DatastoreError
from hv.entity import Key

# Everything that PostgreSQL's text can hold, especially what hstore's text form has to quote.
TEXT = strategies.one_of(
    strategies.text('"\\=>, \n\t\'{}NULLßé€😀', max_size=12),
    strategies.text(
        strategies.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=12
    ),
)
BATCH, BATCHES = 100, 100
GENERATE = [hypothesis.Phase.generate]


class Colour(str, enum.Enum):
    """A str whose str() returns something else."""

    RED = "red"


class Number(enum.IntEnum):
    """An int whose str() returns something else."""

    SEVEN = 7


# ---- any dict ----


def random_dict(random, texts):
    values = [*texts, None]
    return {random.choice(texts): random.choice(values) for _ in range(random.randrange(8))}


def test_ten_thousand_dicts_come_back_as_they_were(db, databases):
    """Each batch is stored in two ways, and read in three."""
    checked = collections.Counter()
    with plain(databases[0], client_encoding="UTF8") as connection:
        psycopg2.extras.register_hstore(connection)
        cursor = connection.cursor()

        # Dicts are made of few texts, since it takes hypothesis long to make many.
        @hypothesis.settings(
            max_examples=BATCHES,
            deadline=None,
            database=None,
            derandomize=True,
            phases=GENERATE,
            suppress_health_check=[hypothesis.HealthCheck.too_slow],
        )
        @hypothesis.given(strategies.lists(TEXT, min_size=1, max_size=30), strategies.integers(0))
        def check(texts, seed):
            random = Random(seed)
            dicts = [random_dict(random, texts) for _ in range(BATCH)]
            half = len(dicts) // 2
            keys = [db.put(3, 1, each) for each in dicts[:half]]
            keys += db.put_many((3, 1, each) for each in dicts[half:])
            assert [db.get(key)["body"] for key in keys[:half]] == dicts[:half]
            assert [row["body"] for row in db.get_many(keys)] == dicts
            cursor.execute(
                "SELECT id, body FROM shard0003.entities WHERE id = ANY (%s)", ([*map(int, keys)],)
            )
            theirs = dict(cursor.fetchall())
            assert [theirs[key.id] for key in keys] == dicts
            checked["dicts"] += len(dicts)

        check()
    assert checked["dicts"] == 10000


# ---- each type ----


@pytest.mark.parametrize(
    "value, text",
    [
        ("", ""),
        ("boop", "boop"),
        (None, None),
        (0, "0"),
        (-5, "-5"),
        (2**200, str(2**200)),
        (True, "true"),
        (False, "false"),
        (1.5, "1.5"),
        (1e300, "1e+300"),
        (0.1, "0.1"),
        (-0.0, "-0.0"),
        (float("inf"), "inf"),
        (float("nan"), "nan"),
        (Colour.RED, "red"),
        (Number.SEVEN, "7"),
        ("NULL", "NULL"),
        ("x" * 100000, "x" * 100000),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_a_value_is_stored_as_text_or_null(db, value, text):
    assert db.get(db.put(3, 1, {"a": value}))["body"] == {"a": text}
    assert db.get(db.put(3, 1, a=value))["body"] == {"a": text}
    (key,) = db.put_many([(3, 1, {"a": value})])
    assert db.get(key)["body"] == {"a": text}


@pytest.mark.parametrize(
    "mapping",
    [
        collections.OrderedDict(a="1", b=None),
        types.MappingProxyType({"a": "1", "b": None}),
        collections.ChainMap({"a": "1"}, {"a": "2", "b": None}),
    ],
    ids=lambda mapping: type(mapping).__name__,
)
def test_any_mapping_will_do(db, mapping):
    assert db.get(db.put(3, 1, mapping))["body"] == {"a": "1", "b": None}


@pytest.mark.parametrize("value", [b"bytes", [], {}, (), object(), 1j, Key(1), str])
def test_a_value_of_another_type_is_refused_by_the_attributes_name(db, value):
    for act in (
        lambda: db.put(3, 1, {"good": "1", "culprit": value}),
        lambda: db.put(3, 1, culprit=value),
        lambda: db.put_key(db.reserve(3)[0], 1, culprit=value),
        lambda: db.put_many([(3, 1, {"culprit": value})]),
    ):
        with pytest.raises(TypeError, match="culprit") as caught:
            act()
        assert type(value).__name__ in str(caught.value)


@pytest.mark.parametrize("name", [1, None, b"a", ("a",)])
def test_a_name_that_is_no_text_is_refused(db, name):
    with pytest.raises(TypeError, match="name"):
        db.put(3, 1, {name: "a"})


@pytest.mark.parametrize("attributes", [5, "text", [1], object()])
def test_what_is_no_mapping_is_refused(db, attributes):
    with pytest.raises((TypeError, ValueError)):
        db.put(3, 1, attributes)


@pytest.mark.parametrize("text", ["a\0b", "\0", "\ud800", "a\udfff"], ids=ascii)
def test_text_that_postgresql_cannot_hold_is_refused(db, databases, text):
    before = databases[0].value("SELECT count(*) FROM shard0003.entities")
    for attributes in ({"a": text}, {text: "a"}, {text: None}):
        with pytest.raises(DatastoreError) as caught:
            db.put(3, 1, attributes)
        assert caught.value.status == "HV_INVALID"
        (error,) = db.put_many([(3, 1, attributes)], return_errors=True)
        assert error.status == "HV_INVALID"
    assert databases[0].value("SELECT count(*) FROM shard0003.entities") == before


# ---- objects that change or are closed meanwhile ----


def test_kinds_that_change_while_they_are_read(db):
    kinds = []

    class Kind:
        def __index__(self):
            kinds.clear()
            return 1

    kinds += [Kind() for _ in range(100)]
    assert list(db.scan(5, kinds=kinds)) == []


USERS = {
    "a scan": ("used = db.scan(3)", "next(used)"),
    "a queue": ("used = hv._hv.Queue(db); used.get('tag', key)", "used.advance()"),
    "a load": ("used = db.load(db.servers[0], 'x'); used.add(key, 2); used.send()", "used.row(0)"),
}


@pytest.mark.parametrize("make, use", USERS.values(), ids=USERS)
def test_garbage_collection_that_closes_what_is_in_use(connections, make, use):
    """Any code may run when memory is taken for a result."""
    result = python.run(
        f"""
        import hv._hv
        db = Datastore(connections)
        key = db.put(3, 1, a="b")
        {make}
        refused = []

        def close(phase, info):
            try:
                used.close()
            except RuntimeError as error:
                refused.append(error)

        gc.callbacks.append(close)
        gc.set_threshold(1)
        {use}
        gc.set_threshold(0)
        gc.callbacks.clear()
        assert refused
        used.close()
        db.close()
        """,
        connections,
    )
    assert (result.code, result.err) == (0, ""), str(result)


def test_garbage_collection_that_closes_a_find_while_it_makes_a_row(connections):
    """The row is returned, or it was closed before; either way it is closed now."""
    result = python.run(
        """
        db = Datastore(connections)
        key = db.put(3, 1, a="b")
        rows = db.find(3, from_key=key)
        closed = []

        def close(phase, info):
            rows.close()
            closed.append(rows.closed)

        gc.callbacks.append(close)
        gc.set_threshold(1)
        try:
            assert rows.poll(60)["id"] == key.id
        except PoolError as error:
            assert error.status == "HV_CLOSED"
        gc.set_threshold(0)
        gc.callbacks.clear()
        assert closed and all(closed) and rows.closed
        db.close()
        """,
        connections,
    )
    assert (result.code, result.err) == (0, ""), str(result)
