"""The shard of a value in Python."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness import hv, python, store_config
from test_spread import SETS, shard_of, vectors

python.provide()

from hv import aio
from hv.datastore import Datastore, DatastoreError, PoolError

NOWHERE = {"host": "/nonexistent", "user": "nobody"}
SPREAD = [0, 1, 2, 9, 100]


@pytest.fixture(scope="module")
def db():
    with Datastore([dict(shards="0-8192", **NOWHERE)], spread="0-3,100,9") as opened:
        yield opened


@pytest.mark.parametrize("column", SETS)
def test_the_pages_vectors(column):
    spread = column.removeprefix("of ")
    with Datastore([dict(shards="0-8192", **NOWHERE)], spread=spread) as opened:
        assert opened.spread == SETS[column]
        for value, shards in vectors():
            assert opened.shard_of(value) == shards[column]


@settings(deadline=None)
@given(st.binary() | st.text(st.characters(blacklist_categories=["Cs"])))
def test_any_value_has_the_shard_that_the_rule_says(db, value):
    data = value.encode() if isinstance(value, str) else value
    expected = shard_of(data, SPREAD)
    assert db.shard_of(value) == expected
    assert db.shard_of(data) == db.shard_of(bytearray(data)) == expected
    assert db.shard_of(memoryview(data)) == expected


def test_a_session_has_it_too(db):
    async def ask():
        async with aio.Session(db) as session:
            return session.shard_of("a@example.org"), session.shard_of(b"\xff")

    assert asyncio.run(ask()) == (db.shard_of("a@example.org"), db.shard_of(b"\xff"))


def test_the_command_reads_the_same_configuration(tmp_path):
    config = store_config(tmp_path / "c.conf", {"one": (NOWHERE, "0-16")}, spread="3-12")
    with Datastore.from_config(config) as opened:
        for value in ("", "a", "Zoë"):
            shown = int(hv("key", "--of", value, config=config).ok().out)
            assert opened.shard_of(value) == shown


def test_without_the_option_there_is_no_answer_but_the_line_to_write():
    with Datastore([dict(shards="0-4,9", **NOWHERE)]) as opened:
        assert opened.spread == []
        with pytest.raises(DatastoreError, match='the option "spread" is not set') as caught:
            opened.shard_of("a")
        assert caught.value.status == "HV_BAD_CONFIG"
        assert caught.value.hint.endswith("write into [hypervault]: spread = 0-4,9")


@pytest.mark.parametrize("value", [None, 7, 1.5, ["a"], object()])
def test_other_types_are_no_values(db, value):
    with pytest.raises(TypeError, match="a value must be str or bytes"):
        db.shard_of(value)


def test_text_that_is_not_unicode_is_refused(db):
    with pytest.raises(DatastoreError, match="not text that UTF-8 can encode") as caught:
        db.shard_of("\ud800")
    assert caught.value.status == "HV_INVALID"


def test_a_closed_store_has_no_answer():
    opened = Datastore([dict(shards="0-4", **NOWHERE)], spread="0-4")
    opened.close()
    for ask in (lambda: opened.shard_of("a"), lambda: opened.spread):
        with pytest.raises(PoolError, match="closed"):
            ask()


@pytest.mark.parametrize(
    "spread, message",
    [("0-5", "no server holds the shards 4"), ("x", "not a shard"), (None, "not a shard")],
)
def test_a_set_that_cannot_be_is_refused(spread, message):
    with pytest.raises(DatastoreError, match=message) as caught:
        Datastore([dict(shards="0-4", **NOWHERE)], spread=spread)
    assert caught.value.status == "HV_BAD_CONFIG"
