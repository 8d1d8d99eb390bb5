"""A server that does not come back: a move ends with what can be reached, and what is left on the
other is removed when that is there again."""

import pytest
from harness.command import make_shards
from harness.config import store_config
from harness.moving import (
    Stepping,
    Writer,
    assert_nothing_left,
    content,
    fill,
    forget_streams,
    has_shard,
    leftovers,
    moving_config,
    moving_servers,
    moving_store,
    own_moving_servers,
    reached,
    run_move,
    shared_moving_servers,
)

FIXTURES = (moving_servers, moving_store, own_moving_servers, shared_moving_servers)


@pytest.fixture
def own_moving_store(tmp_path, own_moving_servers):
    one, two = own_moving_servers
    path = moving_config(tmp_path / "moving.conf", one, two, check_servers="off")
    make_shards(path, one, two)
    fill(one, 3, 100)
    return path


def stop_at(config, place, **options):
    with Stepping(config, "move", 3, 1, place=place, **options) as stepping:
        assert stepping.came
        stepping.kill()


@pytest.mark.parametrize("order", ["resume", "abort"])
def test_the_old_server_is_gone_after_the_switch(own_moving_store, own_moving_servers, order):
    one, two = own_moving_servers
    before = content(one, 3)
    stop_at(own_moving_store, "cleaning")
    one.server.stop("immediate")
    ended = run_move(own_moving_store, order, 3, max_wait="1s").ok("done")
    assert 'server "one" cannot be reached' in ended.left_behind
    assert content(two, 3) == before
    assert_nothing_left(two)
    one.server.start()
    assert leftovers(one)
    run_move(own_moving_store, "sweep", 0)
    assert_nothing_left(one, two)
    assert has_shard(two, 3) and not has_shard(one, 3)


def test_a_kept_copy_cannot_be_had_back_but_forgotten(own_moving_store, own_moving_servers):
    one, two = own_moving_servers
    run_move(own_moving_store, "move", 3, 1, keep_undo="1h").ok("kept")
    one.server.stop("immediate")
    undone = run_move(own_moving_store, "undo", 3, max_wait="1s")
    assert undone.status in (5, 6), undone
    assert has_shard(two, 3) and any("kept" in name for name in leftovers(two))
    run_move(own_moving_store, "clean", 3, max_wait="1s").ok("done")
    assert_nothing_left(two)
    one.server.start()
    run_move(own_moving_store, "sweep", 0)
    assert_nothing_left(one, two)


@pytest.mark.parametrize("place", ["copying", "switching"])
def test_the_target_is_gone_before_the_switch(own_moving_store, own_moving_servers, place):
    one, two = own_moving_servers
    stop_at(own_moving_store, place)
    two.server.stop("immediate")
    resumed = run_move(own_moving_store, "resume", 3, max_wait="1s")
    assert resumed.status == 6, resumed
    ended = run_move(own_moving_store, "abort", 3, max_wait="1s").ok("aborted")
    assert 'server "two" cannot be reached' in ended.left_behind
    assert_nothing_left(one)
    with Writer(3, one) as writer:
        pass
    writer.check(one)
    two.server.start()
    assert leftovers(two)
    # The next move removes it first.
    run_move(own_moving_store, "move", 3, 1, max_wait="20s").ok("done")
    assert has_shard(two, 3) and not has_shard(one, 3)
    assert_nothing_left(one, two)


def test_nobody_knows_when_the_source_is_gone_at_the_switch(own_moving_store, own_moving_servers):
    one, two = own_moving_servers
    stop_at(own_moving_store, "fence: after commit")
    one.server.stop("immediate")
    for order in ("resume", "abort"):
        ended = run_move(own_moving_store, order, 3, max_wait="1s")
        assert ended.error == "it is not known whether shard 3 was switched", ended
    one.server.start()
    run_move(own_moving_store, "abort", 3).ok("done")
    assert has_shard(two, 3)
    assert_nothing_left(one, two)


