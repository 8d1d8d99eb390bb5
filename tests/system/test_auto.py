"""`shards = auto`: the store asks the servers which shards they hold."""

import asyncio
import contextlib
import logging
import threading
import time

import pytest

from harness import eventually, hv, python, store_config
from harness.moved import Moving, moved

python.provide()

from hv import aio
from hv.datastore import ConnectionError, Datastore, DatastoreError

QUICK = {"pool_block_timeout": "1s"}


def auto(tmp_path, servers, shards=("auto", "auto"), **options):
    named = {name: (where, text) for name, where, text in zip(("one", "two"), servers, shards)}
    return store_config(tmp_path / "auto.conf", named, **options)


def shards_of(config):
    """{server: shards}, as `hv config` prints them."""
    report = hv("config", "--json", config=config).json()
    return {server["name"]: server["shards"] for server in report["servers"]}


@contextlib.contextmanager
def opened(config, **how):
    db = Datastore.from_config(config, **how)
    try:
        yield db
    finally:
        db.close()


def both(shard, one, two):
    """The shard is on both servers, and neither knows of the other."""
    Moving(shard, one, two).copy()
    two.sql(f"ALTER SCHEMA {schema_like(two, shard)} RENAME TO shard{shard:04}")


def schema_like(database, shard):
    return database.value(
        "SELECT nspname FROM pg_namespace WHERE nspname LIKE %s", f"hypervault_{shard:04}_%"
    )


# ---- opening ----


def test_the_shards_are_found_when_a_store_is_opened(store, servers, tmp_path):
    with opened(auto(tmp_path, servers)) as db:
        assert list(db.shards()) == list(range(1, 17))
        assert db.server_of(1) == "one" and db.server_of(16) == "two"
        keys = [db.put(shard, 1, a=str(shard)) for shard in range(1, 17)]
        assert [db.get(key)[2]["a"] for key in keys] == [str(shard) for shard in range(1, 17)]


def test_moved_shards_are_found_where_they_are(store, servers, tmp_path):
    one, two = servers
    moved(3, one, two)
    moved(9, two, one)
    with opened(auto(tmp_path, servers)) as db:
        assert db.server_of(3) == "two" and db.server_of(9) == "one"
        assert db.get(db.put(3, 1, a="b"))[2]["a"] == "b"
    assert shards_of(auto(tmp_path, servers)) == {"one": "1-3,4-10", "two": "3,10-17"}


def test_a_shard_that_has_gone_and_is_not_published_yet_is_published(store, servers, tmp_path):
    one, two = servers
    Moving(3, one, two).copy().arrive().switch()
    with opened(auto(tmp_path, servers)) as db:
        assert db.server_of(3) == "two"
        assert db.get(db.put(3, 1, a="b"))[2]["a"] == "b"


def test_ranges_may_be_mixed_with_auto_and_win_over_it(store, servers, tmp_path):
    one, two = servers
    both(3, one, two)
    one.sql("ALTER SCHEMA shard0003 RENAME TO elsewhere")
    with opened(auto(tmp_path, servers, ("1-9", "auto"))) as db:
        assert list(db.shards("one")) == list(range(1, 9))
        assert list(db.shards("two")) == list(range(9, 17))
        with pytest.raises(DatastoreError, match='not initialised on server "one"'):
            db.put(3, 1)
        assert db.server_of(3) == "one"


def test_a_move_wins_over_a_range(store, servers, tmp_path):
    one, two = servers
    moved(3, one, two)
    with opened(auto(tmp_path, servers, ("1-9", "auto"))) as db:
        assert db.server_of(3) == "two"


def test_check_servers_and_spread_know_the_shards(store, servers, tmp_path):
    config = auto(tmp_path, servers, check_servers="on", spread="1-17")
    with opened(config) as db:
        assert db.put(db.shard_of("a"), 1)
    config = auto(tmp_path, servers, check_servers="on", spread="1-18")
    with pytest.raises(DatastoreError, match="no server holds shard 17"):
        Datastore.from_config(config)
    with opened(auto(tmp_path, servers, spread="1-18")) as db:
        assert list(db.spread) == list(range(1, 18))


def test_python_takes_auto(store, servers):
    servers = [dict(database.params(), shards="auto") for database in servers]
    db = Datastore(servers)
    assert list(db.shards()) == list(range(1, 17))
    db.close()


def test_init_needs_ranges(servers, tmp_path):
    config = auto(tmp_path, servers)
    result = hv("init", config=config)
    assert result.code == 1
    assert 'server "one" has "shards = auto", and no server holds shards' in result.err
    assert "Write ranges for `hv init`" in result.err


def test_init_completes_what_it_finds(store, servers, tmp_path):
    servers[0].sql("DROP FUNCTION shard0003.reserve_ids(integer) CASCADE")
    hv("init", config=auto(tmp_path, servers)).ok()
    assert hv("reserve", "3", config=store).ok()


