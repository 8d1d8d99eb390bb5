"""Finding, counting and explaining in Python: all shards and servers as if they were one table."""

import datetime
import itertools
import math
import os
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import finding
from finding import as_lists, filled  # noqa: F401
from harness import python
from harness.python import connections, databases, db  # noqa: F401
from test_python_aio import run

python.provide()

from hv import aio
from hv.datastore import Count, DatastoreError
from hv.entity import Key, Row, key_bound

EXAMPLES = int(os.environ.get("HV_TEST_EXAMPLES", "150"))


def several(function):
    """Many random examples against databases that stay the same."""
    checks = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
    return settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=checks)(function)


# ---- against the model ----


@several
@given(st.data())
def test_a_find_returns_what_the_model_has(db, filled, data):  # noqa: F811
    ids = sorted(filled.entities)
    selection = data.draw(finding.finds(ids), "selection")
    try:
        found = as_lists(db.find(**selection))
    except DatastoreError as error:
        assert error.status == "HV_INVALID", error
        assert contradicts(selection), error
    else:
        assert found == filled.find(**finding.for_model(selection))


def contradicts(selection):
    """May it be refused? Two values for an attribute, one that is absent, or bounds that cross."""
    where = set(selection.get("where", {}).items()) | set(selection.get("has", {}).items())
    wanted = [name for name, _ in where] + list(selection.get("one_of", {}))
    there = {*wanted, *selection.get("exists", ())}
    lows = [int(selection[each]) for each in ("from_key",) if each in selection]
    lows += [finding.key_bound(selection["since"])] if "since" in selection else []
    highs = [int(selection[each]) for each in ("until_key",) if each in selection]
    highs += [finding.key_bound(selection["before"])] if "before" in selection else []
    return (
        len(set(wanted)) < len(wanted)
        or bool(there & set(selection.get("lacks", ())))
        or (bool(lows) and bool(highs) and max(lows) > min(highs))
    )


@several
@given(st.data())
def test_counts_are_those_of_the_model(db, filled, data):  # noqa: F811
    selection = data.draw(finding.selections(sorted(filled.entities)), "selection")
    by = data.draw(st.sampled_from([None, "kind", "shard", "server", "second", "day"]), "by")
    try:
        counted = db.count(by, **selection)
    except DatastoreError as error:
        assert error.status == "HV_INVALID" and contradicts(selection), error
        return
    expected = filled.count(by, db.server_of, **finding.for_model(selection))
    assert counted == expected
    assert counted.missing == []
    if by is not None:
        assert list(counted) == sorted(counted)
        assert counted.total == sum(expected.values())


@several
@given(st.data())
def test_pages_by_the_last_key_make_the_whole(db, filled, data):  # noqa: F811
    newest = data.draw(st.booleans(), "newest")
    size = data.draw(st.integers(40, 500), "size")
    found, after = [], None
    while True:
        page = list(db.find(newest=newest, limit=size, after=after))
        if not page:
            break
        found += as_lists(page)
        after = page[-1]["id"]
    assert found == filled.find(newest=newest)


def test_what_a_loop_of_an_event_loop_returns_is_the_same(db, filled):  # noqa: F811
    async def work():
        async with aio.Session(db) as session:
            selection = {"kind": [1, 2], "newest": True}
            found = [list(row) async for row in session.find(**selection)]
            assert found == filled.find(kinds=[1, 2], newest=True)
            assert await session.count() == len(filled.entities)
            assert await session.count("kind") == filled.count("kind")
            assert [plan.shard for plan in await session.explain([3, 12])] == [3, 12]

    run(work)


# ---- rows ----


def test_the_rows_are_those_of_get(db, filled):  # noqa: F811
    (row,) = db.find(newest=1)
    assert type(row) is Row
    assert row == db.get(Key(row["id"]))
    assert (row[0], row[1], row[2]) == (row["id"], row["type"], row["body"])
    assert isinstance(row["body"], dict)
    with pytest.raises(AttributeError, match="version"):
        row.version


def test_values_of_other_types_are_compared_as_the_text_that_is_stored(db, filled):  # noqa: F811
    assert as_lists(db.find(where={"user": 1})) == filled.find(where={"user": "1"})
    assert as_lists(db.find(one_of={"user": {1, None}})) == filled.find(one_of={"user": [1, None]})
    assert db.count(where={"user": True}) == 0


