"""Changes that triggers, rules and policies of a table keep from happening, or alter; and tables,
encodings and schemas that are not as hypervault would have made them."""

import json

import pytest

from changing import MISSING, SHARD, WAYS, alone, change, content, run_many, run_queue
from harness import Database, hv, make_shards, store_config
from harness.store_tool import make_tool, step  # noqa: F401

pytestmark = pytest.mark.threads

BODY = {"a": "1", "b": "two", "none": None}
CHANGES = {
    "replace": {"kind": 2, "dict": {"x": "y"}},
    "merge": {"dict": {"x": "y"}},
    "increment": {"attribute": "a", "amount": "1"},
    "delete": {},
}
TABLE = f"shard{SHARD:04}.entities"
all_changes = pytest.mark.parametrize("verb", CHANGES)
conditional = pytest.mark.parametrize("condition", [None, {"kind": 7}], ids=["", "conditional"])


@pytest.fixture
def tool(make_tool, store):
    return make_tool(store, log=True)


@pytest.fixture
def database(servers):
    return servers[0]


def put(tool, count=2, kind=7):
    return [tool.main.put(SHARD, kind, BODY).ok().key for _ in range(count)]


def do_all(tool, verb, keys, condition=None):
    """The replies of this change: of one alone, of all at once, of all in a queue."""
    changes = [change(verb, key, condition, **CHANGES[verb]) for key in keys]
    return [alone(tool, changes[0]), *run_many(tool, changes), *run_queue(tool, changes)]


def make_role(database, name):
    """A role that can log in; it is the server's, and stays there."""
    if not database.value("SELECT count(*) FROM pg_roles WHERE rolname = %s", name):
        database.sql(f"CREATE ROLE {name} LOGIN")


def become_owner(database, name):
    """… that may make shards in this database, which will be its own."""
    make_role(database, name)
    database.sql(f'GRANT ALL ON DATABASE "{database.dbname}" TO {name}; CREATE EXTENSION hstore')


# ---- kept as it was ----


def trigger(database):
    database.sql(f"""
        CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
        CREATE TRIGGER keep BEFORE UPDATE OR DELETE ON {TABLE} FOR EACH ROW
        EXECUTE FUNCTION keep()""")


def rule(database):
    for event in ("UPDATE", "DELETE"):
        database.sql(f"CREATE RULE keep_{event} AS ON {event} TO {TABLE} DO INSTEAD NOTHING")


def policy(database):
    """It lets the role see all rows, and change none."""
    database.sql(f"""
        ALTER TABLE {TABLE} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
        CREATE POLICY see ON {TABLE} FOR SELECT USING (true);
        CREATE POLICY lock ON {TABLE} FOR UPDATE USING (false);
        CREATE POLICY make ON {TABLE} FOR INSERT WITH CHECK (true)""")


def assert_not_stored(reply, **why):
    reply.gives("HV_NOT_STORED")
    assert (reply.server, reply.shard) == ("one", SHARD)
    assert TABLE in reply.message + (reply.detail or "") + (reply.hint or ""), reply
    assert not reply.retriable and not reply.outcome_unknown
    assert reply.dict is None


@all_changes
@conditional
def test_a_trigger_that_keeps_the_row_is_the_reason(tool, database, verb, condition):
    keys = put(tool)
    trigger(database)
    for reply in do_all(tool, verb, keys, condition):
        assert_not_stored(reply)
    assert content(database, keys) == {key: (7, BODY) for key in keys}


@all_changes
@pytest.mark.parametrize("prepare", ["on", "off"])
@conditional
def test_exactly_once_it_is_the_reason_too(make_tool, store, database, verb, condition, prepare):
    tool = make_tool(store, exactly_once="on", operation_timeout="30s", prepare=prepare)
    keys = put(tool)
    trigger(database)
    for reply in do_all(tool, verb, keys, condition):
        assert_not_stored(reply)
        assert (reply.ms or 0) < 2500


@all_changes
def test_a_trigger_may_keep_some_of_many(tool, database, verb):
    kept, free = put(tool), put(tool, kind=6)
    database.sql(f"""
        CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
        CREATE TRIGGER keep BEFORE UPDATE OR DELETE ON {TABLE} FOR EACH ROW
        WHEN (OLD.type = 7) EXECUTE FUNCTION keep()""")
    for condition in (None, {"lacks": ["no"]}):
        keys = [kept[0], free[condition is not None], MISSING, kept[1]]
        done = run_many(tool, [change(verb, key, condition, **CHANGES[verb]) for key in keys])
        assert [each.status for each in done] == [
            "HV_NOT_STORED", "HV_OK", "HV_NOT_FOUND", "HV_NOT_STORED",
        ]  # fmt: skip
    assert content(database, kept) == {key: (7, BODY) for key in kept}


