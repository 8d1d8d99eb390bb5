"""Are the schemas of all shards alike? hv_schema_check()."""

import os
import subprocess

import pytest

from harness import make_shards, store_config
from harness.server import binaries
from indexing import fill, groups, index_tool

WORDS = {
    "schema", "table", "partitioned", "view", "materialized", "sequence", "foreign", "composite",
    "column", "constraint", "index", "function", "procedure", "aggregate", "trigger", "rule",
    "policy", "enum", "domain", "range", "type", "statistics", "collation", "operator", "grant",
}  # fmt: skip

# Everything that a schema may have.
PLENTY = """
CREATE SCHEMA IF NOT EXISTS {s};
SET search_path TO {s}, public;
CREATE TYPE mood AS ENUM ('good', 'it''s', 'bad');
CREATE DOMAIN score AS integer DEFAULT 5 NOT NULL CONSTRAINT positive CHECK (value > 0);
CREATE TYPE pair AS (left_one integer, right_one text);
CREATE TYPE span AS RANGE (subtype = float8);
CREATE COLLATION mine (provider = libc, locale = 'C');
CREATE TABLE notes (
    id bigint GENERATED ALWAYS AS IDENTITY, n serial, mood mood DEFAULT 'good', score score,
    text text COLLATE "C" NOT NULL, gone int, sum int GENERATED ALWAYS AS (1 + 1) STORED,
    pair pair, span span, number numeric(10, 2) DEFAULT 1.5,
    PRIMARY KEY (id), UNIQUE (text) DEFERRABLE, CHECK (id > 0),
    EXCLUDE USING btree (n WITH =)
) WITH (fillfactor = 80);
ALTER TABLE notes DROP COLUMN gone;
ALTER TABLE notes ALTER text SET STATISTICS 50, ALTER text SET STORAGE EXTERNAL;
ALTER TABLE notes ALTER n SET (n_distinct = -1);
ALTER TABLE entities ADD COLUMN score bigint DEFAULT 0, ADD COLUMN note bigint REFERENCES notes;
CREATE UNLOGGED TABLE volatile (a int);
ALTER TABLE volatile ADD CONSTRAINT small CHECK (a < 5) NOT VALID;
CREATE TABLE parts (a int, b int) PARTITION BY RANGE (a);
CREATE TABLE part PARTITION OF parts FOR VALUES FROM (1) TO (9);
CREATE TABLE child (c int) INHERITS (notes);
CREATE VIEW good AS SELECT id, score FROM notes WHERE mood = 'good'::mood;
CREATE MATERIALIZED VIEW cached AS SELECT count(*) FROM entities;
CREATE SEQUENCE own INCREMENT 7 CYCLE OWNED BY notes.n;
CREATE STATISTICS stats ON id, n FROM notes;
CREATE INDEX by_score ON notes (score DESC, lower(text)) INCLUDE (n) WHERE score > 2;
CREATE INDEX ON entities USING gin (body);
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    PERFORM nextval('{s}.own'); RETURN NEW; END $$;
CREATE FUNCTION twice(a integer, b text DEFAULT 'x') RETURNS text LANGUAGE sql STABLE
    RETURN b || a || b;
CREATE PROCEDURE nothing() LANGUAGE sql AS 'SELECT 1' SET work_mem = '1MB';
CREATE AGGREGATE product(integer) (sfunc = int4mul, stype = integer, initcond = '1');
CREATE TRIGGER touch BEFORE INSERT ON entities FOR EACH ROW WHEN (NEW.type > 5)
    EXECUTE FUNCTION touch();
ALTER TABLE entities DISABLE TRIGGER touch;
CREATE RULE quiet AS ON DELETE TO volatile DO INSTEAD NOTHING;
ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_notes ON notes FOR SELECT TO PUBLIC USING (id > 0);
GRANT SELECT ON notes TO PUBLIC;
GRANT UPDATE (text) ON notes TO {role} WITH GRANT OPTION;
GRANT USAGE ON SCHEMA {s} TO {role};
REVOKE EXECUTE ON FUNCTION twice FROM PUBLIC;
ALTER DEFAULT PRIVILEGES IN SCHEMA {s} GRANT SELECT ON TABLES TO {role};
"""


