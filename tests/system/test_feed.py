"""The feed: everything that is put, in the order of keys, nothing missed, nothing twice; and what
holds it."""

import os
import random
import threading
import time

import pytest

from feeding import (
    Feed,
    Writers,
    compare,
    distribution,
    first_key,
    key_time,
    kill_a_connection,
)
from harness import eventually, make_shards, store_config

# For how long the writers of the longest test write. HV_TEST_SECONDS=300 and -s for a long run.
SECONDS = max(float(os.environ.get("HV_TEST_SECONDS", "0")), 22)
LONGEST = 5  # seconds that a transaction is held open
KILLS = 10  # of the reader, with signal 9

ONE, TWO = range(1, 9), range(9, 17)


@pytest.fixture
def own_places(make_server, tmp_path):
    """Two servers of the test's own, a store on them, and where its shards are."""
    settings = {"max_prepared_transactions": "40"}
    one, two = (
        make_server(name, tcp=True, settings=settings).create_database("test")
        for name in ("one", "two")
    )
    config = store_config(tmp_path / "own.conf", {"one": (one, "1-9"), "two": (two, "9-17")})
    make_shards(config, one, two)
    return config, [(one, ONE), (two, TWO)]


@pytest.fixture
def start():
    """A function that starts a Feed, which ends with the test."""
    feeds = []

    def make(config, **options):
        feeds.append(Feed(config, **options))
        return feeds[-1]

    yield make
    for feed in feeds:
        if feed.process.poll() is None:
            feed.kill()


def put(database, shard, kind=1, cursor=None, body=""):
    """Insert an entity, if with a cursor, in its transaction; returns the key."""
    statement = (
        f"INSERT INTO shard{shard:04}.entities (type, body) VALUES ({kind}, '{body}') RETURNING id"
    )
    if cursor is None:
        return database.value(statement)
    cursor.execute(statement)
    return cursor.fetchone()[0]


class Transaction:
    """An open transaction on a database."""

    def __init__(self, database, **how):
        self._closing = database.connect(**how)
        self.connection = self._closing.__enter__()
        self.connection.autocommit = False
        self.cursor = self.connection.cursor()
        self.pid = self.connection.get_backend_pid()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.connection.close()


# ---- all at once ----


def test_nothing_is_missed_nothing_comes_twice_and_all_is_in_order(own_places, start):
    """16 writers with transactions that are open for up to 5 s, are rolled back or prepared, COPY,
    connections that are killed, a server that restarts, a reader that is killed ten times."""
    config, places = own_places
    chance = random.Random()
    began = time.time()
    keys, arrivals, looks, errors = [], [], [], []
    naive = start(config, naive=1)
    reader = start(config, follow=1, since=int(began * 1000) - 60000)
    writers = Writers(places, 16, LONGEST)
    print(f"\nseed {writers.seed}")
    restart_at = began + SECONDS * 0.4
    kill_at = [began + SECONDS * (i + 1) / (KILLS + 1) for i in range(KILLS)]

    def end_reader():
        reader.kill()
        keys.extend(reader.keys)
        arrivals.extend(reader.arrivals)
        errors.extend(reader.errors)
        looks.append(reader.idle)

    while time.time() < began + SECONDS:
        time.sleep(0.1 + chance.random() * 0.3)
        now = time.time()
        kill_a_connection(chance.choice(places)[0], chance)
        for database, _ in places:
            writers.end_prepared(database, LONGEST)
        if restart_at is not None and now >= restart_at:
            places[1][0].server.restart(chance.choice(("fast", "immediate")))
            restart_at = now + 60 if SECONDS > 100 else None
        if kill_at and now >= kill_at[0]:
            kill_at.pop(0)
            end_reader()
            again = {"after": keys[-1]} if keys else {"since": int(began * 1000) - 60000}
            reader = start(config, follow=1, **again)
    expected = writers.finish()
    reader.until(lambda feed: feed.position > expected[-1] or feed.ended, "it has read all")
    end_reader()
    eventually(lambda: naive.keys[-1] == expected[-1])
    naive.kill()

    lags = [arrival - key_time(key) for key, arrival in zip(keys, arrivals)]
    missed_by_naive = compare(naive.keys, expected).get("missed", [])
    print(dict(writers.done))
    print(f"from a key's making to its arrival: {distribution(lags)}")
    print(f"the reader that remembers the last key missed {len(missed_by_naive)}")
    assert compare(keys, expected) == {}
    assert [error for error in errors if error["status"] != "HV_UNAVAILABLE"] == []
    # So this test can fail.
    assert missed_by_naive
    assert not kill_at and len(expected) > 200


