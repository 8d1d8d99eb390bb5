"""How a find would be executed: hv_explain()."""

import re

import pytest

from harness.store_tool import make_tool  # noqa: F401


def fill(database, shard, count, users=1000):
    """Entities of ten kinds, made a second apart, and an attribute without an index."""
    database.sql(
        f"INSERT INTO shard{shard:04d}.entities SELECT ((n::bigint * 1000) << 23) | ({shard} << 10),"
        f" n % 10, hstore(ARRAY['user', 'n'], ARRAY[(n % {users})::text, n::text])"
        f" FROM generate_series(1, {count}) AS n"
    )


@pytest.fixture
def store_tool(make_tool, store, servers):
    """Shard 2 has 30,000 entities and an index on users, shard 9 as many without, and 3 has 100."""
    one, two = servers
    fill(one, 2, 30000)
    one.sql("CREATE INDEX by_user ON shard0002.entities ((body -> 'user'), id)")
    fill(one, 3, 100)
    fill(two, 9, 30000)
    one.sql("ANALYZE")
    two.sql("ANALYZE")
    return make_tool(store, log=True)


@pytest.fixture
def tool(store_tool):
    return store_tool.main


def explain(tool, **selection):
    """{shard: (plan, warning)}"""
    plans = tool.explain(selection).ok().plans
    assert [shard for shard, _, _ in plans] == sorted(shard for shard, _, _ in plans)
    return {shard: (plan, warning) for shard, plan, warning in plans}


def plan_of(tool, shard, **selection):
    ((found, (plan, warning)),) = explain(tool, shards=str(shard), **selection).items()
    assert found == shard
    return plan, warning


def test_each_shard_has_a_plan_in_a_few_lines(tool):
    plans = explain(tool, newest=True, limit=20)
    assert list(plans) == list(range(1, 17))
    plan, warning = plans[2]
    assert plan == "Index Scan Backward using entities_pkey on entities\n"
    assert warning is None
    assert plans[9] == plans[2]
    plan, warning = plan_of(tool, 2, **{"from": 1000 << 23, "until": 2000 << 23})
    assert plan.startswith("Index Scan using entities_pkey on entities\n  Index Cond: ((id >= ")
    assert warning is None


def test_an_index_on_an_attribute_is_used_where_there_is_one(tool):
    plans = explain(tool, equal={"user": "42"}, newest=True, limit=20, shards="2,3,9")
    plan, warning = plans[2]
    assert plan.splitlines()[0] == "Index Scan Backward using by_user on entities"
    assert "'42'" in plan and warning is None
    assert "Filter: ((body -> 'user'::text) = '42'::text)" in plans[9][0]
    assert plans[3][1] is None  # small


def test_a_large_table_that_is_read_is_warned_of(tool):
    plan, warning = plan_of(tool, 9, equal={"n": "nothing"})
    assert "Seq Scan on entities\n" in plan
    assert re.fullmatch(r"The whole table is read, about \d+ entities, as no index fits\.", warning)
    assert int(re.search(r"\d+", warning).group()) == pytest.approx(30000, rel=0.1)
    plan, warning = plan_of(tool, 3, equal={"n": "nothing"})
    assert "Seq Scan on entities\n" in plan and warning is None


def test_many_entities_that_are_sorted_are_warned_of(tool, servers):
    servers[1].sql("ALTER TABLE shard0009.entities DROP CONSTRAINT entities_pkey")
    servers[1].sql("CREATE INDEX by_n ON shard0009.entities ((body -> 'n'))")
    servers[1].sql("CREATE INDEX by_hash ON shard0009.entities USING hash (type)")
    servers[1].sql("ANALYZE shard0009.entities")
    _, warning = plan_of(tool, 9, equal={"n": "17"}, newest=True)
    assert warning is None  # a sort of one
    name = servers[1].dbname
    servers[1].sql(f'ALTER DATABASE "{name}" SET enable_seqscan = off')
    servers[1].terminate_clients()
    servers[1].sql("UPDATE shard0009.entities SET type = 1")
    servers[1].sql("ANALYZE shard0009.entities")
    plan, warning = plan_of(tool, 9, kinds=[1])
    assert re.search(r"^Sort\n  Sort Key: entities.id\n  ->  Bitmap Heap Scan", plan), plan
    assert re.fullmatch(r"About \d+ entities are sorted\.", warning)


def test_a_long_walk_along_the_keys_is_warned_of(tool, servers):
    fill(servers[1], 10, 100000)
    servers[1].sql("ANALYZE shard0010.entities")
    plan, warning = plan_of(tool, 10, equal={"user": "42"}, newest=True, limit=60)
    assert plan.splitlines()[0] == "Index Scan Backward using entities_pkey on entities"
    assert "  Filter: ((body -> 'user'::text) = '42'::text)" in plan.splitlines()
    found = re.fullmatch(r"About (\d+) entities are read to find 60\.", warning)
    # Without an index, the server takes one of 200 to have a value.
    assert int(found.group(1)) == pytest.approx(12000, rel=0.1)
    _, warning = plan_of(tool, 10, equal={"user": "42"}, newest=True, limit=20)
    assert warning is None  # some 4,000
    _, warning = plan_of(tool, 10, kinds=[3, 4], newest=True)
    assert warning is None  # one of five is found


def test_the_statements_of_a_find_are_explained_and_nothing_else_is_read(store_tool):
    tool = store_tool.main
    selection = {"equal": {"user": "42"}, "lacks": ["x"], "kinds": [1, 2], "newest": True, "limit": 20}
    tool.explain({**selection, "shards": "2"}).ok()
    sent = [event.log for event in store_tool.await_log(2) if "entities" in event.log]
    assert [statement.split()[0] for statement in sent] == ["WITH", "EXPLAIN"]
    tool.find({**selection, "shards": "2"}).ok()
    tool.next().gives("HV_NOT_FOUND")
    found = [event.log for event in store_tool.await_log(3) if "entities" in event.log][-1]
    assert sent[1] == "EXPLAIN " + found


def test_what_cannot_be_found_cannot_be_explained(tool, servers):
    assert tool.explain({"from": 3, "until": 2}).gives("HV_INVALID").plans == []
    tool.explain({"shards": "17"}).gives("HV_NO_SERVER")
    tool.explain({"skip": ["nobody"]}).gives("HV_INVALID")
    assert list(explain(tool, skip=["one"])) == list(range(9, 17))
    assert explain(tool, **{"from": 5, "until": 5, "shards": "2"})[2][1] is None
    servers[1].sql("DROP SCHEMA shard0012 CASCADE")
    for partial in (False, True):
        reply = tool.explain({"partial": partial}).gives("HV_NOT_INITIALIZED")
        assert (reply.server, reply.shard, reply.plans) == ("two", 12, [])


def test_a_closed_store_explains_nothing(tool):
    tool.stop().ok()
    tool.explain().gives("HV_CLOSED")
