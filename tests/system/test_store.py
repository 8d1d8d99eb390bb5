"""Put and get, what the log gets of them, and what a store accepts when it is opened."""

import pytest

from harness import hv, store_config
from harness.store_tool import StoreTool, make_tool  # noqa: F401

ONE, TWO = 0, 1


def of_shard(key):
    return key >> 10 & 8191


# ---- round trips ----


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"": ""},
        {"beep": "boop"},
        {"null": None, "empty": ""},
        {"a": "'\"\\=>,", "'\"\\=>,": "b", "NULL": "NULL", " ": "\n\t"},
        {"ключ": "значение", "🙂": "🙃"},
        {f"key {n}": f"value {n}" for n in range(1000)},
        {"big": "x" * 1_000_000},
        {"k" * 100_000: "ü" * 100_000},
    ],
    ids=["empty", "empty text", "plain", "null", "quotes", "unicode", "many", "1 MB", "long key"],
)
@pytest.mark.parametrize("prepare", ["on", "off"])
def test_what_is_put_is_what_get_returns(make_tool, store, servers, body, prepare):
    ann = make_tool(store, prepare=prepare).main
    for shard, database in ((3, servers[ONE]), (16, servers[TWO])):
        key = ann.put(shard, -5, body).ok().key
        assert of_shard(key) == shard
        for _ in range(2):  # once to prepare, once prepared
            entity = ann.get(key).ok()
            assert (entity.key, entity.kind, entity.dict) == (key, -5, body)
        with database.connect() as connection:
            import psycopg2.extras

            psycopg2.extras.register_hstore(connection)
            cursor = connection.cursor()
            cursor.execute(f"SELECT id, type, body FROM shard{shard:04}.entities")
            assert cursor.fetchall() == [(key, -5, body)]


def test_no_dict_is_no_attributes(make_tool, store):
    ann = make_tool(store).main
    assert ann.get(ann.put(3, 1, None).ok().key).ok().dict == {}


@pytest.mark.parametrize("kind", [-32768, -1, 0, 32767])
def test_every_smallint_is_a_kind(make_tool, store, kind):
    ann = make_tool(store).main
    assert ann.get(ann.put(3, kind, {}).ok().key).ok().kind == kind


def test_keys_of_a_shard_ascend(make_tool, store):
    ann = make_tool(store).main
    keys = [ann.put(3, 1, {}).ok().key for _ in range(50)]
    assert [key >> 23 for key in keys] == sorted(key >> 23 for key in keys)
    assert len(set(keys)) == 50


def test_what_is_not_there_is_not_found(make_tool, store):
    ann = make_tool(store).main
    missing = ann.get(1 << 23 | 3 << 10).gives("HV_NOT_FOUND")
    assert missing.message is None


@pytest.mark.parametrize(
    "shard, kind, status, message",
    [
        (-1, 0, "HV_INVALID", "shard -1 is out of range: 0 to 8191"),
        (8192, 0, "HV_INVALID", "shard 8192 is out of range: 0 to 8191"),
        (17, 0, "HV_NO_SERVER", "no server holds shard 17"),
        (0, 0, "HV_NO_SERVER", "no server holds shard 0"),
        (3, 32768, "HV_INVALID", "kind 32768 is out of range: -32768 to 32767"),
        (3, -32769, "HV_INVALID", "kind -32769 is out of range: -32768 to 32767"),
    ],
)
def test_a_put_that_cannot_be_is_refused_before_anything_is_sent(
    make_tool, store, shard, kind, status, message
):
    tool = make_tool(store)
    refused = tool.main.put(shard, kind, {}).gives(status)
    assert refused.message == message
    assert not refused.retriable and not refused.outcome_unknown
    assert tool.stats(ONE).opened == tool.stats(TWO).opened == 0


@pytest.mark.parametrize("key", [0, -1, -(2**63)])
def test_what_is_no_key_is_refused(make_tool, store, key):
    refused = make_tool(store).main.get(key).gives("HV_INVALID")
    assert refused.message == f"{key} is not a key"


def test_a_shard_that_is_not_made_is_reported_with_what_to_do(make_tool, config):
    ann = make_tool(config).main
    for refused in (ann.put(3, 1, {}), ann.get(1 << 23 | 3 << 10)):
        refused.gives("HV_NOT_INITIALIZED")
        assert refused.message == 'shard 3 is not initialised on server "one"'
        assert refused.hint.startswith("Run `hv init`.")
        assert refused.detail == 'relation "shard0003.entities" does not exist'
        assert (refused.server, refused.shard) == ("one", 3)
        assert not refused.retriable


def test_what_the_server_refuses_is_reported_in_its_words(make_tool, store, servers):
    servers[ONE].sql("ALTER TABLE shard0003.entities ADD CONSTRAINT small CHECK (type < 10)")
    refused = make_tool(store).main.put(3, 10, {}).gives("HV_REFUSED")
    assert refused.message == (
        'new row for relation "entities" violates check constraint "small"'
    )
    assert refused.detail.startswith("Failing row contains")
    assert refused.sqlstate == "23514"
    assert (refused.server, refused.shard) == ("one", 3)
    assert not refused.retriable and not refused.outcome_unknown