@pytest.fixture
def role(server):
    name = f"r_{server.dbname}"
    server.sql(f"CREATE ROLE {name}")
    yield name
    server.sql(f"DROP OWNED BY {name}; DROP ROLE {name}")


def add_plenty(database, shard, role):
    with database.connect() as connection, connection.cursor() as cursor:
        cursor.execute(PLENTY.replace("{s}", f"shard{shard:04}").replace("{role}", role))


@pytest.fixture
def one(tmp_path, server):
    """Shards 1 to 8 of one server."""
    config = store_config(tmp_path / "one.conf", {"one": (server, "1-9")})
    make_shards(config, server)
    return config


def assert_lines(description):
    for line in description.splitlines():
        assert line.split()[0] in WORDS, line


# ---- what is alike ----


def test_shards_that_nobody_has_changed_are_alike(store, servers):
    (group,) = groups(store)
    assert (group["count"], group["shards"], group["differences"]) == (16, "1-17", "")
    assert_lines(group["description"])
    for line in (
        "column entities.body public.hstore not null, number 3",
        "constraint entities.entities_pkey PRIMARY KEY (id)",
        "sequence table_id_seq bigint start 1 increment 1 minimum 1 maximum 9223372036854775807"
        " cache 1 owner postgres",
        "grant on schema to postgres: CREATE, USAGE",
    ):
        assert line in group["description"].splitlines()
    fill(servers[0], [3], 100)
    servers[0].sql("SELECT shard0004.next_id(); ANALYZE")
    servers[0].sql("COMMENT ON TABLE shard0005.entities IS 'mine'")
    assert groups(store) == [group]


def test_each_generator_of_keys_is_a_group(tmp_path, extension_server):
    """Their functions have the shard's number in them."""
    config = store_config(
        tmp_path / "strict.conf", {"one": (extension_server, "0-12,900,1000,8191")}, keys="strict"
    )
    make_shards(config, extension_server)
    (strict,) = groups(config)
    assert strict["count"] == 15
    assert "@number" in strict["description"]
    more = store_config(
        tmp_path / "more.conf",
        {"one": (extension_server, "0-12,900,1000,8191,100-105,2000")},
        keys="auto",
    )
    extension_server.sql("DROP EXTENSION hypervault CASCADE")
    portable = store_config(
        tmp_path / "portable.conf", {"one": (extension_server, "100-105,2000")}, keys="portable"
    )
    make_shards(portable, extension_server)
    (group,) = groups(portable)
    assert group["count"] == 6 and "@number" in group["description"]
    found = groups(more)
    assert [one["count"] for one in found] == [15, 6]
    assert "hypervault.next_id" in found[1]["differences"]


def test_shards_of_the_original_implementation_are_alike(tmp_path, server):
    import test_original_database as original

    server.sql("CREATE EXTENSION hstore")
    for shard in (1, 2, 5, 10, 1023):
        original._make_original_shard(server, shard)
    config = store_config(tmp_path / "original.conf", {"one": (server, "1,2,5,10,1023")})
    (group,) = groups(config)
    assert group["count"] == 5
    server.sql(
        original.NEXT_ID.replace("CREATE", "CREATE OR REPLACE", 1).format(
            schema="shard0005", shard=6, epoch=original.OUR_EPOCH
        )
    )
    _, wrong = groups(config)
    assert wrong["shards"] == "5"
    assert wrong["differences"] == (
        "-function next_id(OUT result bigint) |     shard_id int := @number;\n"
        "+function next_id(OUT result bigint) |     shard_id int := 6;\n"
    )


def test_shards_with_plenty_are_alike(one, server, role):
    for shard in range(1, 9):
        add_plenty(server, shard, role)
    (group,) = groups(one)
    assert_lines(group["description"])
    lines = group["description"].splitlines()
    for word in WORDS - {"foreign", "operator", "type"}:
        assert any(line.startswith(word) for line in lines), word
    assert "shard0" not in group["description"]
    assert "gone" not in group["description"]