def test_shards_can_be_given_in_any_notation(db, filled):  # noqa: F811
    wanted = filled.find(shards=[3, 9, 12])
    for shards in ("3,9,12", [3, 9, 12], (12, 3, 9), {"3", 9, "12-13"}, iter([3, "9-10", 12])):
        assert as_lists(db.find(shards)) == wanted
    assert as_lists(db.find(range(1, 9))) == filled.find(shards=range(1, 9))


def test_moments_are_utc_or_have_a_time_zone(db, filled):  # noqa: F811
    middle = Key(sorted(filled.entities)[700]).created
    aware = middle.replace(tzinfo=datetime.timezone.utc).astimezone(ZoneInfo("Asia/Kathmandu"))
    assert as_lists(db.find(since=middle)) == filled.find(since=middle)
    assert as_lists(db.find(since=aware)) == filled.find(since=middle)
    assert db.count(before=aware) == filled.count(before=middle)


# ---- counts ----


def test_a_count_is_a_number_and_counts_are_a_dict(db, filled):  # noqa: F811
    count = db.count()
    assert isinstance(count, int) and isinstance(count, Count)
    assert count == len(filled.entities) and f"{count}" == str(len(filled.entities))
    counts = db.count(by="shard")
    assert isinstance(counts, dict) and counts[5] == 0 and counts.total == count


def test_units_of_time_begin_in_the_time_zone(db, filled):  # noqa: F811
    zone = ZoneInfo("Asia/Kathmandu")
    days = {}
    for id in filled.entities:
        day = Key(id).created.replace(tzinfo=datetime.timezone.utc).astimezone(zone).date()
        days[day] = days.get(day, 0) + 1
    counts = db.count("day", zone="Asia/Kathmandu")
    assert {moment.date(): count for moment, count in counts.items()} == days
    assert all(moment.time() == datetime.time() for moment in counts)
    assert all(moment.utcoffset() == moment.astimezone(zone).utcoffset() for moment in counts)


def test_the_hour_that_comes_twice_when_summer_ends_is_two_groups(db, filled):  # noqa: F811
    hours = [datetime.datetime(2025, 10, 26, hour, tzinfo=datetime.timezone.utc) for hour in (0, 1)]
    keys = [Key(key_bound(hour) + (1 << 10)) for hour in hours]
    bounds = {"until_key": min(filled.entities)}
    for key in keys:
        db.put_key(key, 1)
    try:
        counts = db.count("hour", zone="Europe/Berlin", **bounds)
        assert counts == {hour: 1 for hour in hours}
        assert [f"{hour:%H %Z}" for hour in counts] == ["02 CEST", "02 CET"]
        assert counts.total == 2
    finally:
        assert db.delete_many(keys) == [True, True]


def test_an_estimate_comes_from_statistics(db, filled, databases):  # noqa: F811
    for database in databases:
        database.sql("ANALYZE")
    assert abs(db.count(estimate=True) - len(filled.entities)) < 200
    assert abs(db.count("shard", estimate=True)[12] - filled.count("shard")[12]) < 200


@pytest.mark.parametrize(
    "arguments",
    [
        dict(by="banana"),
        dict(by="kind", zone="UTC"),
        dict(by="day", zone="Atlantis/Poseidonis"),
        dict(by="day", zone=""),
        dict(by="day", estimate=True),
        dict(by="kind", estimate=True, where={"a": "b"}),
    ],
)
def test_counts_that_cannot_be_are_refused(db, arguments):  # noqa: F811
    with pytest.raises(DatastoreError) as caught:
        db.count(**arguments)
    assert caught.value.status == "HV_INVALID"


# ---- bad arguments ----

