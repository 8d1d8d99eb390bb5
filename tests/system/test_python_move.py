"""Moving shards from Python."""

import asyncio
import re
from datetime import timedelta

import pytest

from harness import make_shards, python, source_dir, store_config
from harness.moving import (
    assert_nothing_left,
    fill,
    has_shard,
    moving_servers,
    moving_store,
    reached,
    shared_moving_servers,
)

python.provide()

from hv import aio
from hv.datastore import Datastore, DatastoreError

FIXTURES = (moving_servers, moving_store, shared_moving_servers)


@pytest.fixture
def db(moving_store):
    with Datastore.from_config(moving_store) as db:
        yield db


def test_a_shard_moves_and_goes_back(db, moving_servers):
    one, two = moving_servers
    fill(one, 3, 200)
    key = db.put(3, 1, n="1")
    seen = []
    with db.move(3, "two", keep_undo=timedelta(hours=1), max_pause=2.5) as move:
        assert not move.advance(0)
        status = move.wait(seen.append)
    assert (status.phase, status.source, status.target) == ("kept", "one", "two")
    assert status.rows >= 200 and status.pause_ms > 0 and status.keep_until is not None
    assert {each.shard for each in seen} <= {3}
    assert db.where(3) == "two" and has_shard(two, 3)
    later = db.put(3, 1, n="2")
    (listed,) = db.moves()
    assert (listed.shard, listed.step, listed.running) == (3, "kept", False)
    assert listed.keep_until > listed.begun and db.moves().missing == []
    assert db.moves_sweep() == 0
    assert db.move_undo(3).wait().phase == "done"
    assert db.where(3) == "one"
    assert [db.get(each)["body"]["n"] for each in (key, later)] == ["1", "2"]
    assert db.moves() == ()
    assert_nothing_left(one, two)


def test_the_examples_of_the_page(moving_servers, tmp_path, capsys):
    """They are marked as py there, because the other examples' servers are one server, without
    logical replication."""
    one, two = moving_servers
    move, rebalance = re.findall(
        r"^```py\n(.*?)^```$",
        (source_dir() / "docs" / "python.md").read_text("utf-8"),
        re.MULTILINE | re.DOTALL,
    )
    config = store_config(
        tmp_path / "page.conf", {"one": (reached(one), "1-4"), "two": (reached(two), "12-13")}
    )
    make_shards(config, one, two)
    fill(two, 12, 100)
    with Datastore.from_config(config) as db:
        exec(compile(move, "docs/python.md", "exec"), {"db": db})
        assert "phase='kept'" in capsys.readouterr().out
        assert db.where(12) == "two" and db.moves() == ()
        exec(compile(rebalance, "docs/python.md", "exec"), {"db": db})
        assert len(db.moves()) == 3 and db.shards("one") == []
        assert re.search(r"(?m)^3 \d+ [\d.]+$", capsys.readouterr().out)
        for shard in (1, 2, 3):
            db.move_clean(shard).wait()
    assert_nothing_left(one, two)


def test_what_was_begun_is_gone_on_with_or_taken_back(db, moving_servers):
    one, two = moving_servers
    move = db.move(3, "two")
    while move.status.phase == "begun":
        move.advance(0)
    assert "<Move: shard 3 from one to two, " in repr(move)
    move.close()
    with pytest.raises(DatastoreError, match="closed"):
        move.advance()
    assert db.move_abort(3).wait().phase == "aborted"
    assert_nothing_left(one, two)
    move = db.move(3, "two")
    while move.status.phase == "begun":
        move.advance(0)
    move.close()
    assert db.move_resume(3).wait().phase == "done"
    assert has_shard(two, 3)


def test_mistakes_are_errors(db):
    with pytest.raises(DatastoreError, match="three"):
        db.move(3, "three")
    with pytest.raises(DatastoreError, match="already"):
        db.move(3, "one").wait()
    with pytest.raises(DatastoreError, match="keep_undo"):
        db.move(3, "two", keep_undo="soon")
    with pytest.raises(DatastoreError, match="no_such"):
        db.move(3, "two", no_such=1)
    with pytest.raises(DatastoreError):
        db.move_undo(3).wait()


def test_event_loops_wait_for_it_in_a_thread(db, moving_servers):
    _, two = moving_servers

    async def run():
        async with aio.Session(db) as session:
            status = await session.move(3, "two", keep_undo="1h")
            assert status.phase == "kept" and has_shard(two, 3)
            assert [each.shard for each in await session.moves()] == [3]
            assert (await session.move_clean(3)).phase == "done"
            assert await session.moves_sweep() == 0

    asyncio.run(run())
