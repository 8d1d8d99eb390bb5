"""hv plan and hv rebalance."""

import json

import pytest

from harness import eventually, hv
from harness.moving import (
    assert_nothing_left,
    fill,
    has_shard,
    moving_servers,
    moving_store,
    shared_moving_servers,
)

FIXTURES = (moving_servers, moving_store, shared_moving_servers)


def run(store, *args):
    return hv(*args, config=store)


def lines_of(result):
    return [json.loads(line) for line in result.out.splitlines()]


def test_a_plan_changes_nothing(moving_store, moving_servers):
    one, two = moving_servers
    plan = run(moving_store, "plan", "--by", "count", "--drain", "two", "--json").ok().json()
    assert list(plan) == ["by", "moves", "servers"]
    assert [(each["shard"], each["source"], each["target"]) for each in plan["moves"]] == [
        (shard, "two", "one") for shard in (5, 6, 7)
    ]
    assert all(each["bytes"] > 0 and each["seconds"] > 0 for each in plan["moves"])
    servers = {each["server"]: each for each in plan["servers"]}
    assert (servers["two"]["shards_before"], servers["two"]["shards_after"]) == (3, 0)
    assert servers["two"]["drained"] and servers["one"]["bytes_after"] > servers["one"]["bytes_before"]
    shown = run(moving_store, "plan", "--by", "count", "--drain", "two").ok()
    assert "3 moves" in shown.out and "drained" in shown.out
    assert has_shard(two, 5) and not has_shard(one, 5)


def test_what_is_even_stays(moving_store):
    assert "no move is worth it" in run(moving_store, "plan", "--by", "count").ok().out
    plan, summary = lines_of(run(moving_store, "rebalance", "--by", "count", "--json").ok())
    assert plan["event"] == "plan" and plan["moves"] == [] and len(plan["servers"]) == 2
    assert summary == {"shards": [], "done": 0, "failed": 0, "stopped": 0}


def test_json_has_the_plan_and_then_what_a_move_prints(moving_store, moving_servers):
    one, two = moving_servers
    refused = run(moving_store, "rebalance", "--drain", "two", "--json")
    assert refused.code == 2 and "--yes" in refused.err and len(lines_of(refused)) == 1
    done = run(moving_store, "rebalance", "--drain", "two", "--max-moves", 2, "--yes", "--json")
    plan, *events, summary = lines_of(done.ok())
    assert plan["event"] == "plan" and plan["by"] == "size" and len(plan["moves"]) == 2
    assert {event["event"] for event in events} == {"phase"}
    assert summary["done"] == 2
    assert [each["shard"] for each in summary["shards"]] == [each["shard"] for each in plan["moves"]]
    assert_nothing_left(one, two)


def test_the_time_of_all_moves_is_that_of_so_many_at_a_time(moving_store, moving_servers):
    one, two = moving_servers
    plan = ("--drain", "two", "--by", "count")
    assert "3 moves" in run(moving_store, "plan", *plan).ok().out
    assert "about 6.0 s one after the other\n" in run(moving_store, "plan", *plan).out
    single = run(moving_store, "plan", *plan, "--max-moves", 1).ok().out
    assert single.endswith("about 2.0 s\n"), single
    refused = run(moving_store, "rebalance", *plan, "--jobs", 2)
    assert "about 4.0 s with 2 at a time\n" in refused.out, "two, and then the third one"
    done = run(moving_store, "rebalance", *plan, "--jobs", 8, "--yes").ok()
    assert "about 2.0 s with 8 at a time\n\nshard " in done.out, done
    assert_nothing_left(one, two)


def test_rows_that_nobody_has_counted_yet_are_estimated(moving_store, moving_servers):
    fill(moving_servers[1], 5, 3000)
    eventually(lambda: "~3,000" in run(moving_store, "plan", "--by", "rows", "--drain", "two").ok().out)


def test_the_largest_shard_comes_first_and_no_more_than_is_asked_for(moving_store, moving_servers):
    fill(moving_servers[0], 2, 2000)
    plan = run(moving_store, "plan", "--drain", "one", "--max-moves", 1, "--json").ok().json()
    assert [each["shard"] for each in plan["moves"]] == [2]


@pytest.mark.parametrize("command", ["plan", "rebalance"])
@pytest.mark.parametrize(
    "args, said",
    [
        (["--by", "zzz"], 'invalid value of the option "by": "zzz"'),
        (["--weight", "one"], 'invalid value of the option "weight": "one"'),
        (["--weight", "one=-1"], 'invalid value of the option "weight": "one=-1"'),
        (["--max-moves", "x"], 'invalid value of the option "max_moves": "x"'),
        (["--drain", "onne"], 'the configuration has no server "onne"'),
        (["--drain", "one", "--weight", "two=0"], "no server is left to have shards"),
    ],
)
def test_mistakes(moving_store, command, args, said):
    refused = run(moving_store, command, *args)
    assert refused.code == 2 and said in refused.err


def test_it_does_not_move_without_being_asked_twice(moving_store, moving_servers):
    refused = run(moving_store, "rebalance", "--drain", "two")
    assert refused.code == 2 and "--yes" in refused.err
    assert has_shard(moving_servers[1], 5)


def test_a_drained_server_is_removable_once_it_keeps_nothing(moving_store, moving_servers):
    one, two = moving_servers
    fill(two, 5, 100)
    drain = ("rebalance", "--drain", "two", "--jobs", 2, "--yes")
    kept = run(moving_store, *drain, "--keep-undo", "1h").ok()
    assert "hv move --clean" in kept.err and "remove the section" not in kept.err
    assert all(has_shard(one, shard) for shard in (5, 6, 7))
    run(moving_store, "move", "--clean").ok()
    assert "remove the section [server two]" in run(moving_store, *drain).ok().err
    assert one.value("SELECT count(*) FROM shard0005.entities") == 100
    assert_nothing_left(one, two)
