"""The statements of finds: prepared, planned once, and merged by the server from its indexes, however
large the tables are and whether they were analyzed or not."""

import re

import pytest

from harness import make_shards, store_config
from harness.store_tool import make_tool  # noqa: F401
from indexing import index_tool

pytestmark = pytest.mark.threads

SHARDS = range(1, 5)
CUSTOM_PLANS = 5
MIDDLE = 500 << 23
VALUES = {"bigint": "20", "smallint": "1", "text": "'3'", "text[]": "'{3,4}'"}

SELECTIONS = [
    {},
    {"newest": True},
    {"kinds": [1]},
    {"kinds": [1, 2], "newest": True},
    {"from": MIDDLE},
    {"from": MIDDLE, "until": MIDDLE + (100 << 23), "newest": True},
    {"after": MIDDLE, "newest": True},
    {"equal": {"user": "3"}},
    {"equal": {"user": "3"}, "newest": True, "after": MIDDLE},
    {"only": ["n"]},
]


@pytest.fixture(params=["portable", "strict"])
def open_store(request, extension_server, make_tool, tmp_path):
    config = store_config(
        tmp_path / "hypervault.conf", {"one": (extension_server, "1-5")}, keys=request.param
    )
    make_shards(config, extension_server)
    return lambda **options: make_tool(config, pool_max=1, **options)


def fill(database, rows, analyze):
    """So many in each shard."""
    for shard in SHARDS:
        database.sql(
            f"INSERT INTO shard{shard:04}.entities (id, type, body)"
            f" SELECT number << 23 | {shard << 10}, number % 3,"
            " hstore(ARRAY['n', number::text, 'user', (number % 100)::text])"
            f" FROM generate_series(1::bigint, {rows}) number"
        )
        if analyze:
            database.sql(f"ANALYZE shard{shard:04}.entities")


def find(tool, limit=20, **selection):
    tool.main.find({"limit": limit, **selection}).ok()
    return tool.main.next().gives("HV_NOT_FOUND").items


def session(tool, sql):
    """The rows of this query on the store's only connection."""
    tool.main.acquire(1).ok()
    rows = tool.main.sql(sql).ok().rows
    tool.main.release().ok()
    return rows


def statements(tool):
    """{name: (its parameters' types, generic plans, custom plans)}"""
    rows = session(
        tool,
        "SELECT name, array_to_string(parameter_types, ','), generic_plans, custom_plans"
        " FROM pg_prepared_statements WHERE name LIKE 'hv_page%'",
    )
    return {name: (types.split(","), int(gen), int(custom)) for name, types, gen, custom in rows}


def plan_of(tool, selection):
    """The plan for any parameters of the statement that this find, made often, sends."""
    before = statements(tool)
    for _ in range(CUSTOM_PLANS + 2):
        find(tool, **selection)
    (name, (types, generic, custom)), = (
        item for item in statements(tool).items() if item[0] not in before
    )
    assert (generic, custom) == (2, CUSTOM_PLANS), name
    values = ",".join(VALUES.get(each, "'{1,2}'") for each in types)
    return "\n".join(line for line, in session(tool, f"EXPLAIN EXECUTE {name}({values})"))


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
@pytest.mark.parametrize("selection", [{}, {"newest": True}, {"kinds": [1]}, {"only": ["n"]}])
def test_pages_of_streams_are_merged_too(open_store, extension_server, selection, large):
    """Those with large bodies are measured; `only` makes them small."""
    tool = open_store()
    fill(extension_server, 3000, analyze=True)
    for shard in SHARDS if large else ():
        extension_server.sql(
            f"UPDATE shard{shard:04}.entities SET body = body || hstore('l', repeat('x', 3000))"
        )
        extension_server.sql(f"VACUUM ANALYZE shard{shard:04}.entities")
    for _ in range(CUSTOM_PLANS + 2):
        tool.main.find(selection).ok()
        tool.main.next(bare=True).gives("HV_NOT_FOUND")
    plans = []
    for name, (types, generic, custom) in statements(tool).items():
        values = ",".join(VALUES.get(each, "'{1,2}'") for each in types)
        plans.append("\n".join(x for x, in session(tool, f"EXPLAIN EXECUTE {name}({values})")))
        assert custom <= CUSTOM_PLANS < generic + custom, name
        assert_merged(plans[-1])
    assert any("WindowAgg" in plan for plan in plans) == (large and "only" not in selection)


def assert_merged(plan, index="entities_pkey"):
    assert plan.count("Merge Append") == 1, plan
    assert len(re.findall(rf"Index Scan (?:Backward )?using {index}", plan)) == len(SHARDS), plan
    assert not re.search(r"Seq Scan|Sort  |Hash|Bitmap|Gather", plan), plan


