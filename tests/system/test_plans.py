"""Statements that are prepared are planned once, for any number of operations, and read the index.

PostgreSQL plans a prepared statement anew for its first five executions, and from then on too, if
such plans seem cheaper to it than one for any parameters. The tests look at a session's own
statements, on the store's only connection.
"""

import contextlib
import re

import pytest

from harness import Database, eventually, hv, make_shards, source_dir, store_config
from harness.store_tool import make_tool, step  # noqa: F401

pytestmark = pytest.mark.threads

SHARD, OTHER = 3, 1
CUSTOM_PLANS = 5  # of each statement, before PostgreSQL thinks of another one
SIZES = (1, 2, 10, 256)

PLAIN = {"get", "get_versioned", "exists", "put", "put_key", "reserve"}
MANY = {"get_many", "get_versioned_many", "exists_many", "put_many", "put_key_many", "lock_many"}
ONCE = {"put_once", "put_once_many"}
CHANGED = {"replace", "merge", "delete", "replace_if", "merge_if", "delete_if", "increment"}
PLAIN |= CHANGED | {"get_only"}
MOVED = {"locate", "publish"}  # sent at most once for each shard that has moved
ASKED = {"where"}
MANY |= {f"{verb}_many" for verb in CHANGED | {"get_only"}}
WRITES = {"put", "put_many", "put_key", "put_key_many"} | ONCE


@pytest.fixture(params=["UTF8", "LATIN1"])
def database(request, shared_extension_server):
    """In LATIN1, bodies are read in hstore's text form."""
    server = shared_extension_server
    made = Database(server, f"plans_{request.param.lower()}")
    server.sql(
        f"CREATE DATABASE {made.dbname} ENCODING '{request.param}' TEMPLATE template0"
        " LC_COLLATE 'C' LC_CTYPE 'C'"
    )
    yield made
    made.drop()


@pytest.fixture(params=["portable", "strict"])
def open_store(request, database, make_tool, tmp_path):
    """A function that opens a store of one connection and one lane, on shards whose tables were
    never analyzed."""
    config = store_config(
        tmp_path / "hypervault.conf", {"one": (database, "1-5")}, keys=request.param
    )
    make_shards(config, database)
    return lambda **options: make_tool(config, lanes=1, pool_max=1, **options)


def session(tool, sql):
    """The rows of this query on the store's connection."""
    tool.main.acquire(SHARD).ok()
    rows = tool.main.sql(sql).ok().rows
    tool.main.release().ok()
    return rows


def plans(tool):
    """{verb: (generic plans, custom plans)} of the shard's statements."""
    rows = session(tool, "SELECT name, generic_plans, custom_plans FROM pg_prepared_statements")
    return {
        name[len("hv_") : -len("_0003")]: (int(generic), int(custom))
        for name, generic, custom in rows
        if name.endswith("_0003")
    }


def assert_planned_once(tool, verbs):
    """None had more plans of its own than PostgreSQL always makes, and each was executed oftener."""
    seen = plans(tool)
    assert set(seen) >= verbs
    for verb, (generic, custom) in seen.items():
        assert custom <= CUSTOM_PLANS, f"{verb}: {seen}"
        if verb in verbs:
            assert custom == CUSTOM_PLANS and generic > 0, f"{verb}: {seen}"


def dicts(count):
    return [{"n": str(number), "filler": "x" * (number % 50)} for number in range(count)]


def put_many(tool, count, keys=None):
    places = [{"shard": SHARD}] * count if keys is None else [{"key": key} for key in keys]
    puts = [{"kind": 1, "dict": each, **place} for each, place in zip(dicts(count), places)]
    return [item["key"] for item in tool.main.put_many(puts).ok().items]


def reserve(tool, count):
    return tool.main.reserve(SHARD, count).ok().keys


def get_many(tool, keys):
    assert [item["key"] for item in tool.main.get_many(keys).ok().items] == keys


CHANGES = [
    {"change": "replace", "kind": 1, "dict": {"n": "1"}},
    {"change": "merge", "dict": {"a": "b"}, "remove": ["c"]},
    {"change": "increment", "attribute": "n", "amount": "1"},
    {"change": "delete"},
]


def change_all(tool, keys):
    """Each change of all of these, with a condition and without, and several of them at once; then
    they are deleted."""
    tool.main.change_many(
        [{**CHANGES[place % 2], "key": key} for place, key in enumerate(keys)]
    ).ok()
    for condition in ({"has": {"n": "1"}, "lacks": ["c"], "kind": 1}, None):
        for each in CHANGES:
            conditional = {} if condition is None else {"condition": condition}
            changes = [{**each, "key": key, **conditional} for key in keys]
            tool.main.change_many(changes).ok()
    assert {item["status"] for item in tool.main.exists_many(keys).items} == {"HV_NOT_FOUND"}


