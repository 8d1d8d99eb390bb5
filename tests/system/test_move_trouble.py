"""Servers are killed and stopped, and connections cut, at every place that a move comes to. The move
goes on by itself, or the command is killed too, and resuming and taking back both end well; nothing
is left behind, and the shard is as it was, with all that was written since.

crashing.py has the list of places, and says which cases run. All of them take hours: -n 8 runs eight
at a time, as they mostly wait.
"""

import concurrent.futures
import time

import pytest
from crashing import BEFORE, ENDS, STORIES, Shard, clean_up, end, sampled
from harness.moving import own_moving_servers
from harness.command import make_shards
from harness.config import store_config

FIXTURES = (own_moving_servers,)


class Trouble:
    """Two servers of the test's own behind relays, and a store on them."""

    # How long each lasts, in seconds.
    LASTS = {"kill": 0.5, "stop": 10, "cut": 1, "mute": 2}

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

    def strike(self, event):
        """Let it happen; returns the function that waits for its end."""
        what, side = event.split()
        number = 0 if side == "one" else 1
        relay = self.relays[number]
        server = (self.one, self.two)[number].server
        if what == "kill":
            server.kill9()
        elif what == "stop":
            server.freeze()
        elif what == "cut":
            relay.cut()
            relay.refuse()
        else:
            relay.stall()  # not a word

        def mend():
            time.sleep(self.LASTS[what])
            if what == "kill":
                server.start()
            elif what == "stop":
                server.thaw()
            elif what == "cut":
                relay.refuse(False)
            else:
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


EVENTS = [f"{what} {side}" for what in Trouble.LASTS for side in ("one", "two")]


def struck(story):
    """Each step, each place in it, and the moments between its rows."""
    return [place for place in story.crashes_at if not place.startswith((BEFORE, "looking", "remains"))]


@pytest.mark.parametrize(
    "name,place,event,how",
    sampled(
        [
            (n, p, e, h)
            for n, story in STORIES.items()
            for p in struck(story)
            for e in EVENTS
            for h in ("goes on", *ENDS)
        ],
        651,
    ),
)
def test_a_server_is_in_trouble(trouble, name, place, event, how):
    """How it goes on is asked for while the trouble lasts."""
    story = STORIES[name]
    shard = Shard(story, trouble.one, trouble.two)
    with concurrent.futures.ThreadPoolExecutor(1) as pool, shard.writer:
        story.prepare(trouble.config)
        shard.writer.longest = 0
        with story.stepping(trouble.config, place) as stepping:
            assert stepping.came
            mend = trouble.strike(event)
            if how == "goes on":
                stepping.go_on()
                mend()
                stepping.end().ok()
            else:
                stepping.kill()
                ended = pool.submit(end, trouble.config, how, max_wait="40s")
                mend()
                ended.result()
    if event.startswith(("cut", "mute")):
        assert shard.writer.longest < 3.5  # the server takes its locks back by itself
    clean_up(trouble.config)
    place_then = story.goal if how == "goes on" else story.ends_at(place, how)
    shard.check(place_then)


@pytest.mark.parametrize("name", ["move", "offline"])
def test_a_target_that_is_silent_while_sessions_are_opened(trouble, name, monkeypatch):
    """For longer than opening one may take."""
    monkeypatch.setitem(Trouble.LASTS, "stop", 13)
    test_a_server_is_in_trouble(trouble, name, "verifying", "stop two", "goes on")
