"""Threads that increment one counter: no increment is lost, and none is made twice."""

import os

import pytest

from changing import SHARD, changed, content, shared_tool  # noqa: F401
from harness import eventually
from harness.command import program, spawn
from harness.store_tool import make_tool  # noqa: F401
from sweeping import DIRECTIONS, one, relayed  # noqa: F401

pytestmark = [pytest.mark.threads, pytest.mark.races]

THREADS = 16
CUTS = 20
COUNT = int(os.environ.get("HV_TEST_INCREMENTS", "100"))  # by each thread; 10000 is a minute or two


def value(database, key):
    return int(content(database, [key])[key][1]["n"])


@pytest.mark.parametrize("way", ["increment", "version", "merge"])
def test_every_increment_of_many_threads_counts(changed, shared_tool, way):
    path, (database, _) = changed
    key = shared_tool.main.put(SHARD, 1, {"n": "0", "other": "x"}).ok().key
    run = program("counter_stress", path, key, THREADS, COUNT, way, "pool_block_timeout=60s",
                  "operation_timeout=60s", timeout=3600).ok()  # fmt: skip
    acknowledged, unknown, overtaken = map(int, run.out.split())
    print(f"{way}: {acknowledged} increments, {overtaken} tries overtaken")
    assert (acknowledged, unknown) == (THREADS * COUNT, 0)
    assert content(database, [key]) == {key: (1, {"n": str(THREADS * COUNT), "other": "x"})}
    assert (overtaken > 0) == (way != "increment")


@pytest.mark.parametrize("exactly_once", ["off", "on"])
@pytest.mark.parametrize("way", ["increment", "version", "merge"])
def test_over_a_network_that_cuts_none_is_lost_or_made_twice(
    make_tool, relayed, one, way, exactly_once
):
    config, between = relayed(exactly_once=exactly_once, operation_timeout="60s")
    tool = make_tool(config)
    key = tool.main.put(3, 1, {"n": "0"}).ok().key
    tool.main.disconnect()
    process = spawn("counter_stress", config, key, THREADS, COUNT, way, "pool_block_timeout=60s")
    try:
        for turn in range(CUTS):
            between.cut_in(DIRECTIONS[turn % 2], 1 + 97 * turn % 1500)
            eventually(
                lambda: not between.waits_to_act or process.poll() is not None, timeout=60
            )
        out, err = process.communicate(timeout=300)
    finally:
        process.kill()
    assert (process.returncode, err) == (0, b""), out
    acknowledged, unknown, _ = map(int, out.split())
    print(f"{way}: {acknowledged} acknowledged, {unknown} unknown, {CUTS} cuts")
    assert acknowledged + unknown == THREADS * COUNT
    eventually(lambda: one.clients() == [])
    assert acknowledged <= value(one, key) <= acknowledged + unknown