def dump_and_restore(database, shard):
    params = database.server.socket_params()
    place = [f"--{name}={value}" for name, value in params.items()] + ["-U", "postgres"]
    program = os.path.join(binaries(), "pg_dump")
    dump = subprocess.run(
        [program, *place, f"--schema=shard{shard:04}", "--schema-only", database.dbname],
        capture_output=True,
        check=True,
    ).stdout
    database.sql(f"DROP SCHEMA shard{shard:04} CASCADE")
    subprocess.run(
        ["psql", *place, "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", database.dbname],
        input=dump,
        capture_output=True,
        check=True,
    )


@pytest.mark.parametrize("plenty", [False, True])
def test_a_restored_shard_is_like_the_others(one, server, role, plenty):
    for shard in range(1, 9) if plenty else ():
        add_plenty(server, shard, role)
    (before,) = groups(one)
    dump_and_restore(server, 3)
    (after, *others) = groups(one)
    assert others == [], others[0]["differences"]
    assert after == before


def test_the_ledger_is_left_out(one, server):
    before = groups(one)
    server.sql("CREATE TABLE shard0002.hypervault_migrations (id text PRIMARY KEY)")
    assert groups(one) == before


# ---- what is not ----

CHANGES = {
    "column": ("ALTER TABLE {s}.entities ADD extra integer", "+column entities.extra integer"),
    "dropped": ("ALTER TABLE {s}.notes DROP n", "-column notes.n integer"),
    "order": (
        "ALTER TABLE {s}.parts DROP b; ALTER TABLE {s}.parts ADD c int, ADD b int",
        "+column parts.b integer, number 3",
    ),
    "type": (
        "ALTER TABLE {s}.notes ALTER n TYPE bigint",
        "+column notes.n bigint not null default nextval('@shard.notes_n_seq'::regclass)",
    ),
    "length": ("ALTER TABLE {s}.notes ALTER number TYPE numeric(10, 3)", "numeric(10,3)"),
    "default": (
        "ALTER TABLE {s}.entities ALTER type SET DEFAULT 7",
        "+column entities.type smallint not null default 7, number 2",
    ),
    "not null": (
        "ALTER TABLE {s}.entities ALTER body DROP NOT NULL",
        "+column entities.body public.hstore, number 3",
    ),
    "constraint": (
        "ALTER TABLE {s}.entities ADD CONSTRAINT few CHECK (type < 10)",
        "+constraint entities.few CHECK ((type < 10))",
    ),
    "validated": (
        "ALTER TABLE {s}.volatile VALIDATE CONSTRAINT small",
        "-constraint volatile.small CHECK ((a < 5)) NOT VALID",
    ),
    "index": (
        "CREATE INDEX mine ON {s}.entities (type)",
        "+index entities.mine CREATE INDEX mine ON @shard.entities USING btree (type)",
    ),
    "invalid": (
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = '{s}.by_score'::regclass",
        " (not valid)",
    ),
    "trigger": (
        "CREATE TRIGGER t AFTER UPDATE ON {s}.entities EXECUTE FUNCTION {s}.touch()",
        "+trigger entities.t CREATE TRIGGER t AFTER UPDATE ON @shard.entities",
    ),
    "enabled": (
        "ALTER TABLE {s}.entities ENABLE TRIGGER touch",
        "-trigger entities.touch (enabled: D) CREATE TRIGGER touch",
    ),
    "function": (
        "CREATE OR REPLACE FUNCTION {s}.touch() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN\n    PERFORM nextval('{s}.own'); RETURN NULL; END $$",
        "+function touch() |     PERFORM nextval('@shard.own'); RETURN NULL; END",
    ),
    "volatility": ("ALTER FUNCTION {s}.twice IMMUTABLE", "+function twice(a integer, b text) |"),
    "new function": ("CREATE FUNCTION {s}.f() RETURNS int RETURN 1", "+function f() owner"),
    "aggregate": (
        "DROP AGGREGATE {s}.product(integer); CREATE AGGREGATE {s}.product(integer)"
        " (sfunc = int4mul, stype = integer, initcond = '2')",
        "+aggregate product(integer) options",
    ),
    "grant": ("GRANT INSERT ON {s}.entities TO PUBLIC", "+grant on table entities to PUBLIC: INSERT"),
    "revoked": ("REVOKE DELETE ON {s}.entities FROM postgres", "-grant on table entities to postgres:"),
    "column grant": (
        "GRANT SELECT (type) ON {s}.entities TO PUBLIC",
        "+grant on column entities.type to PUBLIC: SELECT",
    ),
    "function grant": (
        "REVOKE EXECUTE ON FUNCTION {s}.next_id FROM PUBLIC",
        "-grant on function next_id(OUT result bigint) to PUBLIC: EXECUTE",
    ),
    "schema grant": ("GRANT USAGE ON SCHEMA {s} TO PUBLIC", "+grant on schema to PUBLIC: USAGE"),
    "later grant": (
        "ALTER DEFAULT PRIVILEGES IN SCHEMA {s} GRANT DELETE ON TABLES TO PUBLIC",
        "+grant on what postgres makes later (r) to PUBLIC: DELETE",
    ),
    "sequence": ("ALTER SEQUENCE {s}.own INCREMENT 8", "+sequence own bigint start 1 increment 8"),
    "owned by": ("ALTER SEQUENCE {s}.own OWNED BY NONE", "+sequence own bigint start 1"),
    "view": (
        "CREATE OR REPLACE VIEW {s}.good AS SELECT id, score FROM {s}.notes",
        "-view good |   WHERE (notes.mood = 'good'::@shard.mood);",
    ),
    "policy": ("ALTER POLICY own_notes ON {s}.notes USING (id > 1)", "+policy notes.own_notes"),
    "row security": ("ALTER TABLE {s}.notes FORCE ROW LEVEL SECURITY", "forced row security"),
    "rule": (
        "CREATE OR REPLACE RULE quiet AS ON DELETE TO {s}.volatile DO ALSO NOTHING",
        "+rule volatile.quiet |",
    ),
    "owner": ("ALTER TABLE {s}.entities OWNER TO {role}", "+table entities owner r_"),
    "function's owner": ("ALTER FUNCTION {s}.twice OWNER TO {role}", "b text) owner r_"),
    "schema's owner": ("ALTER SCHEMA {s} OWNER TO {role}", "+schema owner r_"),
    "enum": ("ALTER TYPE {s}.mood ADD VALUE 'new' BEFORE 'bad'", "+enum mood ('good', 'it''s', 'new', 'bad')"),
    "domain": ("ALTER DOMAIN {s}.score DROP NOT NULL", "+domain score integer default 5 constraint"),
    "composite": ("ALTER TYPE {s}.pair ADD ATTRIBUTE x int", "+column pair.x integer, number 3"),
    "persistence": ("ALTER TABLE {s}.volatile SET LOGGED", "-table volatile unlogged"),
    "options": ("ALTER TABLE {s}.notes SET (fillfactor = 70)", "options {fillfactor=70}"),
    "statistics": ("DROP STATISTICS {s}.stats", "-statistics object @shard.stats"),
    "target": ("ALTER TABLE {s}.notes ALTER text SET STATISTICS 60", "statistics 60"),
    "table": ("CREATE TABLE {s}.more (a int)", "+table more owner"),
    "partition": ("ALTER TABLE {s}.parts DETACH PARTITION {s}.part", "-table part partition FOR VALUES"),
    "replica identity": ("ALTER TABLE {s}.entities REPLICA IDENTITY FULL", "replica identity f"),
    "name": ("ALTER INDEX {s}.by_score RENAME TO by_scores", "+index notes.by_scores"),
}  # fmt: skip


