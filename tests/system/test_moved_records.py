"""What servers record about where shards are, what stores make of it, and who may publish.

The shards are moved by hand, see harness/moved.py.
"""

import threading

import pytest

import decoys
from feeding import Feed
from harness import eventually, hv, make_shards, source_dir, store_config
from harness.moved import Moving, is_there, moved, row
from harness.store_tool import make_tool, step  # noqa: F401
from transacting import run

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


def stored(database, shard=SHARD):
    return {
        key: int(n)
        for key, n in database.query(f"SELECT id, body -> 'n' FROM shard{shard:04}.entities")
    }


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
    tool = make_tool(config, operation_timeout="2s")
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


def test_so_it_is_while_the_shard_is_on_its_way_back(tmp_path, make_tool, servers, store):
    one, two = servers
    moved(SHARD, one, two)
    back = Moving(SHARD, two, one).copy().arrive()
    numbered = store_config(
        tmp_path / "numbered.conf",
        {"server 7": (one, "1-9"), "server 8": (two, "9-17")},
        operation_timeout="5s",
    )
    tool = make_tool(numbered)
    tool.main.put(SHARD, 1, {"n": "1"}).ok()
    assert list(stored(two).values()) == [1]
    back.switch()
    tool.main.put(SHARD, 1, {"n": "2"}).ok()
    assert sorted(stored(one).values()) == [1, 2]


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
