"""Objects that a role plants in a schema on others' search_path are not run by others.

Statements are taken from the server's log while everything is done once; then everything is done
again in a database where each name in them has a decoy.
"""

import contextlib
import json

import psycopg2
import pytest

import decoys
from changing import change, run_many, run_queue
from harness import eventually, hv, python, store_config
from harness.server import PostgresServer
from harness.store_tool import StoreTool

DEFAULT = '"$user", public'
LAST = "public, pg_catalog"  # where even a decoy that fits no better is found first

PYTHON = """
def run(logger, **options):
    with Datastore(connections, logger=logger, **options) as db:
        db.create_shards()
        key = db.put(1, 1, a="b")
        assert db.get(key)["body"] == {"a": "b"}
        keys = db.put_many([(1, 1, {"n": str(n)}) for n in range(40)])
        assert all(row["body"]["n"] == str(n) for n, row in enumerate(db.get_many(keys)))
        reserved = db.reserve(2, 50)
        for _ in range(2):
            db.put_key(reserved[0], 1, a="b")
            db.put_many([(key, 1, {"c": "d"}) for key in reserved[1:]])
        assert len(list(db.scan(2, kinds=[1, 2]))) >= 50
        assert len(list(db.scan(2, start=reserved[0], stop=reserved[20], kinds=[1]))) == 20
        db.inspect("one")
        with db.load("one", "a load") as load:
            for n in range(10):
                load.add(3, 1, {"n": str(n)})
            load.add(db.reserve(3)[0], 1, {"n": "x"})
            load.add(reserved[0], 1, {"a": "b"})
            load.send()
            load.commit(load.position + 1)
        assert db.loads("one", "a")
        with db.cursor(1) as cursor:
            cursor.execute("SELECT body FROM shard0001.entities LIMIT 1")
            assert isinstance(cursor.fetchone()[0], dict)

run(None)
run(logging.getLogger("quiet"))
run(None, exactly_once=True, lanes=2)
"""


# Each is a mistake that statements of ours have had.
MISTAKES = [
    ("SELECT conkey = ARRAY[1::int2] FROM pg_catalog.pg_constraint LIMIT 1", DEFAULT),
    ("SELECT cardinality(ARRAY[1::int2])", DEFAULT),
    ("SELECT array_agg(n) FROM (VALUES (1::bigint)) AS v (n)", DEFAULT),
    ("SELECT pg_catalog.date_part('epoch', pg_catalog.now()) * 1000", DEFAULT),
    ("SELECT 5::bigint / 1000.0", DEFAULT),
    ("SELECT quote_ident('a'::name)", DEFAULT),
    ("SELECT right('a'::name, 1)", DEFAULT),
    ("SELECT oid FROM pg_catalog.pg_class WHERE oid = 1259", LAST),
    ("SELECT count(*) FROM pg_catalog.pg_class", LAST),
    ("SELECT max(x) FROM (VALUES (1::bigint)) AS v (x)", LAST),
    ("SELECT oid FROM pg_catalog.pg_class WHERE relnatts IN (1, 2)", LAST),
    ("SELECT 'a'::text", LAST),
    ("SELECT oid FROM pg_extension", LAST),
]

# A second of each, and not more of it than the server's log has room for.
BENCH = ("--seconds", 1, "--warmup", 0, "--callers", 3, "--rate", 100)


