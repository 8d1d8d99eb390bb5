"""Everything is killed, stopped and cut at every step of a move; afterwards resuming and taking back
both end well, nothing is left behind, and no row is lost.

All cases run with HV_TEST_CRASHES=all, one in five with HV_TEST_CRASHES=5; otherwise few, always the
same.
"""

import os
import time
import zlib

import pytest
from harness.moving import (
    Stepping,
    Writer,
    assert_nothing_left,
    fill,
    has_shard,
    moving_config,
    moving_servers,
    moving_store,
    own_moving_servers,
    reached,
    run_move,
    shared_moving_servers,
)
from harness.command import make_shards
from harness.config import store_config
from harness.wait import eventually

FIXTURES = (moving_servers, moving_store, own_moving_servers, shared_moving_servers)

SAMPLE = 16
CRASHES = os.environ.get("HV_TEST_CRASHES", "")

# Where a move comes along, in this order; from AFTER on the shard is at the target.
PLACES = [
    "looking",
    "between the rows",
    "begun",
    "schema",
    "remains: unsubscribed",
    "schema: dumped",
    "streaming",
    "streaming: published",
    "streaming: slot",
    "copying",
    "indexing",
    "indexing: sent",
    "catching_up",
    "verifying",
    "ready",
    "ready: tried",
    "switching",
    "fence: locked",
    "fence: arrived",
    "fence: before commit",
    "fence: after commit",
    "switched",
    "switched: published",
    "returning",
    "cleaning",
    "remains: unsubscribed#4",
    "remains: no slot#4",
    "between the rows#99",
]
AFTER = PLACES.index("fence: after commit")
UNDO_PLACES = [
    "looking",
    "between the rows#2",
    "catching_up",
    "verifying",
    "ready: tried",
    "fence: locked",
    "fence: before commit",
    "fence: after commit",
    "switched: published",
    "cleaning",
    "remains: no streams",
]
UNDO_AFTER = UNDO_PLACES.index("fence: after commit")
ENDS = ("resume", "abort")


def sampled(cases, part=SAMPLE):
    part = {"all": 1, "": part}.get(CRASHES) or int(CRASHES)
    return [case for case in cases if zlib.crc32(repr(case).encode()) % part == 0]


def end(config, how, **options):
    """Resume, or take back. Where the move had not begun, or had ended, there is nothing to do."""
    ended = run_move(config, how, 3, max_wait="20s", **options)
    if ended.result.code != 0 and "no move of shard 3 is under way" in (ended.error or ""):
        return None
    if ended.result.code != 0 and "is over" in (ended.error or ""):
        return None
    return ended.ok()


def check(one, two, writer, where):
    here, there = (two, one) if where == "two" else (one, two)
    assert has_shard(here, 3)
    assert not has_shard(there, 3)
    writer.check(here)
    assert_nothing_left(one, two)


def clean_up(config, keep):
    if keep:
        cleaned = run_move(config, "clean", 3, max_wait="20s")
        assert cleaned.result.code == 0 or "no old copy" in cleaned.error, cleaned


@pytest.mark.parametrize(
    "place,how,keep",
    sampled([(p, h, k) for p in PLACES for h in ENDS for k in (False, True)]),
)
def test_the_command_is_killed(moving_store, moving_servers, place, how, keep):
    one, two = moving_servers
    fill(one, 3, 200)
    options = {"keep_undo": "1h"} if keep else {}
    with Writer(3, one, two) as writer:
        killed = run_move(moving_store, "move", 3, 1, at={place: "kill"}, **options)
        # Some places are only there if the old copy is kept.
        assert killed.result.code == -9 or killed.ok(), killed
        ended = end(moving_store, how)
    after = has_shard(two, 3)
    assert ended is None or after == (ended.phase != "aborted"), ended
    clean_up(moving_store, keep and after)
    check(one, two, writer, "two" if after else "one")
    assert writer.longest < 2


# ---- servers and connections ----