def use_all(tool, count):
    """Each statement but those of exactly_once, for one and for so many; with their plans made."""
    key = tool.main.put(SHARD, 1, {"a": "b"}).ok().key
    tool.main.get(key).ok()
    tool.main.get_only(key, None).ok()
    tool.main.exists(key).ok()
    tool.main.put_key(reserve(tool, 1)[0], 1, {"a": "b"}).ok()
    keys = put_many(tool, count)
    get_many(tool, keys)
    tool.main.get_only_many(keys, None).ok()
    tool.main.exists_many(keys).ok()
    for some in ([key], keys):
        tool.main.get_only_many(some, ["n"]).ok()
        change_all(tool, some)
    put_many(tool, count, reserve(tool, count))


@contextlib.contextmanager
def connection_kept(tool, database):
    """A put in another shard has the only connection, and waits for a lock."""
    with database.connect() as blocker:
        blocker.autocommit = False
        blocker.cursor().execute(f"LOCK TABLE shard{OTHER:04}.entities")
        holder = tool.threads("holder")[0].begin.put(OTHER, 1, {})
        eventually(
            lambda: database.value(
                "SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database"
                " WHERE NOT granted AND datname = %s",
                database.dbname,
            )
        )
        yield
    holder.reply().ok()


def put_together(tool, database, count):
    """Puts of so many threads, in one batch."""
    threads = tool.threads(*(f"t{number}" for number in range(count)))
    with connection_kept(tool, database):
        puts = [thread.begin.put(SHARD, 1, each) for thread, each in zip(threads, dicts(count))]
        eventually(lambda: tool.sleepers() == count)
    keys = [put.reply().ok().key for put in puts]
    assert len(set(keys)) == count
    return keys


@pytest.mark.parametrize("size", SIZES)
def test_from_its_sixth_execution_a_statement_is_not_planned_again(open_store, size):
    tool = open_store()
    for _ in range(CUSTOM_PLANS + 1):
        use_all(tool, size)
    assert_planned_once(tool, PLAIN | (MANY if size > 1 else set()))


@pytest.mark.parametrize("sizes", [(1, 2, 10, 256), (256, 10, 2), (2,) * 5 + (1000,)])
def test_nor_if_its_sizes_differ(open_store, sizes):
    tool = open_store()
    for turn in range(2 * CUSTOM_PLANS):
        use_all(tool, sizes[turn % len(sizes)])
    assert_planned_once(tool, PLAIN | MANY)


@pytest.mark.parametrize("size", [2, 10])
def test_exactly_once_it_is_not_planned_again_either(open_store, database, size):
    tool = open_store(exactly_once="on")
    for _ in range(CUSTOM_PLANS + 1):
        tool.main.put(SHARD, 1, {}).ok()
    for _ in range(2 * CUSTOM_PLANS):  # some of them reserve keys first
        get_many(tool, put_together(tool, database, size))
    assert_planned_once(tool, ONCE)


def test_nor_if_the_table_grows_after_the_first_plans(open_store, database):
    tool = open_store()
    for _ in range(CUSTOM_PLANS):
        use_all(tool, 2)
    fill(database, 50_000)
    use_all(tool, 2)
    database.sql(f"ANALYZE shard{SHARD:04}.entities")
    use_all(tool, 256)
    assert_planned_once(tool, PLAIN | MANY)


# ---- the plans ----


def fill(database, count):
    """Entities under keys of the first milliseconds since the epoch."""
    database.sql(
        f"INSERT INTO shard{SHARD:04}.entities (id, type, body)"
        f" SELECT number << 23 | {SHARD << 10}, 1, hstore('n', number::text)"
        " FROM generate_series(1::bigint, %s) number",
        count,
    )


KEYS = "'{8391680,16780288}'"
CONDITION = "'a=>b', 'c=>NULL', 65536, ''"
CONDITIONS = """'{a=>b,""}', '{"",""}', '{1,65536}', '{"",""}'"""