class Everything:
    """Do everything that can be done with a store, with these keys, as this role."""

    def __init__(self, folder, database, user):
        self.folder = folder
        self.database = database
        self.where = {**database.params(), "user": user}
        self.number = 0

    def config(self, **options):
        self.number += 1
        path = self.folder / f"{self.database.dbname}-{self.number}.conf"
        return store_config(path, {"one": (self.where, "1-5")}, **options)

    def entities(self, config):
        key = hv("put", 1, 1, "a=b", config=config).ok().out.strip()
        hv("get", key, config=config).ok()
        key = hv("reserve", 2, config=config).ok().out.strip()
        for _ in range(2):
            hv("put", "--key", key, 1, "a=b", config=config).ok()
        hv("bench", "put", *BENCH, config=config).ok()
        hv("bench", "mix", *BENCH, "--entities", 50, "--batch", 5, config=config).ok()

    def changes(self, config):
        """Each change with a condition and without, one and many, in an order in which they fit."""
        tool = StoreTool(config)
        try:
            keys = [tool.main.put(3, 1, {"a": "1", "b": "2"}).ok().key for _ in range(3)]
            for condition in (None, {"has": {"a": "1"}, "lacks": ["c"], "kind": 1}):
                held = {"condition": condition} if condition else {}
                for key in keys[:1], keys:
                    for verb, fields in (
                        ("replace", {"kind": 1, "dict": {"a": "1", "n": "0.5"}}),
                        ("merge", {"dict": {"b": "3"}, "remove": ["c"]}),
                        ("increment", {"attribute": "n", "amount": "1.5"}),
                    ):
                        changes = [change(verb, each, **held, **fields) for each in key]
                        assert {each.ok().status for each in run_many(tool, changes)} == {"HV_OK"}
                    some = [{"key": each, "names": ["n"]} for each in key]
                    assert [each.dict for each in run_queue(tool, some)] == len(key) * [{"n": "2.0"}]
                refused = [change("increment", each, attribute="x", amount="1") for each in keys]
                tool.main.merge(keys[0], {"x": "?"}).ok()
                assert run_many(tool, refused)[0].status == "HV_INVALID"
                wrong = [change("delete", each, {"kind": 2}) for each in keys]
                assert {each.status for each in run_many(tool, wrong)} == {"HV_CHANGED"}
                tool.main.delete(keys[0], condition=wrong[0]["condition"]).gives("HV_CHANGED")
                version = tool.main.get_only(keys[0], None).version
                tool.main.delete(keys.pop(), **held).ok()
                tool.main.merge(keys[0], remove=["x"], condition={"version": version}).ok()
            keys += [tool.main.put(3, 1, {}).ok().key for _ in range(3)]
            run_many(tool, [change("delete", each, {"kind": 1}) for each in keys[:2]])
            run_many(tool, [change("delete", each) for each in keys[2:]])
            tool.finish()
        finally:
            tool.kill()

    def selections(self, config):
        """Find, count and explain, with every condition there is."""
        everything = {"timeout": 20000}
        some = {
            "kinds": [1, 2],
            "from": 1 << 23,
            "before": 2000000000000,
            "equal": {"a": "1"},
            "one_of": {"b": ["1", "2", None]},
            "has": {"a": "1"},
            "exists": ["a"],
            "lacks": ["c"],
        }
        tool = StoreTool(config)
        try:
            for shard in range(1, 5):
                tool.main.put(shard, 1, {"a": "1", "b": "2"}).ok()
            for selection in everything, some, {"kinds": [1]}, {"equal": {"a": None}}:
                tool.main.count(selection, "shard").ok()
                tool.main.count(selection, "kind").ok()
                tool.main.count(selection, "time", "week", "Europe/Berlin").ok()
                tool.main.count(selection, "server", estimate=True).ok()
                tool.main.explain(selection).ok()
                tool.main.find({**selection, "newest": True, "only": ["a"], "limit": 10}).ok()
                tool.main.next().gives("HV_NOT_FOUND")
            large = [{"shard": 4, "kind": n % 3, "dict": {"a": str(n) * 200}} for n in range(300)]
            tool.main.put_many(large).ok()
            self.database.sql("ANALYZE")
            for selection in everything, {"kinds": [1]}, {"kinds": [1, 2]}:
                assert len(tool.main.count(selection, "kind", estimate=True).ok().groups) > 0
            assert tool.main.count(some, estimate=True).ok().total > 0
            self.database.sql("TRUNCATE shard0004.entities")
            tool.finish()
        finally:
            tool.kill()

    def rows(self, config):
        place = self.folder / f"{self.database.dbname}-{self.number}"
        place.mkdir()
        rows = "".join(json.dumps({"n": str(n)}) + "\n" for n in range(50))
        hv("import", "-", "--kind", 1, "--format", "ndjson", config=config, input=rows).ok()
        (place / "rows.csv").write_text("a,b\n1,2\n", encoding="utf-8")
        hv("import", place / "rows.csv", "--kind", 2, "--shard", 3, "--again", config=config).ok()
        chosen = ["--kind", 1, "--kind", 2, "--since", "2020-01-01", "--until", "2040-01-01"]
        hv("export", place / "all.ndjson", *chosen, config=config).ok()
        hv("export", "--dir", place / "dir", "--shards", "1-4", config=config).ok()
        hv("import", place / "all.ndjson", "--exported", config=config).ok()
        self.database.sql("TRUNCATE shard0001.entities, shard0002.entities")
        hv("import", place / "all.ndjson", "--exported", config=config).ok()

    def run(self, generators):
        for keys in generators:
            config = self.config(keys=keys)
            hv("init", config=config).ok()
            hv("init", config=config).ok()
            hv("status", "--shards", config=config).ok()
            self.entities(config)
            self.changes(config)
            self.selections(config)
            self.entities(self.config(exactly_once="on", lanes="2"))
            hv("bench", "mix", *BENCH, "--entities", 50, "--via", "pool", config=config).ok()
            self.rows(config)
            shards = [dict(shards="1-5", name="one", **self.where)]
            python.run(PYTHON, shards).ok()
        hv("status", "--json", config=config).ok()
        eventually(lambda: self.database.clients() == [], what="all sessions have ended")


