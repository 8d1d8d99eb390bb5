"""Shards that have moved: operations follow them, whatever the configuration says.

The shards are moved by hand, see harness/moved.py.
"""

import threading

import pytest

import decoys
from feeding import Feed
from harness import eventually, hv, make_shards, source_dir, store_config
from harness.moved import Moving, is_there, moved, row
from harness.store_tool import make_tool, step  # noqa: F401
from harness.stress import pause, stress  # noqa: F401
from transacting import also, results, run, sql

SHARD, OTHER = 3, 4


@pytest.fixture
def tool(make_tool, store):
    return make_tool(store, log=True, operation_timeout="5s")


@pytest.fixture
def three(tmp_path, servers, make_server):
    """A store on three databases, the third one on the first server: shards 1-4, 5-8, 9-12."""
    one, two = servers
    third = one.server.create_database()
    config = store_config(
        tmp_path / "three.conf",
        {"one": (one, "1-5"), "two": (two, "5-9"), "three": (third, "9-13")},
        operation_timeout="5s",
    )
    make_shards(config, one, two, third)
    yield config, [one, two, third]
    third.drop()


def reports(tool):
    return [event.log for event in tool.log if event.status == "HV_MOVED"]


def questions(tool):
    return [event for event in tool.log if "shard_locations" in event.log]


def stored(database, shard=SHARD):
    return {
        key: int(n)
        for key, n in database.query(f"SELECT id, body -> 'n' FROM shard{shard:04}.entities")
    }


# ---- one operation ----


def test_each_verb_follows_in_the_same_call(make_tool, store, servers):
    one, two = servers
    key = make_tool(store).main.put(SHARD, 1, {"n": "1"}).ok().key
    moved(SHARD, one, two)
    for move in [
        lambda main: main.get(key).ok(),
        lambda main: main.get_only(key, ["n"]).ok(),
        lambda main: main.exists(key).ok(),
        lambda main: main.put(SHARD, 1, {"n": "2"}).ok(),
        lambda main: main.put_key(main.reserve(SHARD, 1).ok().keys[0], 1, {"n": "3"}).ok(),
        lambda main: main.reserve(SHARD, 3).ok(),
        lambda main: main.replace(key, 1, {"n": "4"}, {"has": {"n": "1"}}).ok(),
        lambda main: main.merge(key, {"m": "5"}, ["o"]).ok(),
        lambda main: main.increment(key, "n", "1").ok(),
        lambda main: main.where(SHARD).ok(),
        lambda main: main.delete(key).ok(),
    ]:
        move(make_tool(store, exactly_once="on").main)
    assert sorted(stored(two).values()) == [2, 3]


def test_it_is_reported_once_and_then_remembered(tool, servers):
    one, two = servers
    key = tool.main.put(SHARD, 1, {"n": "1"}).ok().key
    moved(SHARD, one, two)
    for _ in range(3):
        assert tool.main.get(key).ok().dict == {"n": "1"}
    assert reports(tool) == [
        '-- shard 3 has moved from server "one" to server "two" (generation 1)'
    ]
    assert len(questions(tool)) == 1
    tool.main.acquire(SHARD).ok()
    assert tool.main.sql("SELECT current_database()").ok().value == two.dbname
    tool.main.release().ok()


def test_shards_that_have_not_moved_are_asked_nothing(tool, servers):
    one, two = servers
    moved(SHARD, one, two)
    for shard in (OTHER, 9):
        tool.main.put(shard, 1, {"n": "1"}).ok()
    assert questions(tool) == [] and reports(tool) == []


def test_a_server_that_is_down_is_an_error_as_ever(make_tool, own_store, own_servers):
    one, two = own_servers
    moved(SHARD, one, two)
    one.server.stop()
    tool = make_tool(own_store)
    tool.main.put(SHARD, 1, {}).gives("HV_UNAVAILABLE")
    tool.main.put(9, 1, {}).ok()
    one.server.start()
    eventually(lambda: tool.main.put(SHARD, 1, {}).status == "HV_OK")
    one.server.stop()
    tool.main.put(SHARD, 1, {}).ok()
    two.server.stop()
    tool.main.put(SHARD, 1, {}).gives("HV_UNAVAILABLE")