# ---- up to now ----


def test_without_follow_it_returns_what_was_there_and_ends(store, servers, start):
    one, two = servers
    keys = [put(one, 3), put(two, 12), put(one, 1), put(two, 9)]
    feed = start(store, delay=0).wait()
    assert feed.keys == sorted(keys) and feed.ended["end"]
    assert keys[-1] < feed.ended["position"] <= first_key(time.time())
    # It ends though more and more comes.
    with Writers([(one, ONE), (two, TWO)], 2, 0.01).running():
        start(store, delay=0).wait()


def test_it_goes_on_after_a_key_and_from_a_position(store, servers, start):
    one, two = servers
    keys = sorted([put(one, 3), put(two, 12), put(one, 1)])
    first = start(store, delay=0, limit=2).wait()
    assert first.keys == keys[:2]
    second = start(store, delay=0, after=first.keys[-1]).wait()
    assert second.keys == keys[2:]
    nothing = start(store, delay=0, **{"from": second.ended["position"]}).wait()
    assert nothing.keys == [] and nothing.ended["position"] > second.ended["position"]
    keys = [put(two, 9)]
    assert start(store, delay=0, **{"from": nothing.ended["position"]}).wait().keys == keys


def test_the_position_is_exact_after_each_entity(store, servers, start):
    one, two = servers
    keys = sorted(put(*at) for at in [(one, 3), (two, 12), (two, 9), (one, 1), (two, 13), (one, 3)])
    position, seen = 1, []
    for _ in keys:
        feed = start(store, follow=1, delay=0, count=1, **{"from": position}).wait()
        seen += feed.keys
        position = feed.ended["position"]
    assert seen == keys


def test_it_waits_for_what_is_open_when_it_begins(store, servers, start):
    one, two = servers
    with Transaction(one) as ann:
        keys = [put(one, 3, cursor=ann.cursor), put(two, 12)]
        feed = start(store, delay=0)
        feed.until(lambda feed: feed.holder, "a holder")
        assert feed.keys == []
        ann.connection.commit()
    assert feed.wait().keys == keys


def test_only_what_is_selected_comes(store, servers, start):
    one, two = servers
    wanted = [put(one, 3, 7), put(two, 12, 7)]
    put(one, 3, 8), put(two, 13, 7)
    feed = start(store, delay=0, kind=7, shards="1-13").wait()
    assert feed.keys == wanted
    assert [entity["kind"] for entity in feed.entities] == [7, 7]
    until = start(store, delay=0, until=wanted[1]).wait()
    assert until.keys == wanted[:1] and until.ended["end"]


# ---- following ----


def test_it_follows(store, servers, start):
    one, two = servers
    feed = start(store, follow=1, delay=0)
    keys = []
    for turn in range(5):
        keys += [put(one, 1 + turn), put(two, 9 + turn), put(one, 1 + turn)]
        feed.until_keys(keys)


def test_it_can_be_followed_by_its_descriptor(store, servers, start):
    one, two = servers
    feed = start(store, follow=1, delay=0, fd=1, timeout=5000)
    keys = []
    for turn in range(5):
        keys += [put(one, 1 + turn), put(two, 9 + turn)]
        feed.until_keys(keys)