@pytest.fixture(scope="module")
def own_server(extension_bindir):
    python.provide()
    settings = {"log_statement": "all"}
    with PostgresServer("decoys", bindir=extension_bindir, settings=settings) as server:
        server.sql("CREATE ROLE plain LOGIN")
        yield server


def prepare(server):
    database = server.create_database()
    server.sql(f'GRANT ALL ON DATABASE "{database.dbname}" TO plain')
    database.sql("CREATE EXTENSION hstore")
    return database


@pytest.fixture(scope="module")
def template(own_server, tmp_path_factory):
    """A database with hstore and with decoys for every name in any statement."""
    database = prepare(own_server)
    since = own_server.log_size()
    everything = Everything(tmp_path_factory.mktemp("decoys"), database, "postgres")
    everything.run(("portable", "strict"))
    log = own_server.log_text(since)
    database.drop()
    database = prepare(own_server)
    planted = decoys.plant(database, log + str(MISTAKES))
    assert {"=", "*", ">>", "max", "array_agg", "cardinality", "nextval", "substr"} <= planted
    return database


@pytest.mark.parametrize("search_path", [DEFAULT, LAST], ids=["default", "last"])
@pytest.mark.parametrize("user", ["postgres", "plain"])
def test_no_decoy_is_called(own_server, template, tmp_path, user, search_path):
    database = own_server.create_database(template=template.dbname)
    own_server.sql(
        f'GRANT ALL ON DATABASE "{database.dbname}" TO plain;'
        f'ALTER ROLE {user} IN DATABASE "{database.dbname}" SET search_path = {search_path}'
    )
    since = own_server.log_size()
    everything = Everything(tmp_path, database, user)
    try:
        everything.run(("portable", "strict", "portable"))
    finally:
        assert "\n".join(decoys.called(own_server.log_text(since))) == ""


@pytest.mark.parametrize("statement, search_path", MISTAKES)
def test_a_decoy_that_is_called_is_found_out(own_server, template, statement, search_path):
    since = own_server.log_size()
    options = "-c search_path=" + search_path.replace(" ", "")
    with template.connect(options=options) as connection:
        with connection.cursor() as cursor:
            with contextlib.suppress(psycopg2.Error):  # a function in an aggregate's place
                cursor.execute(statement)
    assert decoys.called(own_server.log_text(since)) != []


# ---- functions that earlier versions made ----

OLD = {
    "portable": """ /* hypervault: portable */
        SELECT ((pg_catalog.floor(pg_catalog.date_part('epoch', pg_catalog.clock_timestamp())
            * '1000'::float8)::bigint - '1379365531352'::bigint) << 23) | '2048'::bigint
            | (pg_catalog.nextval('shard0002.table_id_seq'::regclass) % '896'::bigint) """,
    "strict": """
        SELECT hypervault.next_id('shard0002.table_id_seq'::regclass, 2, 1379365531352)
    """,
}


def source(database):
    return database.value(
        "SELECT prosrc FROM pg_proc WHERE oid = 'shard0002.next_id()'::regprocedure"
    )


@pytest.mark.parametrize("keys", OLD)
def test_init_makes_functions_of_earlier_versions_anew(own_server, tmp_path, keys):
    database = prepare(own_server)
    path = tmp_path / "hypervault.conf"
    hv("init", config=store_config(path, {"one": (database, "1-4")}, keys=keys)).ok()
    made = source(database)
    before = hv("put", 2, 1, config=path).ok().out
    database.sql(
        "CREATE OR REPLACE FUNCTION shard0002.next_id(OUT result bigint) LANGUAGE sql AS"
        f" $old${OLD[keys]}$old$"
    )
    shown = hv("status", config=path)
    assert shown.code == 1
    assert "1 shard incomplete (2): an earlier version made its next_id()" in shown.out
    between = hv("put", 2, 1, config=path).ok().out
    config = store_config(path, {"one": (database, "1-4")})  # auto
    hv("init", config=config).ok()
    hv("status", config=config).ok()
    assert source(database) == made
    after = hv("put", 2, 1, config=config).ok().out
    assert int(before) < int(between) < int(after)


def test_a_function_that_somebody_else_wrote_is_taken_as_it_is(own_server, tmp_path):
    database = prepare(own_server)
    config = store_config(tmp_path / "hypervault.conf", {"one": (database, "1-4")})
    hv("init", config=config).ok()
    theirs = "SELECT abs(hypervault.next_id('shard0002.table_id_seq'::regclass, 2))"
    database.sql(
        "CREATE OR REPLACE FUNCTION shard0002.next_id(OUT result bigint) LANGUAGE sql AS"
        f" $theirs${theirs}$theirs$"
    )
    hv("status", config=config).ok()
    hv("init", config=config).ok()
    assert source(database) == theirs