def test_a_key_that_was_reserved_before_is_put_afterwards(make_tool, store, servers):
    one, two = servers
    tool = make_tool(store, exactly_once="on")
    keys = tool.main.reserve(SHARD, 2).ok().keys
    tool.main.put(SHARD, 1, {"n": "0"}).ok()  # the next key comes with it
    moved(SHARD, one, two)
    tool.main.put(SHARD, 1, {"n": "1"}).ok()
    for n, key in enumerate(keys, 2):
        tool.main.put_key(key, 1, {"n": str(n)}).ok()
    assert sorted(stored(two).values()) == [0, 1, 2, 3]


# ---- many ----


def test_operations_of_a_batch_part_where_only_some_shards_have_moved(make_tool, store, servers):
    one, two = servers
    tool = make_tool(store)
    puts = [{"shard": 1 + n % 16, "kind": 1, "dict": {"n": str(n)}} for n in range(320)]
    keys = [item["key"] for item in tool.main.put_many(puts).ok().items]
    moved(SHARD, one, two)
    moved(9, two, one)
    again = make_tool(store).main
    assert [item["dict"]["n"] for item in again.get_many(keys).ok().items] == [
        str(n) for n in range(320)
    ]
    again.put_many(puts).ok()
    again.change_many(
        [{"change": "merge", "key": key, "dict": {"m": "1"}} for key in keys]
    ).ok()
    assert len(stored(two, SHARD)) == len(stored(one, 9)) == len(stored(one, 2)) == 40


def test_operations_on_a_key_keep_their_order_in_a_queue(make_tool, store, servers):
    """Those that are added after the store has learned of the move do not overtake the others."""
    one, two = servers
    tool = make_tool(store)
    keys = tool.main.reserve(SHARD, 200).ok().keys
    tool.main.queue_new().ok()
    moved(SHARD, one, two)
    (bystander,) = tool.threads("bystander")
    for at, key in enumerate(keys):
        operations = [
            {"key": key, "kind": 1, "dict": {"n": "0"}, "tag": 10 * at},
            {"change": "increment", "key": key, "attribute": "n", "amount": "1", "tag": 10 * at + 1},
            {"key": key, "tag": 10 * at + 2},
        ]
        for number, each in enumerate(operations):
            (item,) = tool.main.queue_add([each]).items
            assert item["status"] == "HV_OK"
            tool.main.queue_advance(0)
            if (at, number) == (0, 0):
                bystander.exists(keys[1])
    done = tool.main.queue_advance(-1, True).items
    assert {item["status"] for item in done} <= {"HV_OK"}
    tool.main.queue_free().ok()
    assert set(stored(two).values()) == {1} and len(stored(two)) == 200


def test_a_stream_goes_on_while_shards_move(make_tool, store, servers):
    one, two = servers
    tool = make_tool(store)
    streaming = tool.main.begin.stream(80_000, list(range(1, 17)), 10, True)
    for shard in (1, 2, 3):
        Moving(shard, one, two).copy().arrive().switch()
    answer = streaming.reply().ok()
    assert answer.statuses == answer.get_statuses == {"HV_OK": 80_000}
    assert is_there(two, 1)


# ---- while it moves ----


def content(databases, shard):
    """[(key, kind, writer, number)] of the shard, wherever it is; it is on one server only."""
    (place,) = [database for database in databases if is_there(database, shard)]
    return place.query(
        "SELECT id, type, (body->'writer')::int, (body->'number')::int"
        f" FROM shard{shard:04}.entities"
    )


def check_puts(puts, databases):
    """Every put was acknowledged, and is there once."""
    assert {put.status for put in puts} == {"HV_OK"}
    there = {}
    for shard in range(1, 17):
        for key, _, writer, number in content(databases, shard):
            assert (writer, number) not in there, "stored twice"
            there[writer, number] = (shard, key)
    for put in puts:
        assert (put.shard, put.key) == there.pop((put.writer, put.number)), put
    assert not there


@pytest.mark.threads
@pytest.mark.parametrize("ways", ["put,key", "many,queue"])
@pytest.mark.parametrize("publishes", ["the mover", "a store"])
def test_nobody_of_64_threads_notices(stress, store, servers, ways, publishes):
    one, two = servers
    # A queue keeps connections while its thread does something else.
    how = {"threads": 8, "pool_max": 20} if "queue" in ways else {"threads": 64}
    run = stress(store, ways=ways, **how)
    run.flows(servers, 0, 64)
    for turn in range(2):
        for shard in (3, 5):
            moving = Moving(shard, one, two) if turn == 0 else Moving(shard, two, one)
            moving.copy().arrive().switch()
            if publishes == "the mover":
                moving.publish()
            eventually(lambda: is_there(moving.target, shard))
            pause(0.1)
    check_puts(run.finish(), servers)


