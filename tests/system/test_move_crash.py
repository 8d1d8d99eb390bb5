"""The command is killed at every place that a move comes to; afterwards resuming and taking back both
end well, nothing is left behind, and the shard is as it was, with all that was written since.

crashing.py has the list of places, and says which cases run.
"""

import pytest
from crashing import ENDS, STORIES, Shard, clean_up, end, numbered, sampled
from harness.moving import moving_servers, moving_store, shared_moving_servers

FIXTURES = (moving_servers, moving_store, shared_moving_servers)


def came_to(trace):
    """The places, of what is tried again only the last time."""
    again = ("fence: locked", "fence: arrived", "ready: tried")
    kept = [
        place
        for at, place in enumerate(trace)
        if place not in again or place not in trace[at + 1 :]
    ]
    return list(numbered(kept))


@pytest.mark.parametrize("name", STORIES)
def test_every_place_is_in_the_matrix(moving_store, moving_servers, name):
    story = STORIES[name]
    story.fill(moving_servers[0])
    story.prepare(moving_store)
    moved = story.run(moving_store, trace=True).ok()
    trace = [line for line in moved.result.err.splitlines() if line != "over"]
    assert came_to(trace) == story.places
    clean_up(moving_store)


# ---- the command is killed ----


@pytest.mark.parametrize(
    "name,place,how",
    sampled([(n, p, h) for n, story in STORIES.items() for p in story.crashes_at for h in ENDS], 45),
)
def test_the_command_is_killed(moving_store, moving_servers, name, place, how):
    story = STORIES[name]
    shard = Shard(story, *moving_servers)
    with shard.writer:
        story.prepare(moving_store)
        killed = story.run(moving_store, at={place: "kill"})
        assert killed.result.code == -9, killed
        end(moving_store, how)
    clean_up(moving_store)
    shard.check(story.ends_at(place, how))
    assert shard.writer.longest < 2