@pytest.fixture(scope="module")
def plenty(shared_servers, tmp_path_factory):
    """Shards 1 to 5 with plenty."""
    database = shared_servers[0].create_database()
    name = f"r_{database.dbname}"
    database.sql(f"CREATE ROLE {name}")
    config = store_config(
        tmp_path_factory.mktemp("plenty") / "hypervault.conf", {"one": (database, "1-6")}
    )
    make_shards(config, database)
    for shard in range(1, 6):
        add_plenty(database, shard, name)
    yield config, database, name
    database.drop()
    shared_servers[0].sql(f"DROP ROLE {name}")


@pytest.mark.plain
@pytest.mark.parametrize("change", list(CHANGES))
def test_a_shard_that_was_changed_by_hand_is_found(plenty, change):
    config, database, role = plenty
    sql, expected = CHANGES[change]
    (before,) = groups(config)
    database.sql(sql.replace("{s}", "shard0003").replace("{role}", role))
    try:
        largest, changed = groups(config)
        assert (largest["shards"], changed["shards"]) == ("1-3,4-6", "3")
        assert largest["digest"] == before["digest"] and largest["differences"] == ""
        assert expected in changed["differences"], changed["differences"]
        assert all(line[0] in "+-" for line in changed["differences"].splitlines())
        assert_lines(changed["differences"].replace("\n+", "\n").replace("\n-", "\n")[1:])
    finally:
        database.sql("DROP SCHEMA shard0003 CASCADE")
        make_shards(config, database)
        add_plenty(database, 3, role)