def test_a_refusal_that_may_pass_is_retriable(make_tool, store, servers):
    # lock_timeout comes from the connection's options.
    params = {**servers[ONE].params(), "options": "-c lock_timeout=50ms"}
    config = store_config(f"{store}.2", {"one": (params, "1-9")})
    ann = make_tool(config).main
    with servers[ONE].connect() as blocker:
        blocker.autocommit = False
        blocker.cursor().execute("LOCK TABLE shard0003.entities")
        refused = ann.put(3, 1, {}).gives("HV_REFUSED")
        assert refused.sqlstate == "55P03"
        assert refused.retriable
    ann.put(3, 1, {}).ok()


def test_entities_of_the_original_implementation_are_read(make_tool, tmp_path, servers):
    servers[ONE].sql(
        "CREATE EXTENSION hstore;"
        "CREATE SCHEMA shard0012;"
        "CREATE SEQUENCE shard0012.table_id_seq;"
        "CREATE FUNCTION shard0012.next_id(OUT result bigint) LANGUAGE plpgsql AS $$"
        "  DECLARE our_epoch bigint := 1379365531352; seq_id bigint; now_millis bigint;"
        "  BEGIN"
        "    SELECT nextval('shard0012.table_id_seq') % 1024 INTO seq_id;"
        "    SELECT FLOOR(EXTRACT(EPOCH FROM clock_timestamp()) * 1000) INTO now_millis;"
        "    result := (now_millis - our_epoch) << 23;"
        "    result := result | (12 << 10);"
        "    result := result | (seq_id);"
        "  END $$;"
        "CREATE TABLE shard0012.entities (id bigint PRIMARY KEY DEFAULT shard0012.next_id(),"
        "  type smallint NOT NULL, body hstore NOT NULL, updated timestamp DEFAULT now());"
        "INSERT INTO shard0012.entities VALUES (307821103844175873, 1, 'beep=>boop')"
    )
    config = store_config(tmp_path / "c", {"one": (servers[ONE], "12")})
    ann = make_tool(config).main
    assert ann.get(307821103844175873).ok().dict == {"beep": "boop"}
    key = ann.put(12, 1, {"a": None}).ok().key
    assert of_shard(key) == 12
    assert ann.get(key).ok().dict == {"a": None}


def test_a_key_that_would_not_lead_back_is_reported(make_tool, store, servers):
    servers[ONE].sql(
        "CREATE OR REPLACE FUNCTION shard0003.next_id(OUT result bigint) LANGUAGE sql"
        " AS 'SELECT 1::bigint << 23 | 4 << 10'"
    )
    wrong = make_tool(store).main.put(3, 1, {}).gives("HV_CORRUPT")
    assert wrong.message == "shard0003.next_id() does not make keys of shard 3"


# ---- the log ----


def events_of(tool, count):
    return [
        (event.thread, event.server, event.shard, event.status, event.sqlstate)
        for event in tool.await_log(count)
    ]


def test_the_log_sees_every_statement(make_tool, store):
    tool = make_tool(store, log=True)
    ann = tool.threads("ann")[0]
    key = ann.put(3, 1, {}).ok().key
    first = len(tool.log)  # the statements of opening a connection came before
    assert all(event.shard == -1 for event in tool.log[:-1])
    assert tool.log[-1].log == (
        "INSERT INTO shard0003.entities (type, body) VALUES ($1, $2) RETURNING id"
    )
    ann.get(key).ok()
    ann.get(1 << 23 | 3 << 10).gives("HV_NOT_FOUND")
    ann.put(3, 2, {}).ok()
    assert events_of(tool, first + 3)[first - 1 :] == [("ann", "one", 3, "HV_OK", None)] * 4
    assert all(0 < event.us < event_limit for event in tool.log)
    assert [event.parameters for event in tool.log] == [[]] * len(tool.log)


event_limit = 10_000_000  # microseconds that no statement takes


def test_the_log_sees_what_fails(make_tool, store, servers):
    servers[ONE].sql("ALTER TABLE shard0003.entities ADD CHECK (type < 10)")
    tool = make_tool(store, log=True)
    tool.main.put(3, 10, {}).gives("HV_REFUSED")
    assert tool.log[-1].status == "HV_REFUSED"
    assert tool.log[-1].sqlstate == "23514"


def test_the_log_sees_what_a_borrower_left_to_be_undone(make_tool, store):
    tool = make_tool(store, log=True)
    ann = tool.threads("ann")[0]
    ann.acquire(3).ok()
    ann.sql("BEGIN").ok()
    ann.release().ok()
    assert tool.log[-1].log == "ROLLBACK"