INVALID = [
    dict(shards=[]),
    dict(shards=""),
    dict(shards="x"),
    dict(shards=-1),
    dict(shards=8192),
    dict(shards=2**40),
    dict(kind=[]),
    dict(kind=32768),
    dict(where={}),
    dict(where={"a": "\0"}),
    dict(where={"\ud800": "a"}),
    dict(where={"a": 1}, lacks=["a"]),
    dict(where={"a": 1}, one_of={"a": [2]}),
    dict(one_of={}),
    dict(one_of={"a": []}),
    dict(one_of={"a": ["\ud800"]}),
    dict(has={}),
    dict(exists=[]),
    dict(exists=["a\0"]),
    dict(lacks=()),
    dict(from_key=0),
    dict(from_key=2**64),
    dict(from_key=5, until_key=4),
    dict(until_key=-1),
    dict(since=datetime.datetime(2020, 1, 2), before=datetime.datetime(2020, 1, 1)),
    dict(timeout=0),
    dict(timeout=-1),
    dict(timeout=math.nan),
    dict(skip=[]),
    dict(skip=""),
    dict(skip="nobody"),
    dict(skip=["server 1", "nobody"]),
]
INVALID_FIND = [
    dict(after=0),
    dict(limit=0),
    dict(limit=-1),
    dict(newest=0),
    dict(newest=5, limit=5),
    dict(only=["\0"]),
]
WRONG = [
    dict(shards=1.5),
    dict(shards=[1, None]),
    dict(kind="a"),
    dict(kind=1.0),
    dict(where="a"),
    dict(where=[("a", "b")]),
    dict(where={"a": ["b"]}),
    dict(where={1: "b"}),
    dict(one_of={"a": "xyz"}),
    dict(one_of={"a": 5}),
    dict(one_of={"a": [object]}),
    dict(one_of={5: [5]}),
    dict(one_of=[("a", [1])]),
    dict(exists="name"),
    dict(exists=[5]),
    dict(lacks="name"),
    dict(from_key="1"),
    dict(until_key=1.5),
    dict(since="2020-01-01"),
    dict(since=datetime.date(2020, 1, 1)),
    dict(before=1577836800),
    dict(timeout="1"),
    dict(skip=5),
    dict(colour="red"),
]
WRONG_FIND = [
    dict(after=datetime.datetime(2020, 1, 1)),
    dict(limit="5"),
    dict(limit=1.5),
    dict(newest="5"),
    dict(only="name"),
    dict(only=[5]),
]


def ways(db):
    return db.find, db.explain, db.count, db.feed


@pytest.mark.parametrize("arguments", INVALID + INVALID_FIND, ids=str)
def test_values_that_cannot_be_are_refused_before_anything_is_sent(db, arguments):  # noqa: F811
    for call in ways(db)[: 4 if arguments in INVALID else 2]:
        with pytest.raises(DatastoreError) as caught:
            call(**arguments)
        assert caught.value.status == "HV_INVALID"
    assert db.pool_stats()["opened"] == 0


@pytest.mark.parametrize("arguments", WRONG + WRONG_FIND, ids=str)
def test_wrong_types_are_refused_before_anything_is_sent(db, arguments):  # noqa: F811
    for call in ways(db)[: 4 if arguments in WRONG else 2]:
        with pytest.raises(TypeError) as caught:
            call(**arguments)
        assert not isinstance(caught.value, DatastoreError)
    assert db.pool_stats()["opened"] == 0


def test_what_has_no_order_takes_none(db):  # noqa: F811
    for call, name in itertools.product((db.count, db.feed), ("newest", "after")):
        with pytest.raises(TypeError, match=f"'{name}'"):
            call(**{name: 1})
    for name in ("limit", "only"):
        with pytest.raises(TypeError, match=f"'{name}'"):
            db.count(**{name: 1})
    with pytest.raises(TypeError, match="positional"):
        db.find(3, "server 1")


def test_a_shard_that_no_server_holds_is_an_error(db):  # noqa: F811
    for call in ways(db):
        with pytest.raises(DatastoreError) as caught:
            list(call(shards=[3, 4711]))
        assert caught.value.status == "HV_NO_SERVER"


def test_a_session_refuses_the_same(db):  # noqa: F811
    async def work():
        async with aio.Session(db) as session:
            with pytest.raises(TypeError):
                session.find(kind="a")
            with pytest.raises(DatastoreError, match="limit"):
                session.find(limit=0)
            with pytest.raises(DatastoreError):
                await session.count("banana")
            with pytest.raises(TypeError):
                await session.explain(only="a")

    run(work)


# ---- explaining ----


def test_each_shard_has_a_plan(db, filled):  # noqa: F811
    plans = db.explain(newest=20)
    assert [plan.shard for plan in plans] == list(range(1, 17))
    assert all(plan.plan.endswith("\n") and plan.warning is None for plan in plans)
    (plan,) = db.explain(12, where={"user": 1})
    shard, text, warning = plan
    assert (shard, text, warning) == (12, plan.plan, plan.warning)
