"""Python changes entities: replace, merge, increment and delete, on conditions."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest

from harness import eventually, python
from harness.python import connections, databases, db, either, session  # noqa: F401

python.provide()

from hv import aio
from hv.datastore import (
    ChangedError,
    ConnectionError,
    Datastore,
    DatastoreError,
    KeyTypeError,
    PoolError,
)
from hv.entity import Change, Key

MISSING = Key(307821103844175872 & ~(8191 << 10) | 4 << 10)  # of shard 4: nobody puts under it
ADA = {"name": "Ada", "born": "1815", "title": None}


@pytest.fixture
def key(db):
    return db.put(3, 1, ADA)


# ---- each verb ----


def test_replace_leaves_nothing_of_what_was_there(db, either, key):
    assert either.replace(key, 2, {"beep": "boop"}) is True
    assert list(db.get(key)) == [key.id, 2, {"beep": "boop"}]
    assert either.replace(key, -3) is True
    assert list(db.get(key)) == [key.id, -3, {}]
    assert either.replace(key, kind=1, attributes={"a": "b"}) is True
    assert db.get(key)["body"] == {"a": "b"}


def test_merge_sets_and_removes_and_leaves_the_rest(db, either, key):
    assert either.merge(key, {"born": 1816, "died": "1852"}, ["title", "not there"]) is True
    assert list(db.get(key)) == [key.id, 1, {"name": "Ada", "born": "1816", "died": "1852"}]
    assert either.merge(key, remove={"born"}) is True
    assert either.merge(key, None, (each for each in ["died"])) is True
    assert either.merge(key, set={"title": None}) is True
    assert db.get(key)["body"] == {"name": "Ada", "title": None}


def test_increment_adds_exactly_and_returns_the_new_value(db, either, key):
    steps = [
        ("likes", 1, 1),  # missing: 0
        ("likes", 41, 42),
        ("likes", "-2", 40),
        ("likes", -(2**70), 40 - 2**70),
        ("born", 0, 1815),
        ("title", 5, 5),  # NULL: 0
        ("price", Decimal("19.90"), Decimal("19.90")),
        ("price", Decimal("-0.4"), Decimal("19.50")),
        ("price", Decimal("1E+3"), Decimal("1019.50")),
        ("price", 1, Decimal("1020.50")),
        ("born", Decimal("0.10"), Decimal("1815.10")),
    ]
    for attribute, amount, value in steps:
        found = either.increment(key, attribute, amount)
        assert (type(found), str(found)) == (type(value), str(value))
        assert db.get(key)["body"][attribute] == str(value)
    assert either.increment(key, "name of its own") == 1
    assert db.get(key)["body"]["name"] == "Ada"


def test_a_deleted_entity_is_gone(db, either, key):
    other = db.put(3, 1, a="b")
    assert either.delete(key) is True
    assert db.get(key) is None and not db.exists(key)
    assert either.delete(key) is False
    assert db.get(other)["body"] == {"a": "b"}


def test_a_change_makes_no_entity(db, either):
    for condition in ({}, {"if_": {"a": "b"}}, {"if_absent": ["a"]}, {"if_kind": 1}):
        assert either.replace(MISSING, 1, {"a": "b"}, **condition) is False
        assert either.merge(MISSING, {"a": "b"}, **condition) is False
        assert either.increment(MISSING, "a", **condition) is None
        assert either.delete(MISSING, **condition) is False
    assert not db.exists(MISSING)


VALUES = {"text": "x", "n": 7, "ratio": 0.5, "yes": True, "no": False, "nothing": None}
TEXTS = {"text": "x", "n": "7", "ratio": "0.5", "yes": "true", "no": "false", "nothing": None}


def test_values_that_are_not_text_are_those_of_put(db, either, key):
    assert either.replace(key, 1, VALUES)
    assert db.get(key)["body"] == TEXTS
    assert either.merge(key, VALUES, if_=VALUES)
    assert db.get(key)["body"] == TEXTS


# ---- conditions ----

HOLD = [
    {"if_": {"name": "Ada"}},
    {"if_": {"name": "Ada", "born": 1815, "title": None}},
    {"if_": {}},
    {"if_absent": ["died", "likes"]},
    {"if_absent": {"died"}},
    {"if_kind": 1},
    {"if_": {"name": "Ada"}, "if_absent": ("died",), "if_kind": 1},
    {"if_": None, "if_absent": None, "if_kind": None, "if_version": None},
]
FAIL = [
    {"if_": {"name": "Eve"}},
    {"if_": {"name": None}},
    {"if_": {"died": None}},  # it is not there
    {"if_": {"name": "Ada", "born": 1816}},
    {"if_absent": ["died", "title"]},  # which is there, and NULL
    {"if_kind": 2},
    {"if_": {"name": "Ada"}, "if_absent": ["died"], "if_kind": 0},
]
VERBS = [
    lambda each, key, **condition: each.replace(key, 1, {**ADA, "n": "1"}, **condition),
    lambda each, key, **condition: each.merge(key, {"n": "1"}, **condition),
    lambda each, key, **condition: each.increment(key, "n", **condition),
    lambda each, key, **condition: each.delete(key, **condition),
]
NAMES = ["replace", "merge", "increment", "delete"]


@pytest.mark.parametrize("act", VERBS, ids=NAMES)
@pytest.mark.parametrize("condition", HOLD, ids=str)
def test_a_change_is_made_if_its_condition_holds(db, either, key, act, condition):
    assert act(either, key, **condition)
    row = db.get(key)
    assert row is None or row["body"] == {**ADA, "n": "1"}


@pytest.mark.parametrize("act", VERBS, ids=NAMES)
@pytest.mark.parametrize("condition", FAIL, ids=str)
def test_nothing_is_changed_if_it_does_not_hold(db, either, key, act, condition):
    before = db.get(key, version=True)
    with pytest.raises(ChangedError) as caught:
        act(either, key, **condition)
    error = caught.value
    assert isinstance(error, DatastoreError) and not isinstance(error, PoolError)
    assert (error.status, error.shard) == ("HV_CHANGED", 3)
    assert (error.retriable, error.outcome_unknown, error.sqlstate) == (False, False, None)
    assert str(error) == error.message == f"the entity {key} does not meet the condition"
    assert (error.present, error.present.version) == (before, before.version)
    again = db.get(key, version=True)
    assert (again, again.version) == (before, before.version)


@pytest.mark.parametrize("act", VERBS, ids=NAMES)
def test_a_version_is_that_of_the_entity_until_it_is_changed(db, either, key, act):
    row = either.get(key, version=True)
    assert isinstance(row.version, str) and " " not in row.version
    db.merge(key, {"name": "Ada"})  # also if nothing is different
    with pytest.raises(ChangedError) as caught:
        act(either, key, if_version=row.version)
    present = caught.value.present
    assert present.version != row.version
    assert act(either, key, if_version=present.version)
    if db.exists(key):
        assert db.get(key, version=True).version != present.version


def test_threads_that_read_modify_and_write_lose_no_change(db, key):
    db.merge(key, {"n": "0"})

    def add(_):
        row = db.get(key, version=True)
        while True:
            number = int(row["body"]["n"]) + 1
            try:
                return db.merge(key, {"n": number}, if_version=row.version)
            except ChangedError as error:
                row = error.present

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(add, range(200)))
    assert db.get(key)["body"] == {**ADA, "n": "200"}


def test_threads_that_increment_lose_none(connections, key):
    with Datastore(connections, pool_block_timeout=60, lanes=1) as db:
        with ThreadPoolExecutor(8) as threads:
            values = list(threads.map(lambda _: db.increment(key, "n"), range(400)))
    assert sorted(values) == list(range(1, 401))


# ---- wrong arguments ----

AMOUNTS = [
    *("", "x", "NaN", "1\0", "\udc80", 10**200, Decimal("NaN"), Decimal("-Infinity")),
    *(Decimal("1E+999999"), Decimal("1E-999999")),
]
WRONG = {
    # what is no key, and what is no argument
    "replace an int": (KeyTypeError, "must be of type Key", lambda db, key: db.replace(5, 1)),
    "merge a str": (KeyTypeError, "must be of type Key", lambda db, key: db.merge("5", {"a": "b"})),
    "increment None": (KeyTypeError, "type Key", lambda db, key: db.increment(None, "a")),
    "delete an int": (KeyTypeError, "type Key", lambda db, key: db.delete(key.id)),
    "no kind": (TypeError, "kind", lambda db, key: db.replace(key)),
    "no attribute": (TypeError, "attribute", lambda db, key: db.increment(key)),
    "no key": (TypeError, "key", lambda db, key: db.delete()),
    "attributes by name": (TypeError, "'beep'", lambda db, key: db.replace(key, 1, beep="boop")),
    "condition by position": (TypeError, "", lambda db, key: db.merge(key, {"a": "b"}, [], {})),
    "unknown condition": (TypeError, "'if_not'", lambda db, key: db.delete(key, if_not={})),
    # types
    "kind": (TypeError, "", lambda db, key: db.replace(key, "1")),
    "attributes": (TypeError, "must be a mapping", lambda db, key: db.replace(key, 1, ["a"])),
    "value": (TypeError, "'tags'", lambda db, key: db.merge(key, {"tags": []})),
    "name": (TypeError, "must be str, not int: 1", lambda db, key: db.merge(key, {1: "a"})),
    "remove a str": (TypeError, "remove must be", lambda db, key: db.merge(key, None, "name")),
    "remove an int": (TypeError, "remove must be", lambda db, key: db.merge(key, None, 5)),
    "remove ints": (TypeError, "must be str, not int: 5", lambda db, key: db.merge(key, None, [5])),
    "attribute": (TypeError, "attribute must be str", lambda db, key: db.increment(key, 5)),
    "float": (TypeError, r"use Decimal\('0.1'\)", lambda db, key: db.increment(key, "n", 0.1)),
    "bool": (TypeError, "not bool", lambda db, key: db.increment(key, "n", True)),
    "amount None": (TypeError, "not NoneType", lambda db, key: db.increment(key, "n", None)),
    "if_": (TypeError, "must be a mapping", lambda db, key: db.delete(key, if_="name")),
    "if_ value": (TypeError, "'name'", lambda db, key: db.delete(key, if_={"name": []})),
    "if_absent": (TypeError, "if_absent must be", lambda db, key: db.delete(key, if_absent="x")),
    "if_kind": (TypeError, "", lambda db, key: db.delete(key, if_kind="1")),
    "if_version": (TypeError, "if_version must", lambda db, key: db.delete(key, if_version=5)),
    "only a str": (TypeError, "only must be", lambda db, key: db.get(key, only="name")),
    "only by position": (TypeError, "", lambda db, key: db.get(key, ["name"])),
    # values
    "shard": (DatastoreError, "HV_NO_SERVER", lambda db, key: db.delete(Key(1 << 23 | 99 << 10))),
    "kind too large": (DatastoreError, "HV_INVALID", lambda db, key: db.replace(key, 99999)),
    "NUL": (DatastoreError, "HV_INVALID", lambda db, key: db.merge(key, {"a": "\0"})),
    "NUL removed": (DatastoreError, "HV_INVALID", lambda db, key: db.merge(key, None, ["a\0b"])),
    "NUL only": (DatastoreError, "HV_INVALID", lambda db, key: db.get(key, only=["a\0b"])),
    "surrogate": (DatastoreError, "HV_INVALID", lambda db, key: db.merge(key, None, ["\udc80"])),
    "NUL incremented": (DatastoreError, "HV_INVALID", lambda db, key: db.increment(key, "a\0")),
    "NUL absent": (DatastoreError, "HV_INVALID", lambda db, key: db.delete(key, if_absent=["\0"])),
    "nothing": (DatastoreError, "HV_INVALID", lambda db, key: db.merge(key)),
    "nothing at all": (DatastoreError, "HV_INVALID", lambda db, key: db.merge(key, {}, [])),
    "both": (DatastoreError, "HV_INVALID", lambda db, key: db.merge(key, {"a": "b"}, ["a"])),
    "contradiction": (
        DatastoreError,
        "HV_INVALID",
        lambda db, key: db.delete(key, if_={"a": "b"}, if_absent=["a"]),
    ),
    "large if_kind": (DatastoreError, "HV_INVALID", lambda db, key: db.delete(key, if_kind=99999)),
    "no version": (DatastoreError, "HV_INVALID", lambda db, key: db.delete(key, if_version="x y")),
    "another's version": (
        DatastoreError,
        "HV_INVALID",
        lambda db, key: db.delete(key, if_version=db.get(db.put(3, 1), version=True).version),
    ),
    **{
        f"amount {amount!r:.20}": (
            DatastoreError,
            "HV_INVALID",
            lambda db, key, amount=amount: db.increment(key, "born", amount),
        )
        for amount in AMOUNTS
    },
    "no number": (DatastoreError, "HV_INVALID", lambda db, key: db.increment(key, "name")),
}


@pytest.mark.parametrize("kind, text, act", WRONG.values(), ids=WRONG)
def test_wrong_arguments_are_refused_and_nothing_is_changed(db, either, key, kind, text, act):
    before = db.get(key, version=True)
    with pytest.raises(kind, match=None if text.startswith("HV_") else text) as caught:
        act(either, key)
    if text.startswith("HV_"):
        assert caught.value.status == text
        assert not caught.value.outcome_unknown
    assert db.get(key, version=True).version == before.version


def test_what_holds_no_number_is_named(db, either, key):
    with pytest.raises(DatastoreError) as caught:
        either.increment(key, "name", 5)
    for part in (str(key), "name", "Ada"):
        assert part in str(caught.value)


# ---- faults ----


def test_a_row_that_a_trigger_keeps_as_it_was_is_not_changed(db, either, databases):
    key = db.put(8, 1, ADA)
    databases[0].sql("""
        CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
        CREATE TRIGGER keep BEFORE UPDATE OR DELETE ON shard0008.entities
            FOR EACH ROW EXECUTE FUNCTION keep()""")
    try:
        for act in VERBS:
            with pytest.raises(DatastoreError) as caught:
                act(either, key)
            assert caught.value.status == "HV_NOT_STORED"
        assert db.get(key)["body"] == ADA
    finally:
        databases[0].sql("DROP FUNCTION keep() CASCADE")


def test_changes_of_a_closed_store_or_session_are_refused(connections, key):
    db = Datastore(connections)
    db.close()

    async def work(session):
        await session.close()
        for act in VERBS:
            with pytest.raises(PoolError):
                await act(session, key)
        with pytest.raises(PoolError):
            await session.change_many([Change.delete(key)])

    with Datastore(connections) as other:

        async def main():
            await work(aio.Session(other))

        asyncio.run(main())
    for act in VERBS:
        with pytest.raises(PoolError):
            act(db, key)
    with pytest.raises(PoolError):
        db.delete_many([key])


def test_a_server_that_is_down_has_changed_nothing(tmp_path, key):
    with Datastore([{"host": str(tmp_path), "shards": "1-9"}]) as db:  # nobody listens there
        for act in VERBS:
            with pytest.raises(ConnectionError) as caught:
                act(db, key)
            assert caught.value.retriable


def test_a_lost_connection_is_what_the_verb_makes_of_it(db, databases):
    """All but an increment are repeated."""
    ends = [
        (lambda key: db.merge(key, {"a": "b"}), True),
        (lambda key: db.replace(key, 1), True),
        (lambda key: db.delete(key), True),
        (lambda key: db.merge_many([(key, {"a": "b"})]), [True]),
        (lambda key: db.increment(key, "n"), "unknown"),
        (lambda key: db.increment_many([(key, "n")], return_errors=True)[0], "unknown"),
    ]

    def end(act, key):
        try:
            result = act(key)
        except DatastoreError as error:
            result = error
        if isinstance(result, DatastoreError):
            assert (result.status, result.outcome_unknown) == ("HV_OUTCOME_UNKNOWN", True)
            return "unknown"
        return result

    for act, expected in ends:
        key = db.put(3, 1, n=1)
        with python.plain(databases[0]) as other, ThreadPoolExecutor(1) as thread:
            cursor = other.cursor()
            cursor.execute(f"BEGIN; SELECT FROM shard0003.entities WHERE id = {key} FOR UPDATE")
            done = thread.submit(end, act, key)
            waiting = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            eventually(lambda: databases[0].value(waiting) is not None)
            cursor.execute(f"SELECT pg_terminate_backend(({waiting}))")
            cursor.execute("ROLLBACK")
            assert done.result() == expected


# ---- some attributes ----


def test_only_some_attributes_are_fetched(db, either, key):
    assert list(either.get(key, only=["name", "not there"])) == [key.id, 1, {"name": "Ada"}]
    assert either.get(key, only={"title", "born"})["body"] == {"title": None, "born": "1815"}
    assert either.get(key, only=())["body"] == {}
    assert either.get(key, only=None)["body"] == ADA
    assert either.get(key, only=["name"]).version == db.get(key, version=True).version
    assert either.get(MISSING, only=["name"]) is None
    rows = either.get_many([key, MISSING, key], only=(each for each in ["name"]))
    assert [row and row["body"] for row in rows] == [{"name": "Ada"}, None, {"name": "Ada"}]


def test_only_some_attributes_are_streamed(db, key):
    found = dict(db.get_stream((each for each in (key, MISSING)), only=iter(["born"])))
    assert (found[0]["body"], found[1]) == ({"born": "1815"}, None)


# ---- asyncio ----


def test_thousands_of_tasks_increment_at_once(db, key):
    async def work():
        async with aio.Session(db) as session:
            return await asyncio.gather(*(session.increment(key, "n") for _ in range(2000)))

    assert sorted(asyncio.run(work())) == list(range(1, 2001))


def test_a_cancelled_change_goes_on(db, databases, key):
    async def work():
        async with aio.Session(db) as session:
            with python.plain(databases[0]) as other:
                cursor = other.cursor()
                cursor.execute("BEGIN; LOCK TABLE shard0003.entities IN EXCLUSIVE MODE")
                with pytest.raises(asyncio.TimeoutError):
                    await asyncio.wait_for(session.merge(key, {"a": "b"}), 0.1)
                assert session.pending == 1
                cursor.execute("ROLLBACK")

    asyncio.run(work())
    assert db.get(key)["body"] == {**ADA, "a": "b"}