class Trouble:
    """Two servers of the test's own behind relays, and a store on them."""

    def __init__(self, tmp_path, servers, relay):
        self.one, self.two = servers
        self.relays = [relay(server.server) for server in servers]
        places = {
            name: {**each.params("test"), **moved(server)}
            for name, each, server in zip(("one", "two"), self.relays, servers)
        }
        self.config = store_config(
            tmp_path / "moving.conf", {"one": (places["one"], "1-4"), "two": (places["two"], "5-8")}
        )
        make_shards(self.config, self.one, self.two)
        fill(self.one, 3, 200)

    def strike(self, event):
        """Let it happen; returns the function that ends it."""
        what, side = event.split()
        database = self.one if side == "source" else self.two
        relay = self.relays[0 if side == "source" else 1]
        server = database.server
        if what == "kill":
            server.kill9()
            return server.start
        if what == "stop":
            server.freeze()
            return server.thaw
        if what == "cut":
            relay.cut()
            relay.refuse()
            return lambda: relay.refuse(False)
        relay.stall()  # not a word

        def mend():
            relay.cut()
            relay.resume()

        return mend


def moved(server):
    """The other server reaches this one directly, not through the relay."""
    params = server.params()
    return {
        "move_host": params["host"],
        "move_port": params["port"],
        "move_password": params["password"],
    }


@pytest.fixture
def trouble(tmp_path, own_moving_servers, relay):
    return Trouble(tmp_path, own_moving_servers, relay)


EVENTS = [
    f"{what} {side}" for what in ("kill", "stop", "cut", "mute") for side in ("source", "target")
]
STRUCK = [place for place in PLACES if "#" not in place and place != "looking"]


@pytest.mark.parametrize(
    "place,event,how",
    sampled([(p, e, h) for p in STRUCK for e in EVENTS for h in ("goes on", *ENDS)], 60),
)
def test_a_server_is_in_trouble(trouble, place, event, how):
    one, two = trouble.one, trouble.two
    with Writer(3, one, two) as writer:
        with Stepping(
            trouble.config, "move", 3, 1, place=place, keep_undo="1h", max_wait="60s"
        ) as stepping:
            assert stepping.came
            mend = trouble.strike(event)
            if how == "goes on":
                stepping.go_on()
                time.sleep(1)
                mend()
                ended = stepping.end().ok("kept")
            else:
                stepping.kill()
                time.sleep(0.2)
                mend()
                ended = end(trouble.config, how)
    after = has_shard(two, 3)
    assert ended is None or after == (ended.phase != "aborted"), ended
    if event.startswith(("cut", "mute")) and PLACES.index(place) < AFTER:
        assert writer.longest < 2.5  # the server takes its locks back by itself
    clean_up(trouble.config, after)
    check(one, two, writer, "two" if after else "one")


# ---- undo ----


@pytest.mark.parametrize(
    "place,how", sampled([(p, h) for p in UNDO_PLACES for h in ENDS], 4)
)
def test_the_command_is_killed_while_it_undoes(moving_store, moving_servers, place, how):
    one, two = moving_servers
    fill(one, 3, 200)
    with Writer(3, one, two) as writer:
        run_move(moving_store, "move", 3, 1, keep_undo="1h").ok("kept")
        killed = run_move(moving_store, "undo", 3, at={place: "kill"})
        assert killed.result.code == -9 or killed.ok("done"), killed
        ended = end(moving_store, how)
    back = has_shard(one, 3)
    if not back:
        assert ended is None or ended.phase in ("aborted", "kept"), ended
        clean_up(moving_store, True)
    check(one, two, writer, "one" if back else "two")


# ---- offline ----

OFFLINE_PLACES = [
    "begun",
    "schema: dumped",
    "copying",
    "offline: locked",
    "indexing: sent",
    "verifying",
    "ready: tried",
    "fence: locked",
    "fence: before commit",
    "fence: after commit",
    "cleaning",
]


@pytest.mark.parametrize("place,how", sampled([(p, h) for p in OFFLINE_PLACES for h in ENDS], 6))
def test_the_command_is_killed_while_it_moves_offline(moving_store, moving_servers, place, how):
    one, two = moving_servers
    fill(one, 3, 200)
    with Writer(3, one, two) as writer:
        killed = run_move(moving_store, "move", 3, 1, at={place: "kill"}, offline="on")
        assert killed.result.code == -9
        ended = end(moving_store, how)
    after = has_shard(two, 3)
    assert after == (ended.phase != "aborted"), ended
    check(one, two, writer, "two" if after else "one")