def test_the_log_sees_parameters_only_if_it_is_asked_to(make_tool, store):
    tool = make_tool(store, log=True, log_parameters="on")
    key = tool.main.put(3, -1, {"a": "it's", "n": None}).ok().key
    assert tool.log[-1].parameters == ["-1", '"a"=>"it\'s", "n"=>NULL']
    tool.main.put(3, 1, None).ok()
    assert tool.log[-1].parameters == ["1", ""]
    tool.main.get(key).ok()
    assert tool.log[-1].parameters == [str(key)]


def test_no_password_is_ever_logged_or_shown(make_tool, store, servers):
    password = servers[TWO].server.password
    tool = make_tool(store, log=True, log_parameters="on")
    tool.main.put(9, 1, {}).ok()
    tool.main.put(9, 99999, {}).gives("HV_INVALID")
    assert tool.log
    assert password not in str([event.fields for event in tool.log])


# ---- opening ----


@pytest.fixture
def unopened(store):
    tool = StoreTool(store, opened=False)
    yield tool
    tool.finish()


def test_options_are_set_by_name(unopened, store):
    unopened.open(store, pool_max=2, pool_block_timeout="3s", log_parameters="no").ok()
    ann = unopened.threads("ann")[0]
    ann.acquire(3, conn="a").ok()
    ann.acquire(3, conn="b").ok()
    assert 3000 <= ann.acquire(3, conn="c").gives("HV_TIMEOUT").ms < 5500


@pytest.mark.parametrize(
    "name, value, message, hint",
    [
        ("pool_maks", "3", 'unknown option "pool_maks"', 'Did you mean "pool_max"?'),
        ("pool_max", "0", 'invalid value for option "pool_max"', None),
        ("pool_max", "many", 'invalid value for option "pool_max"', None),
    ],
)
def test_wrong_options_are_reported(unopened, store, name, value, message, hint):
    refused = unopened.open(store, **{name: value}).gives("HV_BAD_CONFIG")
    assert refused.message == message
    assert refused.hint == hint


def test_another_epoch_is_refused(make_tool, store):
    ann = make_tool(store, epoch=1379365531353).main
    for refused in (ann.put(3, 1, {}), ann.get(1 << 23 | 3 << 10), ann.acquire(3)):
        refused.gives("HV_MISMATCH")
        assert refused.message == 'the shards on server "one" were made with another epoch'
        assert refused.detail == "Their epoch is 1379365531352, the store's is 1379365531353."
        assert refused.hint == 'Set the option "epoch" to 1379365531352.'
        assert not refused.retriable


def test_a_newer_layout_is_refused_and_an_older_one_is_not(make_tool, store, servers):
    version = servers[ONE].value("SELECT version FROM hypervault.layout")
    servers[ONE].sql("UPDATE hypervault.layout SET version = %s", version + 1)
    tool = make_tool(store)
    refused = tool.main.put(3, 1, {}).gives("HV_MISMATCH")
    assert refused.message == 'the database on server "one" has a newer layout'
    assert refused.hint == "Use a newer version of hypervault."
    now = tool.stats()
    assert (now.open, now.opened, now.fields["failed"]) == (0, 0, 1)
    servers[ONE].sql("UPDATE hypervault.layout SET version = %s", version)
    tool.main.put(3, 1, {}).ok()


def test_a_store_is_opened_without_asking_its_servers(unopened, tmp_path):
    nowhere = {"host": "127.0.0.1", "port": "1", "dbname": "x", "user": "x"}
    config = store_config(tmp_path / "c", {"one": (nowhere, "1-9")})
    unopened.open(config).ok()
    unopened.main.put(3, 1, {}).gives("HV_UNAVAILABLE")


def test_check_servers_is_content_with_a_store_in_order(unopened, store):
    unopened.open(store, check_servers="on").ok()
    assert unopened.stats(ONE).opened == unopened.stats(TWO).opened == 1


def test_check_servers_finds_a_server_that_is_down(unopened, tmp_path, store, servers):
    nowhere = {"host": "127.0.0.1", "port": "1", "dbname": "x", "user": "x"}
    config = store_config(
        tmp_path / "c", {"one": (servers[ONE], "1-9"), "three": (nowhere, "9-17")}
    )
    refused = unopened.open(config, check_servers="on").gives("HV_UNAVAILABLE")
    assert refused.server == "three"


def test_check_servers_finds_shards_that_are_not_made(unopened, store, servers):
    servers[TWO].sql("DROP SCHEMA shard0012 CASCADE")
    refused = unopened.open(store, check_servers="on").gives("HV_NOT_INITIALIZED")
    assert (refused.server, refused.shard) == ("two", 12)
    assert refused.hint.startswith("Run `hv init`.")


def test_check_servers_finds_another_epoch(unopened, store):
    refused = unopened.open(store, check_servers="on", epoch=0).gives("HV_MISMATCH")
    assert refused.server == "one"


def test_the_command_reads_what_the_library_puts(make_tool, store):
    key = make_tool(store).main.put(3, 7, {"a": "b"}).ok().key
    shown = hv("get", str(key), config=store).ok().out
    assert "a" in shown and "b" in shown
