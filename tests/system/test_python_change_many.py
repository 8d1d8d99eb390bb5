"""Python changes many entities at once: lists, streams, and Changes of all kinds."""

from decimal import Decimal

import pytest

from harness import python
from harness.python import connections, databases, db, either, session  # noqa: F401

python.provide()

from hv.datastore import ChangedError, DatastoreError, KeyTypeError
from hv.entity import Change, Key

MISSING = Key(307821103844175872 & ~(8191 << 10) | 4 << 10)  # of shard 4: nobody puts under it


@pytest.fixture
def keys(db):
    """Of both servers."""
    return db.put_many([(1 + n % 16, 1, {"n": n}) for n in range(40)])


def bodies(db, keys):
    return [row and row["body"] for row in db.get_many(keys)]


def test_many_are_replaced(db, either, keys):
    results = either.replace_many((key, 2, {"m": n}) for n, key in enumerate(keys))
    assert results == [True] * 40
    assert bodies(db, keys) == [{"m": str(n)} for n in range(40)]
    assert either.replace_many([(keys[0], 3, None), (MISSING, 3, None)]) == [True, False]
    assert list(db.get(keys[0])) == [keys[0].id, 3, {}]


def test_many_are_merged(db, either, keys):
    changes = [
        (keys[0], {"a": 1}),
        (keys[1], None, ["n"]),
        (MISSING, {"a": 1}),
        (keys[2], {"a": 1}, {"n"}),
    ]
    assert either.merge_many(changes) == [True, True, False, True]
    assert bodies(db, keys[:4]) == [{"n": "0", "a": "1"}, {}, {"a": "1"}, {"n": "3"}]


def test_many_are_incremented(db, either, keys):
    changes = [(keys[5], "n"), (keys[6], "n", -10), (MISSING, "n"), (keys[7], "m", Decimal("0.5"))]
    assert either.increment_many(changes) == [6, -4, None, Decimal("0.5")]
    assert bodies(db, keys[5:8]) == [{"n": "6"}, {"n": "-4"}, {"n": "7", "m": "0.5"}]


def test_many_are_deleted(db, either, keys):
    assert either.delete_many([*keys[:20], MISSING]) == [True] * 20 + [False]
    assert db.exists_many(keys) == [False] * 20 + [True] * 20


