"""Shards that have moved: operations follow them, whatever the configuration says.

The shards are moved by hand, see harness/moved.py.
"""

import threading

import pytest

from harness import eventually, hv, make_shards, store_config
from harness.moved import Moving, is_there, moved, row, server_name
from harness.store_tool import make_tool, step  # noqa: F401
from harness.stress import check, pause, stress  # noqa: F401

SHARD = 3


@pytest.fixture
def tool(make_tool, store):
    return make_tool(store, log=True)


def reports(tool):
    return [event.log for event in tool.log if event.status == "HV_MOVED"]


def test_each_verb_follows_in_the_same_call(make_tool, store, servers):
    one, two = servers
    tool = make_tool(store)
    key = tool.main.put(SHARD, 1, {"n": "1"}).ok().key
    moved(SHARD, one, two)
    moves = [
        lambda main: main.get(key).ok(),
        lambda main: main.get_only(key, ["n"]).ok(),
        lambda main: main.exists(key).ok(),
        lambda main: main.put(SHARD, 1, {"n": "2"}).ok(),
        lambda main: main.put_key(main.reserve(SHARD, 1).ok().keys[0], 1, {}).ok(),
        lambda main: main.reserve(SHARD, 3).ok(),
        lambda main: main.replace(key, 1, {"n": "3"}).ok(),
        lambda main: main.merge(key, {"m": "4"}).ok(),
        lambda main: main.increment(key, "n", "1").ok(),
        lambda main: main.delete(key).ok(),
    ]
    for move in moves:
        move(make_tool(store).main)
    assert tool.main.get(key).status == "HV_NOT_FOUND"
    assert two.value("SELECT count(*) FROM shard0003.entities") == 2


def test_it_is_reported_once_and_then_remembered(tool, servers):
    one, two = servers
    key = tool.main.put(SHARD, 1, {"n": "1"}).ok().key
    moved(SHARD, one, two)
    for _ in range(3):
        assert tool.main.get(key).ok().dict == {"n": "1"}
    (report,) = reports(tool)
    assert report == '-- shard 3 has moved from server "one" to server "two" (generation 1)'
    asked = [event for event in tool.log if "shard_locations" in event.log]
    assert len(asked) == 1