def test_the_position_advances_while_nothing_is_put(store, servers, start):
    key = put(servers[0], 3)
    feed = start(store, follow=1, delay=0)
    feed.until_passed(first_key(time.time() + 1))
    assert feed.keys == [key] and feed.holder is None
    assert feed.idle["behind"] < 1000


def test_it_stays_behind_by_its_delay(store, servers, start):
    feed = start(store, follow=1, delay=2500)
    key = put(servers[0], 3)
    feed.until_keys([key])
    assert feed.arrivals[0] - key_time(key) >= 2.5
    feed.until(lambda feed: 2500 <= feed.idle["behind"] < 5000)


def test_a_limit_ends_it(store, servers, start):
    one, _ = servers
    feed = start(store, follow=1, delay=0, limit=3)
    keys = [put(one, 3) for _ in range(5)]
    assert feed.wait().keys == keys[:3] and feed.ended["end"]


def test_it_may_be_closed_in_the_middle(store, servers, start):
    one, two = servers
    keys = [put(one, 3), put(two, 12), put(one, 3), put(two, 12)]
    assert start(store, follow=1, delay=0, count=2).wait().keys == keys[:2]
    assert start(store, follow=1, count=0).wait().keys == []


def test_one_connection_is_enough(store, servers, start):
    one, two = servers
    feed = start(store, follow=1, delay=0, pool=1)
    keys = [put(one, 3), put(two, 12), put(one, 3)]
    feed.until_keys(keys)


def test_the_only_connection_is_free_between_two_entities(store, servers, start):
    one, two = servers
    for database, shard in ((one, 3), (two, 12)):
        database.sql(
            f"INSERT INTO shard{shard:04}.entities (type, body)"
            " SELECT 1, '' FROM generate_series(1, 1500)"
        )
    feed = start(store, follow=1, delay=0, pool=1, get=1, timeout=10000, count=3000)
    assert len(feed.wait().keys) == 3000
    assert feed.errors == []


def test_a_forked_child_cannot_use_it(store, servers, start):
    keys = [put(servers[0], 3), put(servers[1], 12)]
    feed = start(store, delay=0, fork=1).wait()
    assert feed.keys == keys
    (error,) = feed.errors
    assert error["message"] == "the reader is another process's"


# ---- holders ----


def test_a_transaction_that_is_open_for_long_is_named(store, servers, start):
    one, two = servers
    feed = start(store, follow=1, delay=0)
    feed.until_passed(first_key(time.time()))
    with Transaction(one) as ann:
        keys = [put(one, 3, cursor=ann.cursor)]
        keys += [put(two, 12), put(one, 4)]
        feed.until(lambda feed: feed.holder, "a holder")
        holder = dict(feed.holder)
        assert holder["status"] == "HV_BUSY" and holder["server"] == "one"
        assert holder["message"] == f'a transaction of process {ann.pid} on server "one" is open'
        assert str(ann.pid) in holder["hint"]
        feed.until(lambda feed: feed.idle["behind"] > 2000)
        # Its age changes, its message does not.
        assert feed.holder["message"] == holder["message"]
        assert feed.holder["detail"] != holder["detail"]
        assert feed.keys == [] and feed.position <= keys[0]
        ann.connection.commit()
    feed.until_keys(keys)
    feed.until(lambda feed: feed.holder is None, "no holder")


def test_a_prepared_transaction_is_named(own_places, start):
    config, ((one, _), (two, _)) = own_places
    feed = start(config, follow=1, delay=0)
    feed.until_passed(first_key(time.time()))
    with Transaction(two) as ann:
        keys = [put(two, 12, cursor=ann.cursor)]
        ann.cursor.execute("PREPARE TRANSACTION 'the name''s'")
    keys += [put(one, 3)]
    feed.until(lambda feed: feed.holder and "the name's" in feed.holder["message"])
    assert feed.holder["message"] == 'the transaction "the name\'s" on server "two" is prepared'
    # Also after a restart, which gives it another number, and for a feed that begins then.
    two.server.restart()
    feed.until(lambda feed: feed.holder and "the name's" in feed.holder["message"])
    other = start(config, follow=1, delay=0)
    other.until(lambda feed: feed.holder and "the name's" in feed.holder["message"])
    assert feed.keys == other.keys == []
    two.sql("COMMIT PREPARED 'the name''s'")
    feed.until_keys(keys)
    other.until_keys(keys)