def test_changes_of_one_entity_are_made_in_their_order(db, either, keys):
    one, two = keys[:2]
    results = either.change_many(
        [
            *(Change.increment(key, "count", n) for n in range(100) for key in (one, two)),
            Change.merge(one, {"n": "x"}),
            Change.merge(one, remove=["count"], if_={"n": "x"}),
            Change.replace(two, 7, {"left": "1"}),
            Change.merge(two, {"right": "2"}, if_kind=7),
            Change.delete(one),
            Change.increment(one, "count"),
        ]
    )
    assert results[:200:2] == results[1:200:2] == [n * (n + 1) // 2 for n in range(100)]
    assert results[200:] == [True, True, True, True, True, None]
    assert bodies(db, [one, two]) == [None, {"left": "1", "right": "2"}]


def test_of_many_each_has_its_own_outcome(db, either, keys):
    unheld = Key(1 << 23 | 99 << 10)
    versions = [db.get(key, version=True).version for key in keys[:2]]
    db.merge(keys[1], {"n": "other"})
    changes = [
        Change.merge(keys[0], {"a": "b"}, if_version=versions[0]),
        Change.merge(keys[1], {"a": "b"}, if_version=versions[1]),
        Change.delete(unheld),
        Change.increment(keys[1], "n"),
        Change.delete(keys[3], if_absent=["n"]),
        Change.delete(keys[4]),
    ]
    results = either.change_many(changes, return_errors=True)
    statuses = [getattr(result, "status", result) for result in results]
    assert statuses == [True, "HV_CHANGED", "HV_NO_SERVER", "HV_INVALID", "HV_CHANGED", True]
    assert type(results[1]) is ChangedError and results[1].present["body"] == {"n": "other"}
    assert type(results[4]) is ChangedError and results[4].present["id"] == keys[3].id
    assert bodies(db, keys[:2]) == [{"n": "0", "a": "b"}, {"n": "other"}]
    assert bodies(db, keys[2:5]) == [{"n": "2"}, {"n": "3"}, None]
    with pytest.raises(ChangedError) as caught:
        either.change_many(changes[1:])
    assert caught.value.present.version == db.get(keys[1], version=True).version
    statuses = [getattr(result, "status", result) for result in caught.value.results]
    assert statuses == ["HV_CHANGED", "HV_NO_SERVER", "HV_INVALID", "HV_CHANGED", False]


def test_a_condition_is_that_of_each_of_many(db, either, keys):
    db.merge_many((key, {"state": "sold"}) for key in keys[::2])

    def changed(results):
        return [isinstance(result, ChangedError) for result in results]

    every_other = [True, False] * 20
    absent = (name for name in ["state"])  # which can be read only once
    assert (
        changed(either.merge_many([(key, {"a": "b"}) for key in keys], True, if_absent=absent))
        == every_other
    )
    increments = [(key, "m") for key in keys]
    assert changed(either.increment_many(increments, True, if_={"a": "b"})) == every_other
    replacements = [(key, 2, {}) for key in keys]
    assert changed(either.replace_many(replacements, True, if_={"m": 1})) == every_other
    assert changed(either.delete_many(keys, True, if_kind=2)) == every_other
    assert db.exists_many(keys) == every_other


def test_streams_yield_each_position_with_its_result(db, keys):
    n = range(40)
    assert dict(db.replace_stream((key, 2, {"n": 1}) for key in keys)) == dict.fromkeys(n, True)
    merges = ((key, {"a": 1}) for key in keys)
    assert dict(db.merge_stream(merges, if_kind=2)) == dict.fromkeys(n, True)
    assert dict(db.increment_stream((key, "n") for key in keys)) == dict.fromkeys(n, 2)
    changes = (Change.merge(key, {"b": 1}, if_={"n": 2}, if_absent=["b"]) for key in keys + keys)
    found = dict(db.change_stream(changes))
    assert {at: type(each) for at, each in found.items()} == {
        at: bool if at < 40 else ChangedError for at in range(80)
    }
    assert bodies(db, keys) == [{"n": "2", "a": "1", "b": "1"}] * 40
    assert dict(db.delete_stream(iter(keys), if_={"a": 1})) == dict.fromkeys(n, True)
    assert bodies(db, keys) == [None] * 40


def test_a_stream_of_more_than_are_in_flight_at_once(db):
    keys = db.put_many([(3, 1, {})] * 10000)
    results = dict(db.increment_stream((keys[n // 2], "n", "1" * 50) for n in range(20000)))
    one = int("1" * 50)
    assert [results[n] for n in range(20000)] == [one, 2 * one] * 10000


def test_what_is_no_change_is_refused(db, either, keys):
    for act in (
        lambda: either.change_many([Change.delete(keys[0]), (keys[1], {"a": "b"})]),
        lambda: either.change_many([keys[0]]),
        lambda: either.merge_many([keys[0]]),
        lambda: either.replace_many([(keys[0],)]),
        lambda: either.merge_many([(keys[0], {"a": []})]),
        lambda: either.delete_many(keys, if_absent="n"),
        lambda: either.delete_many(keys, if_version="x"),
    ):
        with pytest.raises(TypeError):
            act()
    with pytest.raises(KeyTypeError):
        either.delete_many([keys[1].id])
    changes = [(5, {"a": "b"}), (keys[2], {"a": "\0"}), (keys[3], {"a": 1})]
    results = either.merge_many(changes, return_errors=True)
    assert [type(result) for result in results] == [KeyTypeError, DatastoreError, bool]


def test_a_change_is_made_by_its_methods_alone():
    change = Change.merge(MISSING, {"a": "b"}, ["c"], if_kind=1)
    assert repr(change) == f"<Change: merge {MISSING}>"
    for make in (Change, Change.delete, Change.replace, Change.increment):
        for arguments in ((), (5,), (MISSING, [], {}, [], ())):
            with pytest.raises(TypeError):
                make(*arguments)
    with pytest.raises(DatastoreError):
        Change.delete(MISSING, if_={"a": "b"}, if_absent=["a"])
    with pytest.raises(AttributeError):
        change.key = 5


def test_what_a_change_was_made_of_may_change_afterwards(db, keys):
    set_, remove, condition = {"a": "1"}, ["n"], {"n": "0"}
    change = Change.merge(keys[0], set_, remove, if_=condition)
    set_["a"] = condition["n"] = "2"
    remove.append("a")
    del set_, remove, condition
    assert db.change_many([change]) == [True]
    assert db.get(keys[0])["body"] == {"a": "1"}
    assert isinstance(db.change_many([change], return_errors=True)[0], ChangedError)