# ---- servers that are down ----


def test_a_server_that_is_down_is_asked_when_it_is_needed(own_store, own_servers, tmp_path):
    one, two = own_servers
    two.server.stop()
    config = auto(tmp_path, own_servers, **QUICK)
    with opened(config) as db:
        assert list(db.shards()) == list(range(1, 9))
        assert db.put(3, 1)
        with pytest.raises(ConnectionError, match='shard 12 was not found, and server "two"') as e:
            db.put(12, 1)
        assert e.value.status == "HV_UNAVAILABLE" and e.value.retriable
        two.server.start()
        eventually(lambda: put_works(db, 12))
        assert list(db.shards()) == list(range(1, 17))


def put_works(db, shard):
    with contextlib.suppress(ConnectionError):
        return db.put(shard, 1)
    return False


def test_servers_are_asked_at_most_once_a_second(own_store, own_servers, tmp_path):
    one, two = own_servers
    with opened(auto(tmp_path, own_servers, **QUICK)) as db:
        since = one.server.log_size()
        one.server.sql("ALTER SYSTEM SET log_statement = 'all'")
        one.server.sql("SELECT pg_reload_conf()")
        eventually(lambda: one.value("SHOW log_statement") == "all")
        begun = time.monotonic()
        while time.monotonic() - begun < 2.5:
            with pytest.raises(DatastoreError, match="no server holds shard 100"):
                db.put(100, 1)
        asked = one.server.log_text(since).count("pg_postmaster_start_time")
        assert 1 <= asked <= 2 + (time.monotonic() - begun)


def test_a_shard_that_is_made_later_is_found(store, servers, tmp_path):
    with opened(auto(tmp_path, servers)) as db:
        with pytest.raises(DatastoreError, match="no server holds shard 20"):
            db.put(20, 1)
        more = {"one": (servers[0], "1-9,20"), "two": (servers[1], "9-17")}
        hv("init", config=store_config(tmp_path / "more.conf", more)).ok()
        eventually(lambda: put_at_last(db, 20))


def put_at_last(db, shard):
    with contextlib.suppress(DatastoreError):
        return db.put(shard, 1)
    return False


def test_a_shard_that_was_brought_elsewhere_by_hand_is_found_again(store, servers, tmp_path):
    one, two = servers
    with opened(auto(tmp_path, servers)) as db:
        both(3, one, two)
        one.sql("ALTER SCHEMA shard0003 RENAME TO elsewhere")
        eventually(lambda: put_at_last(db, 3))
        assert db.server_of(3) == "two"


# ---- queues ----


@pytest.fixture
def late(own_store, own_servers, tmp_path):
    """A store that was opened while the server `two` was down, which is up again."""
    one, two = own_servers
    two.server.stop()
    config = auto(tmp_path, own_servers, **QUICK)
    with opened(config) as db:
        assert list(db.shards()) == list(range(1, 9))
        two.server.start()
        time.sleep(1)  # so that they may be asked again
        yield db


def test_operations_of_a_queue_go_on_when_the_servers_have_answered(late):
    keys = late.put_many([(shard, 1, {"n": str(shard)}) for shard in range(1, 17)])
    assert [entity[2]["n"] for entity in late.get_many(keys)] == [str(n) for n in range(1, 17)]


def test_operations_on_a_shard_that_nobody_has_fail_and_others_do_not(late):
    keys = late.put_many([(3, 1, {}), (100, 1, {}), (12, 1, {})], return_errors=True)
    assert [isinstance(key, DatastoreError) for key in keys] == [False, True, False]


def test_many_threads_ask_once(late):
    failures = []

    def work(n):
        try:
            late.put(9 + n % 8, 1)
        except DatastoreError as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=[n]) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


# ---- all shards ----


def test_no_shard_is_left_out_in_silence(own_store, own_servers, tmp_path):
    one, two = own_servers
    two.server.stop()
    config = auto(tmp_path, own_servers, **QUICK)
    with opened(config) as db:
        db.put(3, 1)
        for ask in (
            lambda: list(db.find(kind=1)),
            lambda: db.count(),
            lambda: list(db.find(kind=1, partial=True)),
            lambda: list(db.feed()),
            lambda: list(db.each_shard("SELECT 1")),
            lambda: db.explain(kind=1),
        ):
            with pytest.raises(DatastoreError, match='could not ask server "two" which shards'):
                ask()
        assert len(list(db.find(kind=1, skip="two"))) == 1
        assert len(list(db.find(shards=3, kind=1))) == 1
    result = hv("export", "-", config=config)
    assert result.code == 1 and 'server "two"' in result.err
    two.server.start()
    with opened(config) as db:
        assert len(list(db.find(kind=1))) == 1
    result = hv("export", "-", "--shards", "auto", config=config)
    assert '"auto" is no list of shards' in result.err


# ---- disputes ----