@all_changes
def test_a_rule_that_does_something_else_is_told_and_nothing_is_changed(tool, database, verb):
    """PostgreSQL refuses some of the statements on a table with such a rule."""
    keys = put(tool)
    rule(database)
    for condition in (None, {"kind": 7}):
        for reply in do_all(tool, verb, keys, condition):
            assert_not_stored(reply)
            assert not reply.outcome_unknown
    assert content(database, keys) == {key: (7, BODY) for key in keys}


@all_changes
def test_a_policy_that_lets_no_row_be_changed_is_no_success(tmp_path, make_tool, servers, verb):
    database = servers[0]
    become_owner(database, "warden")
    params = {**database.params(), "user": "warden"}
    config = store_config(tmp_path / "warden.conf", {"one": (params, "1-5")})
    hv("init", config=config).ok()
    tool = make_tool(config)
    keys = put(tool)
    policy(database)
    for condition in (None, {"kind": 7}):
        for reply in do_all(tool, verb, keys, condition):
            assert_not_stored(reply)
    assert content(database, keys) == {key: (7, BODY) for key in keys}


def test_a_row_that_may_not_be_seen_is_not_found(tmp_path, make_tool, servers):
    database = servers[0]
    become_owner(database, "blind")
    params = {**database.params(), "user": "blind"}
    config = store_config(tmp_path / "blind.conf", {"one": (params, "1-5")})
    hv("init", config=config).ok()
    tool = make_tool(config)
    keys = put(tool)
    database.sql(f"""
        ALTER TABLE {TABLE} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
        CREATE POLICY partly ON {TABLE} USING (type <> 7)""")
    for verb in CHANGES:
        for condition in (None, {"kind": 7}):
            for reply in do_all(tool, verb, keys, condition):
                reply.gives("HV_NOT_FOUND")
    assert content(database, keys) == {key: (7, BODY) for key in keys}


@pytest.mark.parametrize("verb", ["replace", "merge", "increment"])
@conditional
def test_a_trigger_that_changes_the_key_is_reported_and_nothing_is_changed(
    tool, database, verb, condition
):
    keys = put(tool)
    database.sql(f"""
        CREATE FUNCTION rename() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN NEW.id := NEW.id - (1::bigint << 40); RETURN NEW; END';
        CREATE TRIGGER rename BEFORE UPDATE ON {TABLE} FOR EACH ROW EXECUTE FUNCTION rename()""")
    for reply in do_all(tool, verb, keys, condition):
        assert_not_stored(reply)
    assert database.value(f"SELECT count(*) FROM {TABLE}") == 2
    assert content(database, keys) == {key: (7, BODY) for key in keys}


def test_a_trigger_that_gives_two_rows_each_others_key_is_reported_too(tool, database):
    """Then the keys of the answer are those that were asked for."""
    keys = put(tool)
    database.sql(f"ALTER TABLE {TABLE} DROP CONSTRAINT entities_pkey, ADD UNIQUE (id)"
                 " DEFERRABLE INITIALLY DEFERRED")  # fmt: skip
    database.sql(f"""
        CREATE FUNCTION swap() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN NEW.id := {sum(keys)} - NEW.id; RETURN NEW; END';
        CREATE TRIGGER swap BEFORE UPDATE ON {TABLE} FOR EACH ROW EXECUTE FUNCTION swap()""")
    for condition in (None, {"kind": 7}):
        changes = [change("merge", key, condition, dict={"n": str(n)}) for n, key in enumerate(keys)]
        for reply in run_many(tool, changes):
            assert_not_stored(reply)
    assert content(database, keys) == {key: (7, BODY) for key in keys}


def test_a_trigger_that_alters_the_attributes_is_not_in_the_way(tool, database):
    (key,) = put(tool, 1)
    database.sql(f"""
        CREATE FUNCTION mark() RETURNS trigger LANGUAGE plpgsql AS
            $$BEGIN NEW.body := NEW.body || 'mark=>yes'; RETURN NEW; END$$;
        CREATE TRIGGER mark BEFORE UPDATE ON {TABLE} FOR EACH ROW EXECUTE FUNCTION mark()""")
    tool.main.merge(key, {"x": "y"}).ok()
    tool.main.increment(key, "a", "1", condition={"has": {"mark": "yes"}}).ok()
    assert tool.main.get(key).dict == {**BODY, "x": "y", "a": "2", "mark": "yes"}


# ---- refused ----