@pytest.mark.threads
def test_a_move_that_is_undone_before_its_commit_delays_only(stress, store, servers):
    one, two = servers
    run = stress(store, ways="put")
    run.flows(servers, 0, 64)
    for _ in range(3):
        Moving(3, one, two).copy().arrive().switch(commit=False)
    check_puts(run.finish(), servers)
    assert row(one, 3) is None


# ---- the target is not published yet ----


def test_a_store_publishes_what_the_mover_has_not(tool, servers):
    one, two = servers
    key = tool.main.put(SHARD, 1, {"n": "1"}).ok().key
    Moving(SHARD, one, two).copy().arrive().switch()
    assert not is_there(two, SHARD)
    assert tool.main.get(key).ok().dict == {"n": "1"}
    assert is_there(two, SHARD) and row(two, SHARD) == ("here", 1, "")


def test_nothing_is_published_before_the_switch_is_committed(tool, servers):
    """A store that is configured for the target goes back to where the shard comes from."""
    one, two = servers
    moving = Moving(10, two, one).copy().arrive()  # the store has it on two
    key = tool.main.put(10, 1, {"n": "1"}).ok().key
    with pytest.raises(Exception, match="arriving|publish"):
        one.sql("DO $$BEGIN IF hypervault.publish_shard(10, 7) <> 'here' THEN"
                " RAISE 'arriving'; END IF; END$$")
    assert not is_there(one, 10) and row(one, 10)[0] == "arriving"
    moving.switch()
    assert tool.main.get(key).ok().dict == {"n": "1"}


def test_a_store_that_is_configured_for_the_target_goes_to_the_source(
    tmp_path, make_tool, servers, store
):
    one, two = servers
    ahead = store_config(tmp_path / "ahead.conf", {"one": (one, "1-3,4-9"), "two": (two, "3,9-17")})
    moving = Moving(SHARD, one, two).copy().arrive()
    early = make_tool(ahead)
    key = early.main.put(SHARD, 1, {"n": "1"}).ok().key
    assert run(early.main, step("exists", key), shard=SHARD).ok().calls == 2
    moving.switch()
    assert early.main.get(key).ok().dict == {"n": "1"}
    assert is_there(two, SHARD)