@pytest.mark.parametrize(
    "statement",
    [
        "LOCK TABLE shard0003.entities IN SHARE UPDATE EXCLUSIVE MODE",  # VACUUM, ANALYZE
        "LOCK TABLE shard0003.entities IN SHARE MODE",  # CREATE INDEX
        "SELECT count(*) FROM shard0003.entities",
        "CREATE TABLE entities (); INSERT INTO entities DEFAULT VALUES",
        "SAVEPOINT one; INSERT INTO shard0003.entities (type, body) VALUES (1, '');"
        "ROLLBACK TO one",
    ],
)
def test_what_makes_no_keys_does_not_hold_it(store, servers, start, statement):
    one, two = servers
    with Transaction(one) as ann:
        ann.cursor.execute(statement)
        keys = [put(two, 12), put(one, 4)]
        assert start(store, delay=0).wait().keys == keys


def test_shards_that_are_not_selected_do_not_hold_it(store, servers, start):
    one, two = servers
    with Transaction(one) as ann:
        put(one, 3, cursor=ann.cursor)
        keys = [put(two, 12), put(one, 4)]
        assert start(store, delay=0, shards="4-17").wait().keys == keys


def test_a_writer_that_waits_for_the_table_is_not_missed(store, servers, start):
    """It has no key yet, and makes a later one."""
    one, _ = servers
    feed = start(store, follow=1, delay=0, shards="3")
    with Transaction(one) as ann, Transaction(one) as ben:
        ann.cursor.execute("LOCK TABLE shard0003.entities IN SHARE MODE")
        waiting = threading.Thread(target=lambda: keys.append(put(one, 3, cursor=ben.cursor)))
        keys = []
        waiting.start()
        eventually(lambda: one.value("SELECT count(*) FROM pg_locks WHERE NOT granted"))
        feed.until_passed(first_key(time.time()))
        ann.connection.commit()
        waiting.join()
        feed.until(lambda feed: feed.holder, "a holder")
        ben.connection.commit()
    feed.until_keys(keys)


# ---- servers ----


def test_a_server_that_is_down_holds_it(own_places, start):
    config, ((one, _), (two, _)) = own_places
    feed = start(config, follow=1, delay=0)
    keys = [put(one, 3), put(two, 12)]
    feed.until_keys(keys)
    two.server.stop()
    feed.until(lambda feed: feed.holder and feed.holder["server"] == "two")
    assert feed.holder["status"] == "HV_UNAVAILABLE"
    keys.append(put(one, 4))
    feed.until(lambda feed: feed.idle["behind"] > 2000)
    assert len(feed.keys) == 2 and feed.position <= keys[2]
    two.server.start()
    keys.append(put(two, 13))
    feed.until_keys(keys)
    feed.until(lambda feed: feed.holder is None, "no holder")
    assert feed.errors == []


def test_a_server_that_is_silent_holds_it(own_places, start):
    config, ((one, _), (two, _)) = own_places
    feed = start(config, follow=1, delay=0)
    keys = [put(one, 3), put(two, 12)]
    feed.until_keys(keys)
    with two.server.frozen():
        keys.append(put(one, 4))
        feed.until(lambda feed: feed.holder and feed.holder["server"] == "two")
        assert feed.holder["message"] == 'server "two" does not answer the feed'
        assert len(feed.keys) == 2
    feed.until_keys(keys)