@pytest.mark.parametrize("analyze", [True, False], ids=["analyzed", "not"])
def test_the_server_merges_what_it_reads_by_primary_key(open_store, extension_server, analyze):
    tool = open_store()
    fill(extension_server, 60_000, analyze)
    for selection in SELECTIONS:
        assert_merged(plan_of(tool, selection))


def test_an_index_on_an_attribute_gives_the_order_too(open_store, extension_server):
    tool = open_store()
    for shard in SHARDS:
        extension_server.sql(f"CREATE INDEX by_user ON shard{shard:04}.entities ((body->'user'), id)")
    fill(extension_server, 20_000, analyze=True)
    for selection in SELECTIONS:
        if "equal" in selection:
            plan = plan_of(tool, selection)
            index = "by_user" if len(SHARDS) == plan.count("by_user") else "by_user\\d*"
            assert_merged(plan, index)


@pytest.mark.parametrize(
    "selection",
    [
        {"kinds": [1], "equal": {"user": "3"}, "newest": True},
        {"kinds": [1], "equal": {"user": "3"}},
        {"kinds": [1], "equal": {"user": "3"}, "newest": True, "after": MIDDLE},
    ],
)
def test_an_index_of_one_kind_is_walked(open_store, extension_server, tmp_path, selection):
    """As hv_index_create() makes it: it holds the entities of the kind alone, by attribute and
    key."""
    tool = open_store()
    fill(extension_server, 20_000, analyze=True)
    index_tool(tmp_path / "hypervault.conf", "create", "attribute=user", kind=1).ok()
    plan = plan_of(tool, selection)
    assert_merged(plan, "entities_user_of_1_idx\\d*")
    assert "Filter" not in plan


@pytest.mark.parametrize("newest", [False, True])
def test_an_index_on_an_attribute_is_walked(open_store, extension_server, tmp_path, newest):
    tool = open_store()
    fill(extension_server, 20_000, analyze=True)
    index_tool(tmp_path / "hypervault.conf", "create", "attribute=user").ok()
    plan = plan_of(tool, {"equal": {"user": "3"}, "newest": newest})
    assert_merged(plan, "entities_user_idx\\d*")
    assert "Filter" not in plan


def test_a_plan_that_was_made_for_empty_tables_serves_when_they_are_large(
    open_store, extension_server
):
    tool = open_store()
    for _ in range(CUSTOM_PLANS + 2):
        find(tool), find(tool, newest=True), find(tool, **{"from": MIDDLE})
    fill(extension_server, 60_000, analyze=False)
    assert len(find(tool)) == 20
    for types, generic, custom in statements(tool).values():
        assert custom == CUSTOM_PLANS
    for name, (types, _, _) in statements(tool).items():
        values = ",".join(VALUES[each] for each in types)
        assert_merged("\n".join(x for x, in session(tool, f"EXPLAIN EXECUTE {name}({values})")))


@pytest.mark.parametrize("limit", [1, 2, 10, 11, 100, 101, 256])
def test_whatever_the_limit_is_it_is_planned_once(open_store, extension_server, limit):
    tool = open_store()
    fill(extension_server, 20_000, analyze=True)
    for selection in ({}, {"equal": {"user": "3"}}, {"kinds": [1], "newest": True}):
        for _ in range(CUSTOM_PLANS + 2):
            find(tool, limit, **selection)
    for name, (_, generic, custom) in statements(tool).items():
        assert (generic, custom) == (2, CUSTOM_PLANS), name


def test_finds_that_differ_by_values_alone_share_a_statement(open_store, extension_server):
    tool = open_store()
    fill(extension_server, 100, analyze=True)
    for number in range(11, 64):
        find(tool, limit=number, equal={"user": str(number)}, after=number << 23)
    assert len(statements(tool)) == 1
    for number in range(1, 30):
        find(tool, equal={f"user{number}": "1"})
    assert len(statements(tool)) == 30


def test_each_only_kind_beside_attributes_has_a_statement(open_store, extension_server):
    tool = open_store()
    fill(extension_server, 100, analyze=True)
    for kind in range(8):
        find(tool, kinds=[kind], equal={"user": "1"})
        find(tool, kinds=[kind], equal={"user": "2"}, after=MIDDLE >> 1)
    assert len(statements(tool)) == 16
    for kind in range(8):
        find(tool, kinds=[kind])
        find(tool, kinds=[kind, 99], equal={"user": "1"})
    assert len(statements(tool)) == 18
