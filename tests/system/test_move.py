"""A shard moves to another server."""

from harness.moving import (
    Writer,
    assert_nothing_left,
    content,
    fill,
    has_shard,
    move,
    moving_servers,
    moving_store,
    shared_moving_servers,
)

FIXTURES = (moving_servers, moving_store, shared_moving_servers)


def test_a_shard_is_at_the_target_with_all_that_it_had(moving_store, moving_servers):
    one, two = moving_servers
    fill(one, 3, 1000)
    before = content(one, 3)
    moved = move(moving_store, 3, 1, trace=True).ok("done")
    assert moved.rows >= 1000
    assert not has_shard(one, 3)
    assert content(two, 3) == before
    assert_nothing_left(one, two)


def test_writers_lose_nothing_and_are_not_stopped_for_long(moving_store, moving_servers):
    one, two = moving_servers
    fill(one, 3, 1000)
    with Writer(3, one, two) as writer:
        move(moving_store, 3, 1).ok("done")
    writer.check(two)
    assert len(writer.acknowledged) > 50
    assert writer.longest < 1
    assert_nothing_left(one, two)