def test_two_servers_with_one_shard_are_a_dispute(store, servers, tmp_path, caplog):
    one, two = servers
    db_keys = Datastore.from_config(store)
    key = db_keys.put(3, 1, a="b")
    db_keys.close()
    both(3, one, two)
    logger = logging.getLogger("auto")
    with caplog.at_level(logging.DEBUG), opened(auto(tmp_path, servers), logger=logger) as db:
        assert db.server_of(3) == "one"
        assert db.get(key)[2]["a"] == "b"
        for write in (
            lambda: db.put(3, 1),
            lambda: db.delete(key),
            lambda: db.put_many([(3, 1, {})]),
            lambda: db.run_transaction(3, lambda tx: tx.put(3, 1)),
            lambda: db.index_create("a"),
        ):
            with pytest.raises(DatastoreError) as e:
                write()
            assert e.value.status == "HV_MISMATCH"
            assert 'both server "one" and server "two" hold shard 3' in str(e.value)
        assert db.put(4, 1)
        said = [r for r in caplog.records if "writes to it are refused" in r.getMessage()]
        assert len(said) == 1
        two.sql("ALTER SCHEMA shard0003 RENAME TO shard0003_old")
        eventually(lambda: put_at_last(db, 3))
        assert db.put(3, 1)


def test_a_dispute_is_found_when_servers_are_asked(store, servers):
    one, two = servers
    with opened(store) as db:
        assert db.put(3, 1)
        both(3, one, two)
        db.locate_shards()
        with pytest.raises(DatastoreError, match="hold shard 3"):
            db.put(3, 1)


def test_a_dispute_does_not_end_because_a_server_is_down(own_store, own_servers, tmp_path):
    one, two = own_servers
    both(3, one, two)
    with opened(auto(tmp_path, own_servers, **QUICK)) as db:
        for server in (one.server, two.server):
            server.stop()
            with pytest.raises(DatastoreError):
                db.locate_shards()
            with pytest.raises(DatastoreError) as e:
                db.put(3, 1)
            assert e.value.status == "HV_MISMATCH"
            assert db.server_of(3) == "one"
            server.start()


def test_one_database_under_two_names_is_no_dispute(servers, tmp_path):
    one, _ = servers
    config = store_config(tmp_path / "a.conf", {"server 1": (one, "1-9")})
    hv("init", config=config).ok()
    config = store_config(tmp_path / "b.conf", {"server 1": (one, "auto"), "server 2": (one, "auto")})
    with opened(config) as db:
        assert db.put(3, 1)
        assert list(db.shards("server 1")) == list(range(1, 9))
        assert list(db.shards("server 2")) == []


def test_a_shard_that_has_gone_to_a_stranger_names_it(store, servers, tmp_path):
    one, two = servers
    Moving(3, one, two).copy().arrive().switch(to="three")
    two.sql("DELETE FROM hypervault.shard_locations")
    with opened(auto(tmp_path, servers)) as db:
        with pytest.raises(DatastoreError, match='"three"') as e:
            db.put(3, 1)
        assert e.value.status == "HV_NO_SERVER"
        with pytest.raises(DatastoreError, match="shard 3 has moved to a server that"):
            db.config_write(auto(tmp_path, servers))


# ---- event loops ----


def test_an_event_loop_waits_for_the_servers_only_with_that_shard(
    own_store, own_servers, tmp_path
):
    one, two = own_servers
    two.server.stop()
    with opened(auto(tmp_path, own_servers, pool_block_timeout="30s")) as db:
        two.server.start()
        time.sleep(1)  # so that they may be asked again

        async def work():
            async with aio.Session(db) as session:
                with two.server.frozen():
                    slow = [asyncio.ensure_future(session.put(12, 1, {"n": n})) for n in "123"]
                    for _ in range(10):
                        await asyncio.wait_for(session.put(3, 1, {}), 20)
                    assert not any(put.done() for put in slow)
                keys = await asyncio.gather(*slow)
                assert sorted(keys) == keys
                assert [(await session.get(key))[2]["n"] for key in keys] == ["1", "2", "3"]

        asyncio.run(work())


def test_an_abandoned_question_hinders_nobody(own_store, own_servers, tmp_path):
    """The event loop that asked has stopped."""
    one, two = own_servers
    with opened(auto(tmp_path, own_servers, **QUICK)) as db:
        time.sleep(1)

        async def work():
            session = aio.Session(db)
            with two.server.frozen():
                asyncio.ensure_future(session.put(100, 1, {}))
                await asyncio.sleep(0.05)
            return session

        def is_answered():
            with pytest.raises(DatastoreError) as e:
                db.put(100, 1)
            return e.value.status == "HV_NO_SERVER"

        loop = asyncio.new_event_loop()
        session = loop.run_until_complete(work())
        eventually(is_answered)
        loop.run_until_complete(session.close())
        loop.close()