def test_without_follow_a_server_that_is_down_is_an_error(own_places, start):
    config, ((one, _), (two, _)) = own_places
    keys = [put(one, 3)]
    two.server.stop()
    feed = start(config, delay=0)
    feed.until(lambda feed: feed.errors, "an error")
    assert feed.errors[0]["status"] == "HV_UNAVAILABLE" and feed.errors[0]["server"] == "two"
    assert feed.keys == []
    # The same feed can be asked again.
    two.server.start()
    assert feed.wait().keys == keys and feed.ended["end"]
    two.server.stop()
    skipping = start(config, delay=0, skip="two").wait()
    assert skipping.keys == keys and len(skipping.missing) == 1
    partial = start(config, delay=0, partial=1).wait()
    assert partial.keys == keys and partial.errors == []
    (missing,) = partial.missing
    assert missing["server"] == "two" and missing["status"] == "HV_UNAVAILABLE"
    assert "9-17" in missing["detail"]
    # Also if a page and a poll fail.
    two.server.start()
    with Transaction(two) as ann:
        ann.cursor.execute("LOCK TABLE shard0012.entities IN ACCESS EXCLUSIVE MODE")
        partial = start(config, delay=3000, partial=1)
        eventually(lambda: two.value("SELECT count(*) FROM pg_locks WHERE NOT granted"))
        two.server.stop("immediate")
    partial.wait()
    assert [missing["server"] for missing in partial.missing] == ["two"]


def test_a_feed_that_skips_a_server_goes_on_without_it(own_places, start):
    config, ((one, _), (two, _)) = own_places
    two.server.stop()
    feed = start(config, follow=1, delay=0, skip="two")
    keys = [put(one, 3), put(one, 4)]
    feed.until_keys(keys)
    feed.until_passed(keys[-1])
    assert feed.holder is None


def test_a_shard_that_is_missing_is_an_error_and_the_feed_goes_on_when_it_is_back(
    store, servers, start
):
    one, two = servers
    one.sql("ALTER SCHEMA shard0003 RENAME TO elsewhere")
    feed = start(store, follow=1, delay=0)
    feed.until(lambda feed: feed.errors, "an error")
    assert feed.errors[0]["status"] == "HV_NOT_INITIALIZED"
    assert "shard0003" in str(feed.errors[0]) or "3" in feed.errors[0]["message"]
    one.sql("ALTER SCHEMA elsewhere RENAME TO shard0003")
    keys = [put(one, 3), put(two, 12)]
    feed.until_keys(keys)


def test_a_standby_cannot_be_followed(make_server, tmp_path, start):
    primary = make_server("primary")
    database = primary.create_database("test")
    config = store_config(tmp_path / "primary.conf", {"one": (database, "1-9")})
    make_shards(config, database)
    standby = make_server("standby", standby_of=primary)
    config = store_config(
        tmp_path / "standby.conf", {"one": (standby.params(dbname="test"), "1-9")}
    )
    feed = start(config, follow=1)
    feed.until(lambda feed: feed.errors, "an error")
    assert feed.errors[0]["status"] == "HV_INVALID"
    assert "standby" in feed.errors[0]["message"]


def test_a_connection_to_a_standby_is_not_used_again(make_server, tmp_path, start):
    primary = make_server("primary")
    database = primary.create_database("test")
    config = store_config(tmp_path / "primary.conf", {"one": (database, "1-9")})
    make_shards(config, database)
    standby = make_server("standby", standby_of=primary)
    hosts = {"host": f"{primary.socket_dir},{standby.socket_dir}", "port": "5432,5432"}
    config = store_config(
        tmp_path / "both.conf", {"one": ({**database.params(), **hosts}, "1-9")}
    )
    primary.stop()
    feed = start(config, follow=1, delay=0)
    feed.until(lambda feed: feed.errors, "an error")
    assert "standby" in feed.errors[0]["message"]
    primary.start()
    key = put(database, 3)
    feed.until_keys([key])


# ---- bad input ----


def test_the_newest_first_and_a_negative_delay_are_refused(store, start):
    for options in ({"newest": 1}, {"delay": -2}):
        feed = start(store, **options)
        assert feed.process.wait() == 1
        feed.until(lambda feed: feed.errors, "an error")
        assert feed.errors[0]["status"] == "HV_INVALID" and feed.errors[0]["hint"]
