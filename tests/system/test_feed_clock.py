"""The feed when a server's clock steps back."""

import pytest

from feeding import Feed, first_key
from harness import make_shards, store_config
from harness.clock import clock  # noqa: F401


@pytest.fixture
def place(make_server, clock, tmp_path):  # noqa: F811
    """A server whose clock can be set, and a store on it."""
    database = make_server("one", env=clock.env).create_database("test")
    config = store_config(tmp_path / "one.conf", {"one": (database, "1-9")})
    make_shards(config, database)
    return config, database


def put(database, shard):
    return database.value(
        f"INSERT INTO shard{shard:04}.entities (type, body) VALUES (1, '') RETURNING id"
    )


def now(database):
    """By the server's clock."""
    return float(database.value("SELECT extract(epoch FROM clock_timestamp())"))


def test_a_step_back_by_less_than_the_delay_does_no_harm(place, clock):  # noqa: F811
    config, database = place
    feed = Feed(config, follow=1, delay=4000)
    keys = [put(database, 3)]
    feed.until_keys(keys)
    keys.append(put(database, 3))
    for seconds in (-1, -3):
        clock.set(seconds, database)
        keys += [put(database, 3), put(database, 5)]
    feed.until_keys(keys)
    feed.kill()
    assert feed.errors == []
    assert keys != feed.keys  # they were made in another order


def test_a_step_back_by_more_is_reported_once_with_a_key(place, clock):  # noqa: F811
    config, database = place
    feed = Feed(config, follow=1, delay=500)
    seen = [put(database, 3)]
    feed.until_keys(seen)
    clock.set(-4, database)
    missed = put(database, 3)
    feed.until(lambda feed: feed.errors, "an error")
    (error,) = feed.errors
    assert error["status"] == "HV_MISMATCH" and error["server"] == "one"
    begin = int(error["detail"].partition("keys from ")[2].split()[0])
    assert missed - (2000 << 23) < begin <= missed
    # It says what it waits for, and goes on when the clock is where it was.
    feed.until(lambda feed: feed.holder, "a holder")
    assert feed.holder["message"] == 'the clock of server "one" is behind the feed'
    clock.set(0, database)
    seen.append(put(database, 3))
    feed.until_keys(seen)
    feed.kill()
    assert len(feed.errors) == 1
    # What was missed is found by that key.
    again = Feed(config, **{"from": begin}, until=seen[-1] + 1, delay=0).wait()
    assert missed in again.keys


def test_a_clock_that_stepped_back_between_two_runs_is_reported(place, clock):  # noqa: F811
    config, database = place
    keys = [put(database, 3)]
    first = Feed(config, delay=0).wait()
    assert first.keys == keys
    clock.set(-3600, database)
    put(database, 3)
    second = Feed(config, follow=1, delay=0, after=first.keys[-1])
    second.until(lambda feed: feed.errors, "an error")
    assert second.errors[0]["status"] == "HV_MISMATCH"
    second.until(lambda feed: feed.holder, "a holder")
    clock.set(0, database)
    keys = [put(database, 3)]
    second.until_keys(keys)
    second.kill()


def test_a_step_forward_does_no_harm(place, clock):  # noqa: F811
    config, database = place
    feed = Feed(config, follow=1, delay=200)
    keys = [put(database, 3)]
    clock.set(86400, database)
    keys.append(put(database, 3))
    feed.until_keys(keys)
    feed.until_passed(first_key(now(database)))
    feed.kill()
    assert feed.errors == []