# Parameters in text form, for EXPLAIN EXECUTE.
PARAMETERS = {
    "get": "8391680",
    "get_many": "'{8391680,16780288}'",
    "get_versioned": "8391680",
    "get_versioned_many": "'{8391680,16780288}'",
    "lock_many": "'{8391680,16780288}'",
    "exists": "8391680",
    "exists_many": "'{8391680,16780288}'",
    "put": "1, 'a=>b'",
    "put_many": "'{1,1}', '{a=>b,a=>c}'",
    "put_key": "1, 'a=>b', 8391680",
    "put_key_many": "'{1,1}', '{a=>b,a=>c}', '{8391680,16780288}'",
    "put_once": "1, 'a=>b', 8391680",
    "put_once_many": "'{1,1}', '{a=>b,a=>c}', '{8391680,16780288}'",
    "reserve": "1",
    "get_only": "8391680, 'a=>NULL'",
    "get_only_many": f"{KEYS}, '{{a=>NULL,a=>NULL}}'",
    "replace": "8391680, 1, 'a=>b'",
    "replace_many": f"{KEYS}, '{{1,1}}', '{{a=>b,a=>c}}'",
    "replace_if": f"8391680, 1, 'a=>b', {CONDITION}",
    "replace_if_many": f"{KEYS}, '{{1,1}}', '{{a=>b,a=>c}}', {CONDITIONS}",
    "merge": "8391680, 'a=>b', 'c=>NULL'",
    "merge_many": f"{KEYS}, '{{a=>b,a=>c}}', '{{d=>NULL,d=>NULL}}'",
    "merge_if": f"8391680, 'a=>b', 'c=>NULL', {CONDITION}",
    "merge_if_many": f"{KEYS}, '{{a=>b,a=>c}}', '{{d=>NULL,d=>NULL}}', {CONDITIONS}",
    "increment": f"8391680, 'n', '1', {CONDITION}",
    "increment_many": f"{KEYS}, '{{n,n}}', '{{1,2}}', {CONDITIONS}",
    "delete": "8391680",
    "delete_many": KEYS,
    "delete_if": f"8391680, {CONDITION}",
    "delete_if_many": f"{KEYS}, {CONDITIONS}",
}


def shown_plans(tool, verbs):
    """{verb: the plan for any parameters}, of statements that have it."""
    before = plans(tool)
    shown = {
        verb: "\n".join(
            line for line, in session(tool, f"EXPLAIN EXECUTE hv_{verb}_0003({PARAMETERS[verb]})")
        )
        for verb in sorted(verbs)
    }
    after = plans(tool)
    assert all(after[verb] == (before[verb][0] + 1, before[verb][1]) for verb in verbs)
    return shown


def test_every_statement_of_the_table_of_verbs_is_looked_at():
    table = (source_dir() / "src/entity/verbs.c").read_text(encoding="utf-8")
    named = re.findall(r'\.(?:one|many) =\s*\{"(\w+)"', table)
    assert set(named) == PLAIN | MANY | ONCE | MOVED | ASKED


def assert_good(shown):
    for verb, plan in shown.items():
        assert not re.search(r"\bSeq Scan|\bSort\b|\bHash", plan), f"{verb}:\n{plan}"
        if verb.removesuffix("_many") in CHANGED | {"get_only"}:
            assert re.search("(using|on) entities_pkey", plan), f"{verb}:\n{plan}"
            assert re.search(r"Index Cond: \((e\.|entities\.)?id = ", plan), f"{verb}:\n{plan}"
        elif verb not in WRITES | {"reserve"}:
            assert re.search("Index (Only )?Scan using entities_pkey", plan), f"{verb}:\n{plan}"
            assert "Index Cond: (id = " in plan
        if verb in ("put_key_many", "put_once_many"):
            assert "Conflict Arbiter Indexes: entities_pkey" in plan, f"{verb}:\n{plan}"


@pytest.mark.parametrize("rows", [0, 1_000_000])
def test_the_plan_for_any_parameters_reads_the_index_and_sorts_nothing(open_store, database, rows):
    tool = open_store()
    if rows > 0:
        fill(database, rows)
        database.sql(f"ANALYZE shard{SHARD:04}.entities")
    for _ in range(CUSTOM_PLANS + 1):
        use_all(tool, 2)
    assert_good(shown_plans(tool, PLAIN | MANY))


def test_exactly_once_it_does_so_too(open_store, database):
    tool = open_store(exactly_once="on")
    for _ in range(CUSTOM_PLANS + 1):
        tool.main.put(SHARD, 1, {}).ok()
        put_together(tool, database, 2)
        put_together(tool, database, 2)
    assert_good(shown_plans(tool, ONCE))


def test_many_are_got_by_the_index_from_a_table_of_one_page_too(open_store, database):
    """Such a plan may be in use when the table is no longer so small."""
    tool = open_store()
    fill(database, 60)
    database.sql(f"ANALYZE shard{SHARD:04}.entities")
    keys = [number << 23 | SHARD << 10 for number in range(1, 61)]
    for _ in range(CUSTOM_PLANS + 1):
        get_many(tool, keys)
    assert_good(shown_plans(tool, {"get_many"}))
