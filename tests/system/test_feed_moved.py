"""A feed misses nothing and repeats nothing while its shards move to other servers."""

import itertools
import threading

import pytest

from feeding import Feed
from harness import eventually
from harness.moved import Moving, moved
from harness.store_tool import make_tool  # noqa: F401

SHARD = 3

PUT = "INSERT INTO shard0003.entities (type, body) VALUES (1, '') RETURNING id"


def key_of(cursor):
    cursor.execute(PUT)
    return cursor.fetchone()[0]


@pytest.mark.parametrize("shards", ["3", "1-17"])
def test_a_writer_on_the_new_server_is_waited_for(store, servers, shards):
    """Also where the feed has not asked that server about anything before."""
    one, two = servers
    before = [one.value(PUT) for _ in range(10)]
    feed = Feed(store, follow=1, delay=0, shards=shards).until_keys(before)
    moved(SHARD, one, two)
    with two.connect() as writer, writer.cursor() as cursor:
        cursor.execute("BEGIN")
        late = key_of(cursor)
        early = two.value(PUT)  # a later key, committed earlier
        assert late < early
        feed.until(lambda feed: feed.holder and feed.holder["server"] == "two", "it waits")
        assert feed.keys == before and feed.position <= late
        cursor.execute("COMMIT")
    feed.until_keys([*before, late, early])
    assert feed.errors == []
    feed.kill()


def test_a_feed_follows_one_that_is_not_published_and_one_that_comes_back(store, servers):
    one, two = servers
    keys = [one.value(PUT)]
    feed = Feed(store, follow=1, delay=0).until_keys(keys)
    for turn in range(4):
        source, target = (one, two) if turn % 2 == 0 else (two, one)
        Moving(SHARD, source, target).copy().arrive().switch()
        eventually(lambda: target.value("SELECT to_regclass('shard0003.entities') IS NOT NULL"))
        keys.append(target.value(PUT))
        feed.until_keys(keys)
    assert feed.errors == []
    feed.kill()


def test_a_feed_that_ends_goes_where_the_shard_is(store, servers):
    keys = [servers[0].value(PUT) for _ in range(10)]
    moved(SHARD, *servers)
    keys.append(servers[1].value(PUT))
    feed = Feed(store, shards="1-17").wait()
    assert feed.keys == keys and feed.errors == []


def test_a_partial_feed_with_a_shard_that_is_nowhere(store, servers):
    one, two = servers
    one.sql("DROP SCHEMA shard0004 CASCADE")
    keys = [one.value(PUT)]
    feed = Feed(store, partial=1).wait()
    assert feed.keys == keys
    assert len(feed.missing) == 1 and "4" in str(feed.missing[0])


@pytest.mark.threads
@pytest.mark.parametrize("delay", [0, 300])
def test_nothing_is_missed_while_shards_move_under_writers(make_tool, store, servers, delay):
    """Writers in transactions of different lengths, and batches; each key comes once, in order."""
    one, two = servers
    tools = [make_tool(store, pool_max=8) for _ in range(3)]
    feed = Feed(store, follow=1, delay=delay)
    stop = threading.Event()
    keys = set()

    def write(tool, number):
        (thread,) = tool.threads(f"writer {number}")
        for turn in itertools.count():
            if stop.is_set():
                return
            shard = (3, 5)[turn % 2]
            if turn % 4 == 3:
                thread.tx_begin(shard).ok()
                puts = [thread.put(shard, 1, {"n": "1"}) for _ in range(3)]
                stop.wait(0.02 * number)
                status = thread.tx_commit().status
                assert status in ("HV_OK", "HV_MOVED"), status
                if status == "HV_OK":
                    keys.update(put.ok().key for put in puts)
            else:
                keys.add(thread.put(shard, 1, {"n": "1"}).ok().key)

    failures = []

    def guarded(*args):
        try:
            write(*args)
        except BaseException as error:
            failures.append(error)

    threads = [
        threading.Thread(target=guarded, args=(tool, number)) for number, tool in enumerate(tools)
    ]
    for thread in threads:
        thread.start()
    for turn in range(4):
        for shard in (3, 5):
            Moving(shard, *(servers if turn % 2 == 0 else servers[::-1])).copy().arrive().switch()
        seen = len(feed.keys)
        feed.until(lambda feed: failures or len(feed.keys) > seen + 20, "it goes on")
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures
    feed.until(lambda feed: len(feed.keys) >= len(keys), "all keys")
    assert feed.keys == sorted(keys)
    assert feed.errors == []
    feed.kill()