@all_changes
@conditional
def test_a_constraint_refuses_its_own_item_only(tool, database, verb, condition):
    good, bad = put(tool)
    database.sql(f"""
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
            RAISE EXCEPTION USING MESSAGE = 'not this one', ERRCODE = 'check_violation';
        END$$;
        CREATE TRIGGER refuse BEFORE UPDATE OR DELETE ON {TABLE} FOR EACH ROW
        WHEN (OLD.id = {bad}) EXECUTE FUNCTION refuse()""")
    changes = [change(verb, key, condition, **CHANGES[verb]) for key in (good, bad, MISSING)]
    done = run_many(tool, changes)
    assert [each.status for each in done] == ["HV_OK", "HV_REFUSED", "HV_NOT_FOUND"]
    assert (done[1].sqlstate, done[1].shard) == ("23514", SHARD)
    assert content(database, [bad]) == {bad: (7, BODY)}
    assert alone(tool, changes[1]).gives("HV_REFUSED").sqlstate == "23514"


def test_without_the_right_to_change_it_is_refused(tmp_path, make_tool, store, servers):
    database = servers[0]
    make_role(database, "reader")
    for schema in ("hypervault", f"shard{SHARD:04}"):
        database.sql(f"GRANT USAGE ON SCHEMA {schema} TO reader")
        database.sql(f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO reader")
    (key,) = put(make_tool(store), 1)
    params = {**database.params(), "user": "reader"}
    tool = make_tool(store_config(tmp_path / "reader.conf", {"one": (params, "1-9")}))
    assert tool.main.get_only(key, ["a"]).ok().dict == {"a": "1"}
    for verb, fields in CHANGES.items():
        for condition in (None, {"kind": 7}):
            refused = alone(tool, change(verb, key, condition, **fields)).gives("HV_REFUSED")
            assert refused.sqlstate == "42501"
    assert content(database, [key]) == {key: (7, BODY)}


@all_changes
def test_a_shard_without_its_table_is_not_initialized(tool, database, verb):
    (key,) = put(tool, 1)
    database.sql(f"DROP TABLE {TABLE}")
    for condition in (None, {"kind": 7}):
        for reply in do_all(tool, verb, [key, key + 1], condition):
            assert reply.gives("HV_NOT_INITIALIZED").shard == SHARD


# ---- another column ----


def test_a_table_with_one_more_column_keeps_what_is_in_it(tool, database):
    database.sql(f"ALTER TABLE {TABLE} ADD updated timestamp")
    keys = put(tool, 5)
    database.sql(f"UPDATE {TABLE} SET updated = '2020-02-02'")
    for verb, fields in CHANGES.items():
        for condition in (None, {"lacks": ["no"]}):
            run = [change(verb, key, condition, **fields) for key in keys[:3]]
            if verb != "delete":
                assert {each.status for each in run_many(tool, run)} == {"HV_OK"}, verb
                alone(tool, run[0]).ok()
    assert tool.main.get(keys[0]).ok().dict == {"x": "y", "a": "4"}
    assert database.query(f"SELECT DISTINCT updated::text FROM {TABLE}") == [
        ("2020-02-02 00:00:00",)
    ]
    tool.main.delete(keys[0]).ok()
    tool.main.delete(keys[1], {"kind": 2}).ok()
    assert set(content(database, keys)) == set(keys[2:])


# ---- encodings ----

WORDS = {"LATIN1": "Zürich ÿ", "EUC_JP": "東京 かな", "SQL_ASCII": "Zürich €", "UTF8": "東京 😀"}


@pytest.fixture(params=WORDS)
def in_encoding(request, shared_servers, tmp_path):
    """A database in this encoding, a store in it, and a word of it."""
    server = shared_servers[0]
    database = Database(server, f"changes_{request.param.lower()}")
    server.sql(
        f"CREATE DATABASE {database.dbname} ENCODING '{request.param}' TEMPLATE template0"
        " LC_COLLATE 'C' LC_CTYPE 'C'"
    )
    config = store_config(tmp_path / "encoded.conf", {"one": (database, "1-5")})
    make_shards(config, database)
    yield database, config, WORDS[request.param]
    database.drop()


def test_every_text_of_the_databases_encoding_can_be_changed_and_asked_for(make_tool, in_encoding):
    database, config, word = in_encoding
    tool = make_tool(config)
    body = {word: word, "n": "1", "null": None, "quoted": 'a "b" \\ c', "x=>y": "z,"}
    keys = [tool.main.put(SHARD, 1, body).ok().key for _ in range(2)]
    condition = {"has": {word: word, "quoted": body["quoted"]}, "lacks": [word + "!"]}
    wrong = {"has": {word: word + "!"}}
    for way in WAYS:
        for key in keys:
            assert way(tool, change("merge", key, wrong, remove=["n"])).gives("HV_CHANGED").dict == body
            way(tool, change("merge", key, condition, dict={word + "2": word}, remove=["x=>y"])).ok()
            way(tool, change("increment", key, condition, attribute=word + "n", amount="1.5")).ok()
            expected = {**body, word + "2": word, word + "n": "1.5"}
            del expected["x=>y"]
            assert tool.main.get(key).dict == expected
            way(tool, change("replace", key, condition, kind=1, dict=body)).ok()
            no_number = way(tool, change("increment", key, attribute=word, amount="1"))
            assert word in no_number.gives("HV_INVALID").message
            assert word in no_number.detail
    only = tool.main.get_only_many(keys, [word, "null", word + "!"]).ok().items
    assert [item["dict"] for item in only] == 2 * [{word: word, "null": None}]
    assert tool.main.get_only(keys[0], [word]).ok().dict == {word: word}
    for item in run_many(tool, [change("delete", key, condition) for key in keys]):
        item.ok()


def test_what_the_database_cannot_represent_is_refused_alone(make_tool, shared_servers, tmp_path):
    server = shared_servers[0]
    database = Database(server, "changes_narrow")
    server.sql(
        f"CREATE DATABASE {database.dbname} ENCODING 'LATIN1' TEMPLATE template0"
        " LC_COLLATE 'C' LC_CTYPE 'C'"
    )
    try:
        config = store_config(tmp_path / "encoded.conf", {"one": (database, "1-5")})
        make_shards(config, database)
        tool = make_tool(config)
        keys = put(tool, 3)
        strange = [
            change("merge", keys[1], dict={"a": "😀"}),
            change("increment", keys[1], attribute="😀", amount="1"),
            change("delete", keys[1], {"has": {"a": "😀"}}),
        ]
        for each in strange:
            good = [change("merge", key, dict={"c": "d"}) for key in (keys[0], keys[2])]
            done = run_many(tool, [good[0], each, good[1]])
            assert [one.status for one in done] == ["HV_OK", "HV_REFUSED", "HV_OK"]
            assert done[1].sqlstate == "22P05"
            alone(tool, each).gives("HV_REFUSED")
        assert tool.main.get(keys[1]).dict == BODY
        tool.main.close(1000).ok()
        tool.open(config).ok()
    finally:
        server.terminate_clients(database.dbname)
        database.drop()


# ---- hstore elsewhere ----


@pytest.mark.parametrize(
    "schema", ["extensions", "Odd Schema", 'a "quoted" % one', '"' * 63, "ü" * 31, "%s%h%b$1"]
)
def test_hstore_may_be_in_any_schema(make_tool, servers, tmp_path, schema):
    database = servers[0]
    quoted = '"' + schema.replace('"', '""') + '"'
    with database.connect() as connection, connection.cursor() as cursor:  # no parameters: "%"
        cursor.execute(f"CREATE SCHEMA {quoted}")
        cursor.execute(f"CREATE EXTENSION hstore SCHEMA {quoted}")
    config = store_config(tmp_path / "elsewhere.conf", {"one": (database, "1-9")})
    hv("init", config=config).ok()
    for options in ({}, {"lanes": 0, "prepare": "off"}):
        tool = make_tool(config, **options)
        for way in WAYS:
            (key,) = put(tool, 1)
            way(tool, change("replace", key, {"has": {"b": "two"}}, kind=8, dict=BODY)).ok()
            way(tool, change("replace", key, kind=8, dict=BODY)).ok()
            way(tool, change("merge", key, dict={"x": "y"}, remove=["b"])).ok()
            way(tool, change("merge", key, {"lacks": ["b"]}, dict={"z": None})).ok()
            way(tool, change("increment", key, {"kind": 8}, attribute="a", amount="-3")).ok()
            assert tool.main.get(key).dict == {"a": "-2", "none": None, "x": "y", "z": None}
            assert tool.main.get_only(key, ["a"]).ok().dict == {"a": "-2"}
            assert run_queue(tool, 2 * [{"key": key, "names": ["x"]}])[1].ok().dict == {"x": "y"}
            way(tool, change("delete", key, {"has": {"b": "two"}})).gives("HV_CHANGED")
            way(tool, change("delete", key)).ok()


def test_a_connection_that_was_opened_before_hstore_existed_serves_changes(
    tmp_path, make_tool, servers
):
    database = servers[0]
    database.sql("DROP EXTENSION IF EXISTS hstore CASCADE")
    config = store_config(tmp_path / "early.conf", {"one": (database, "1-5")})
    ann = make_tool(config, pool_max=1).main
    ann.acquire(3).ok()
    ann.release().ok()
    hv("init", config=config).ok()
    key = ann.put(3, 7, BODY).ok().key
    ann.merge(key, {"early": "1"}).ok()
    assert ann.increment(key, "early", "1").ok().dict == {"early": "2"}
    assert content(database, [key])[key][1]["early"] == "2"