@pytest.mark.parametrize("place", ["fence: after commit", "switched: published", "cleaning"])
def test_the_new_server_is_gone_after_the_switch(own_moving_store, own_moving_servers, place):
    """The old copy may be all that is left: nothing that is asked for removes it."""
    one, two = own_moving_servers
    before = content(one, 3)
    stop_at(own_moving_store, place)
    two.server.stop("immediate")
    old = one.value("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'hypervault\\_0003%old'")
    for order in ("abort", "resume"):
        ended = run_move(own_moving_store, order, 3, max_wait="1s")
        assert ended.status == 6, ended
        assert content(one, 3, schema=old) == before
    assert not has_shard(one, 3)
    two.server.start()
    run_move(own_moving_store, "abort", 3).ok("done")
    assert content(two, 3) == before
    assert_nothing_left(one, two)


@pytest.mark.parametrize("place", ["copying", "verifying"])
def test_the_source_is_gone_before_the_switch(own_moving_store, own_moving_servers, place):
    one, two = own_moving_servers
    stop_at(own_moving_store, place)
    one.server.stop("immediate")
    resumed = run_move(own_moving_store, "resume", 3, max_wait="1s")
    assert resumed.error == 'server "one", which has shard 3, cannot be reached', resumed
    assert leftovers(two)
    one.server.start()
    run_move(own_moving_store, "resume", 3).ok("done")
    assert has_shard(two, 3) and not has_shard(one, 3)
    assert_nothing_left(one, two)


def test_the_source_is_lost_while_it_is_copied(own_moving_store, own_moving_servers):
    one, two = own_moving_servers
    with Stepping(own_moving_store, "move", 3, 1, place="catching_up", max_wait="1s") as stepping:
        one.server.stop("immediate")
        stepping.go_on()
        moved = stepping.end()
    assert moved.error == 'server "one", which has shard 3, cannot be reached', moved
    ended = run_move(own_moving_store, "abort", 3, max_wait="1s").ok("aborted")
    assert 'server "one" cannot be reached' in ended.left_behind
    assert_nothing_left(two)
    one.server.start()
    run_move(own_moving_store, "sweep", 0)
    assert has_shard(one, 3)
    assert_nothing_left(one, two)


@pytest.mark.parametrize("order", ["sweep", "clean", "abort", "undo"])
def test_the_new_server_is_back_without_the_shard(moving_store, moving_servers, order):
    """It was restored from a backup that is older than the move: what is left is the old copy."""
    one, two = moving_servers
    fill(one, 3, 100)
    before = content(one, 3)
    run_move(moving_store, "move", 3, 1, keep_undo="1h").ok("kept")
    forget_streams(two)
    (publication,) = two.query("SELECT pubname FROM pg_publication")[0]
    two.sql(
        f"DROP PUBLICATION {publication}; DROP TABLE hypervault.{publication};"
        f"DROP SCHEMA {publication} CASCADE; DROP SCHEMA IF EXISTS shard0003 CASCADE;"
        "DELETE FROM hypervault.shard_locations; DELETE FROM hypervault.moves"
    )
    ended = run_move(moving_store, order, 3, max_wait="1s")
    if order != "sweep":
        assert ended.error == 'shard 3 was switched to server "two", which does not have it', ended
        assert publication in ended.detail
    assert content(one, 3, schema=publication) == before
    assert "which does not have it" in one.value("SELECT error FROM hypervault.moves")
    assert any("journal" in name for name in leftovers(one))
    forget_streams(one)


def test_the_servers_do_not_reach_each_other_any_more(tmp_path, own_moving_servers, relay):
    """The server that drops a subscription tries to reach the other one first, and waits for it."""
    one, two = own_moving_servers
    between = relay(one.server)
    place = between.params("test")
    params = {
        **reached(one),
        "move_host": place["host"],
        "move_port": place["port"],
    }
    config = store_config(tmp_path / "moving.conf", {"one": (params, "1-4"), "two": (reached(two), "5-8")})
    make_shards(config, one, two)
    fill(one, 3, 200000)
    with Stepping(config, "move", 3, 1, place="copying") as stepping:
        between.stall()
        stepping.kill()
    assert two.value("SELECT count(*) FROM pg_subscription_rel WHERE srsubstate <> 'r'")
    run_move(config, "abort", 3, max_wait="20s").ok("aborted")
    assert has_shard(one, 3)
    assert_nothing_left(one, two)