@pytest.fixture
def narrow(tmp_path, servers, store):
    """A store whose role may use shard 3 only, and the role; its rights come along with a copy."""
    one, two = servers
    role = f"narrow_{one.dbname}"
    for database in servers:
        database.sql(
            f"CREATE ROLE {role} LOGIN PASSWORD 'narrow'; GRANT SELECT ON hypervault.layout TO {role}"
        )
    one.sql(
        f"GRANT USAGE ON SCHEMA shard0003 TO {role};"
        f"GRANT SELECT, INSERT ON shard0003.entities TO {role};"
        f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA shard0003 TO {role}"
    )
    places = [database.params(user=role) for database in servers]
    places[1]["password"] = "narrow"
    config = store_config(
        tmp_path / "narrow.conf",
        {"one": (places[0], "1-9"), "two": (places[1], "9-17")},
        operation_timeout="3s",
    )
    yield config, role
    for database in servers:
        database.sql(f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_a_role_with_rights_on_the_shard_publishes_it(make_tool, narrow, servers):
    one, two = servers
    config, role = narrow
    tool = make_tool(config)
    tool.main.put(SHARD, 1, {"n": "1"}).ok()
    Moving(SHARD, one, two).copy().arrive().switch()
    tool.main.put(SHARD, 1, {"n": "2"}).ok()
    assert sorted(stored(two).values()) == [1, 2]


def test_a_role_without_rights_waits_for_the_mover(make_tool, narrow, servers):
    """Of another shard: here, it loses those on the copy until it is published."""
    one, two = servers
    config, role = narrow
    tool = make_tool(config)
    moving = Moving(SHARD, one, two).copy().arrive()
    two.sql(f"REVOKE ALL ON ALL TABLES IN SCHEMA {moving.name} FROM {role}")
    moving.switch()
    waiting = tool.main.begin.put(SHARD, 1, {"n": "1"})
    timer = threading.Timer(
        0.3,
        lambda: two.sql(
            f"BEGIN; GRANT SELECT, INSERT ON {moving.name}.entities TO {role};"
            f"SELECT hypervault.publish_shard({SHARD}, 1); COMMIT"
        ),
    )
    timer.start()
    waiting.reply().ok()
    timer.join()
    assert list(stored(two).values()) == [1]


def test_one_that_is_never_published_is_late(make_tool, narrow, servers):
    one, two = servers
    config, role = narrow
    tool = make_tool(config, operation_timeout="300ms")
    moving = Moving(SHARD, one, two).copy().arrive()
    two.sql(f"REVOKE ALL ON ALL TABLES IN SCHEMA {moving.name} FROM {role}")
    moving.switch()
    late = tool.main.put(SHARD, 1, {"n": "1"}).gives("HV_TIMEOUT")
    assert late.message == 'shard 3 has moved to server "two", but was not published there'
    assert late.detail == "no permission to publish shard 3" and late.retriable


# ---- what the records say ----


def test_a_shard_that_has_gone_to_a_stranger_is_an_error_that_names_it(tool, servers):
    one, two = servers
    Moving(SHARD, one, two).copy().switch(to="nine")
    gone = tool.main.put(SHARD, 1, {}).gives("HV_NO_SERVER")
    assert 'has moved to server "nine", which the configuration does not name' in gone.message
    assert "[server nine]" in gone.hint
    tool.main.put(OTHER, 1, {}).ok()


def test_a_server_whose_name_is_a_number_is_found(tmp_path, make_tool, servers, store):
    """As those of a list in Python: the numbers mean nothing, so the others are asked."""
    one, two = servers
    moved(SHARD, one, two)
    numbered = store_config(
        tmp_path / "numbered.conf", {"server 7": (one, "1-9"), "server 8": (two, "9-17")}
    )
    make_tool(numbered).main.put(SHARD, 1, {"n": "1"}).ok()
    assert list(stored(two).values()) == [1]


def test_a_store_that_sleeps_through_two_moves(three, make_tool):
    config, (one, two, third) = three
    tool = make_tool(config, log=True)
    key = tool.main.put(SHARD, 1, {"n": "1"}).ok().key
    moved(SHARD, one, two)
    moved(SHARD, two, third)
    assert tool.main.get(key).ok().dict == {"n": "1"}
    assert len(reports(tool)) == 2
    assert tool.main.where(SHARD).ok().server == 2


def test_there_and_back(tool, servers):
    one, two = servers
    key = tool.main.put(SHARD, 1, {"n": "0"}).ok().key
    for turn in range(6):
        moved(SHARD, *((one, two) if turn % 2 == 0 else (two, one)))
        if turn != 1:
            tool.main.increment(key, "n", "1").ok()
    assert stored(one) == {key: 5}
    assert row(one, SHARD) == ("here", 6, "")


def test_servers_that_contradict_each_other_are_an_error(tool, servers):
    one, two = servers
    moving = Moving(SHARD, one, two).copy().switch()
    moving._write(two, "gone", "one", generation=moving.generation)
    lost = tool.main.put(SHARD, 1, {}).gives("HV_MISMATCH")
    assert lost.message == "servers do not agree on where shard 3 is"
    assert '"two" says that it has gone to server "one" with generation 1' in lost.detail


def test_a_long_way_around_ends(tool, servers):
    """Generations that grow without end, as no move makes them."""
    one, two = servers
    for database in servers:
        database.sql("DROP SCHEMA IF EXISTS shard0003 CASCADE")
    for generation, (database, to) in enumerate(10 * [(one, "two"), (two, "one")], 1):
        database.sql(
            "INSERT INTO hypervault.shard_locations (shard, generation, state, server)"
            " VALUES (3, %s, 'gone', %s) ON CONFLICT (shard) DO NOTHING",
            generation,
            to,
        )
    tool.main.put(SHARD, 1, {}).gives("HV_MISMATCH")


def test_a_database_without_the_table_is_as_it_was(tool, servers):
    for database in servers:
        database.sql("DROP FUNCTION hypervault.publish_shard; DROP TABLE hypervault.shard_locations")
    tool.main.put(SHARD, 1, {}).ok()
    servers[0].sql("DROP SCHEMA shard0003 CASCADE")
    missing = tool.main.put(SHARD, 1, {}).gives("HV_NOT_INITIALIZED")
    assert "hv init" in missing.hint
    tool.main.put(OTHER, 1, {}).ok()


def test_init_makes_the_table_where_it_is_missing(store, servers):
    for database in servers:
        database.sql("DROP FUNCTION hypervault.publish_shard; DROP TABLE hypervault.shard_locations")
    hv("init", config=store).ok()
    for database in servers:
        assert database.query("SELECT * FROM hypervault.shard_locations") == []
        assert database.value("SELECT hypervault.publish_shard(3, 1)") == "none"


def test_init_does_not_make_a_shard_that_has_gone(store, servers):
    one, two = servers
    moved(SHARD, one, two)
    hv("init", config=store).ok()
    assert not is_there(one, SHARD)
    one.sql("DROP SCHEMA shard0004 CASCADE")
    hv("init", config=store).ok()
    assert not is_there(one, SHARD) and is_there(one, 4)


def test_status_knows_where_shards_are(store, servers):
    one, two = servers
    moved(SHARD, one, two)
    report = hv("status", "--json", config=store).ok().json()
    for server, shards in zip(report["servers"], ({1, 2, *range(4, 9)}, {3, *range(9, 17)})):
        assert {each["shard_id"] for each in server["shards"]} == shards
        assert {each["state"] for each in server["shards"]} == {"ready"}


def test_opening_checks_the_servers_that_have_the_shards(make_tool, store, servers):
    one, two = servers
    moved(SHARD, one, two)
    tool = make_tool(store, check_servers="on")
    assert tool.main.where(SHARD).ok().server == 1


# ---- who may what ----


def test_the_records_may_be_read_by_all_and_written_by_none(servers, store):
    one, _ = servers
    role = f"stranger_{one.dbname}"
    one.sql(f"CREATE ROLE {role} LOGIN")
    try:
        with one.connect(user=role) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT * FROM hypervault.shard_locations")
            for statement in (
                "INSERT INTO hypervault.shard_locations VALUES (3, 1, 'gone', 'two')",
                "DELETE FROM hypervault.shard_locations",
            ):
                with pytest.raises(Exception, match="permission denied"):
                    cursor.execute(statement)
    finally:
        one.sql(f"DROP ROLE {role}")


def test_nothing_that_others_have_put_on_the_search_path_is_run(make_tool, store, servers):
    one, two = servers
    keys = [one.value("INSERT INTO shard0003.entities (type, body) VALUES (1, '') RETURNING id")]
    Moving(SHARD, one, two).copy().arrive().switch()
    sources = ("shard/location.c", "entity/verbs.c", "entity/bound.c")
    text = "".join((source_dir() / "src" / each).read_text("utf-8") for each in sources)
    for database in servers:
        assert len(decoys.plant(database, text)) > 20
        database.sql(f"ALTER DATABASE {database.dbname} SET search_path TO public, pg_catalog")
    since = [database.server.log_size() for database in servers]
    tool = make_tool(store)
    keys.append(tool.main.put(SHARD, 1, {"n": "1"}).ok().key)  # which publishes it
    assert make_tool(store).main.where(SHARD).ok().server == 1
    assert run(make_tool(store).main, step("get", keys[0])).ok().calls == 2
    hv("status", config=store).ok()
    hv("init", config=store).ok()
    assert Feed(store).wait().keys == keys
    for database, size in zip(servers, since):
        assert decoys.called(database.server.log_text(size)) == []


# ---- transactions ----


def test_a_function_is_called_again_on_the_new_server(tool, servers):
    one, two = servers
    key = tool.main.put(SHARD, 1, {"n": "1"}).ok().key
    Moving(SHARD, one, two).copy().arrive().switch()
    done = run(tool.main, step("get", key), step("put", SHARD, 1, {"n": "2"})).ok()
    assert done.calls == 2
    assert sorted(stored(two).values()) == [1, 2]


def test_so_it_is_if_its_own_statement_has_not_found_the_shard(tool, servers):
    one, two = servers
    moved(SHARD, one, two)
    done = run(tool.main, sql("INSERT INTO shard0003.entities (type, body) VALUES (1, 'n=>1')")).ok()
    assert done.calls == 2
    assert list(stored(two).values()) == [1]


def test_a_switch_waits_for_a_transaction_in_the_middle(tool, servers):
    one, two = servers
    tool.main.tx_begin(SHARD).ok()
    tool.main.put(SHARD, 1, {"n": "1"}).ok()
    moving = Moving(SHARD, one, two).copy().arrive()
    switching = threading.Thread(target=moving.switch)
    switching.start()
    eventually(lambda: one.value("SELECT count(*) FROM pg_locks WHERE NOT granted"))
    tool.main.put(SHARD, 1, {"n": "2"}).ok()
    tool.main.tx_commit().ok()
    switching.join()
    assert tool.main.where(SHARD).ok().server == 1
    assert sorted(stored(two).values()) == [1, 2]


@pytest.mark.parametrize("pool_max", [1, 4])
def test_in_steps_the_operation_fails_and_the_next_transaction_is_there(
    make_tool, store, servers, pool_max
):
    one, two = servers
    tool = make_tool(store, pool_max=pool_max)
    tool.main.tx_begin(SHARD).ok()
    Moving(SHARD, one, two).copy().arrive().switch()
    failed = tool.main.put(SHARD, 1, {"n": "1"}).gives("HV_MOVED")
    assert failed.message == 'shard 3 has moved to server "two"' and failed.retriable
    tool.main.tx_commit().gives("HV_MOVED")
    for _ in range(2):  # the shard is not published before the first of them
        tool.main.tx_begin(SHARD).ok()
        again = tool.main.put(SHARD, 1, {"n": "1"})
        status = tool.main.tx_commit().status
        if again.status == "HV_OK":
            break
        assert again.status == status == "HV_MOVED"
    assert status == "HV_OK"
    assert list(stored(two).values()) == [1]


def test_a_table_of_the_callers_own_that_is_missing_is_no_move(tool):
    failed = run(tool.main, sql("SELECT * FROM nowhere"))
    assert failed.status == "HV_REFUSED" and failed.sqlstate == "42P01" and failed.calls == 1


def test_a_transaction_on_a_shard_that_is_nowhere(tool, servers):
    servers[0].sql("DROP SCHEMA shard0003 CASCADE")
    failed = run(tool.main, step("put", SHARD, 1, {}))
    assert failed.status == "HV_NOT_INITIALIZED" and failed.calls == 1


# ---- borrowers ----


def test_a_borrower_asks_where_the_shard_is(tool, servers):
    one, two = servers
    assert tool.main.where(SHARD).ok().server == 0
    Moving(SHARD, one, two).copy().arrive().switch()
    assert tool.main.where(SHARD).ok().server == 1
    tool.main.acquire(SHARD).ok()
    tool.main.sql("INSERT INTO shard0003.entities (type, body) VALUES (1, 'n=>1')").ok()
    tool.main.release().ok()
    assert list(stored(two).values()) == [1]
    tool.main.where(8000).gives("HV_NO_SERVER")


# ---- questions about many shards ----


def find_keys(tool, **selection):
    tool.main.find(selection).ok()
    return tool.main.next(bare=True).gives("HV_NOT_FOUND").items


def test_finds_and_counts_of_all_shards(make_tool, store, servers):
    one, two = servers
    tool = make_tool(store)
    puts = [{"shard": 1 + n % 16, "kind": 1, "dict": {"n": str(n)}} for n in range(320)]
    keys = sorted(item["key"] for item in tool.main.put_many(puts).ok().items)
    moved(SHARD, one, two)
    Moving(9, two, one).copy().arrive().switch()
    for _ in range(2):
        fresh = make_tool(store)
        assert find_keys(fresh) == keys
        assert find_keys(fresh) == keys
    assert make_tool(store).main.count({}).ok().total == 320
    assert make_tool(store).main.count({"shards": "3"}).ok().total == 20


def test_a_find_goes_on_where_the_shard_is_in_the_middle(make_tool, store, servers):
    one, two = servers
    tool = make_tool(store)
    puts = [{"shard": 1 + n % 4, "kind": 1, "dict": {"n": str(n)}} for n in range(4000)]
    keys = sorted(item["key"] for item in tool.main.put_many(puts).ok().items)
    tool.main.find({}).ok()
    found = tool.main.next(10, bare=True).ok().items
    moved(SHARD, one, two)
    found += tool.main.next(bare=True).gives("HV_NOT_FOUND").items
    assert found == keys