def test_groups_are_in_order_of_their_size(one, server):
    server.sql("ALTER TABLE shard0002.entities ADD a int; ALTER TABLE shard0007.entities ADD a int")
    server.sql("ALTER TABLE shard0004.entities ADD b int")
    found = groups(one)
    assert [group["shards"] for group in found] == ["1,3,5-7,8", "2,7", "4"]
    assert found[1]["differences"] == "+column entities.a integer, number 4\n"
    assert found[2]["differences"] == "+column entities.b integer, number 4\n"
    assert [group["shards"] for group in groups(one, shards="2-4")] == ["2", "3"]


def test_hostile_names_are_on_one_line(one, server):
    names = ["new\nline", "esc\x1b[31m", 'quo"te', "it's", "\u202eback", "table\t", "\\x0a"]
    for name in names:
        quoted = '"' + name.replace('"', '""') + '"'
        server.sql(
            f"CREATE TABLE shard0001.{quoted} ({quoted} int DEFAULT 5, CHECK ({quoted} > 1))"
        )
    server.sql("ALTER TABLE shard0001.entities ALTER type SET DEFAULT length(E'a\\nb\\x1b')")
    _, changed = groups(one)
    assert changed["shards"] == "1"
    assert not {"\x1b", "\u202e", "\t"} & set(changed["description"])
    for line in changed["differences"].splitlines():
        assert line[0] in "+-" and line[1:].split()[0] in WORDS, line
    for shown in (r'"new\x0aline"', r'"esc\x1b[31m"', '"quo""te"', r'"\x5cx0a"', r"\xe2\x80\xaeback"):
        assert f"+table {shown} owner" in changed["differences"] or shown in changed["differences"]


# ---- what cannot be read ----


def test_a_server_that_is_down(own_store, own_servers):
    own_servers[1].server.stop()
    checked = index_tool(own_store, "check").ok().last
    assert [group["shards"] for group in checked["groups"]] == ["1-9"]
    assert [one["shard"] for one in checked["failures"]] == list(range(9, 17))
    for one in checked["failures"]:
        assert one["server"] == 1
        assert one["error"]["status"] == "HV_UNAVAILABLE"
        assert (one["error"]["server"], one["error"]["shard"]) == ("two", one["shard"])


def test_a_shard_that_is_not_there(tmp_path, one, server):
    config = store_config(tmp_path / "more.conf", {"one": (server, "1-11")})
    server.sql("CREATE SCHEMA shard0009")
    checked = index_tool(config, "check").ok().last
    assert [group["shards"] for group in checked["groups"]] == ["1-9", "9"]
    ((failed),) = checked["failures"]
    assert failed["shard"] == 10 and failed["error"]["status"] == "HV_NOT_INITIALIZED"


def test_a_role_without_rights_can_compare(tmp_path, one, server):
    server.sql("CREATE ROLE guest2 LOGIN; GRANT USAGE ON SCHEMA hypervault TO guest2;"
               " GRANT SELECT ON hypervault.layout TO guest2")
    try:
        config = store_config(
            tmp_path / "guest.conf", {"one": (server.params(user="guest2"), "1-9")}
        )
        assert groups(config) == groups(one)
    finally:
        server.sql("DROP OWNED BY guest2; DROP ROLE guest2")
