"""Finding entities over several shards and servers: all of them, each once, in the order of keys."""

import random

import pytest

from harness import eventually, hv, make_shards, store_config
from harness.store_tool import make_tool, relayed_store, step  # noqa: F401

pytestmark = pytest.mark.threads

ONE, TWO = 0, 1
SHARDS = list(range(1, 17))


def puts(count, shards=SHARDS):
    return [
        {"shard": shards[i % len(shards)], "kind": i % 3, "dict": {"n": str(i), "user": str(i % 7)}}
        for i in range(count)
    ]


def fill(tool, count, shards=SHARDS):
    """Put entities, and return them in the order of their keys: [key, kind, dict]."""
    operations = puts(count, shards)
    keys = [item["key"] for item in tool.main.put_many(operations).ok().items]
    return sorted([key, o["kind"], o["dict"]] for key, o in zip(keys, operations))


def find(tool, **selection):
    """All entities that it selects."""
    tool.main.find(selection).ok()
    return tool.main.next().gives("HV_NOT_FOUND").items


@pytest.fixture
def tool(make_tool, store):
    return make_tool(store)


# ---- which, and in which order ----


@pytest.mark.parametrize("count", [0, 1, 5, 16, 255, 256, 257, 3000])
def test_all_are_found_in_the_order_of_their_keys(tool, count):
    everything = fill(tool, count)
    assert find(tool) == everything
    assert find(tool, newest=True) == everything[::-1]


@pytest.mark.parametrize("limit", [1, 2, 63, 64, 65, 100, 256, 257, 700, 5000])
def test_a_limit_ends_the_answer(tool, limit):
    everything = fill(tool, 1000)
    assert find(tool, limit=limit) == everything[:limit]
    assert find(tool, newest=True, limit=limit) == everything[::-1][:limit]
