"""Counting: against a model, with servers and shards that fail, with nonsense, while writers write."""

import datetime
import random
import re
import threading
import zoneinfo

import psycopg2.extras
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness import hv, store_config
from harness.store_tool import StoreTool, make_tool, relayed_store  # noqa: F401

EPOCH = 1379365531352
UTC = datetime.timezone.utc

# Where the clocks are changed by an hour or by half of one, at midnight, where they differ by
# quarters of an hour, and where they are never changed.
ZONES = ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Havana", "Asia/Kathmandu"]
ZONES += ["America/Sao_Paulo", "UTC", "Pacific/Auckland"]
UNITS = ["second", "minute", "hour", "day", "week", "month", "quarter", "year"]


def moment(*fields):
    """Milliseconds since 1970 of a date and time in UTC."""
    return int(datetime.datetime(*fields, tzinfo=UTC).timestamp() * 1000)


# Changes of clocks in those zones, ends of years, the epoch, and the last moment of a key.
EDGES = [
    moment(2024, 3, 31, 1), moment(2024, 10, 27, 1), moment(2024, 3, 10, 7), moment(2024, 11, 3, 6),
    moment(2024, 4, 6, 15), moment(2024, 10, 5, 15, 30), moment(2024, 3, 10, 5), moment(2024, 11, 3, 5),
    moment(2018, 2, 18, 2), moment(2018, 11, 4, 3), moment(2023, 12, 31, 18, 15), moment(2024, 1, 1),
    moment(2024, 12, 29, 23), moment(2024, 9, 28, 14), moment(2024, 4, 6, 14), EPOCH,
    EPOCH + (1 << 40) - 1,
]  # fmt: skip


def key_of(created, shard, added):
    return (created - EPOCH) << 23 | shard << 10 | added


def bound(created):
    return max(created - EPOCH, 0) << 23


# ---- a model of PostgreSQL's date_trunc() ----


def wall(local, zone):
    """The moment of a local time. If it is skipped, that before the clocks were changed counts; if
    there are two, the later."""
    offsets = [local.replace(tzinfo=zone, fold=fold).utcoffset() for fold in (0, 1)]
    return local - (offsets[0] if offsets[0] < offsets[1] else offsets[1])


def truncate(created, unit, zone):
    zone = zoneinfo.ZoneInfo(zone)
    instant = datetime.datetime(1970, 1, 1, tzinfo=UTC) + datetime.timedelta(milliseconds=created)
    local = instant.astimezone(zone)
    begin = local.replace(tzinfo=None, microsecond=0)
    if unit in ("second", "minute", "hour"):
        begin = begin.replace(
            minute=0 if unit == "hour" else begin.minute, second=begin.second * (unit == "second")
        )
        began = begin - local.utcoffset()
    else:
        begin = begin.replace(hour=0, minute=0, second=0)
        if unit == "week":
            begin -= datetime.timedelta(days=begin.weekday())
        elif unit != "day":
            months = {"month": 1, "quarter": 3, "year": 12}[unit]
            begin = begin.replace(day=1, month=(begin.month - 1) // months * months + 1)
        began = wall(begin, zone)
    return int(began.replace(tzinfo=UTC).timestamp()) * 1000


def test_the_model_knows_how_clocks_are_changed():
    berlin = "Europe/Berlin"
    assert truncate(moment(2024, 3, 31, 1, 30), "hour", berlin) == moment(2024, 3, 31, 1)
    assert truncate(moment(2024, 10, 27, 0, 30), "hour", berlin) == moment(2024, 10, 27, 0)
    assert truncate(moment(2024, 10, 27, 1, 30), "hour", berlin) == moment(2024, 10, 27, 1)
    assert truncate(moment(2024, 10, 27, 22, 59), "day", berlin) == moment(2024, 10, 26, 22)
    assert truncate(moment(2024, 10, 27, 23), "day", berlin) == moment(2024, 10, 27, 23)
    assert truncate(moment(2024, 3, 31, 20), "week", berlin) == moment(2024, 3, 24, 23)


# ---- a store with known entities ----

NAMES = ["user", "it's", "back\\slash"]
VALUES = [None, "", "1", "2", "'"]


def make_rows(seed=14):
    """(key, kind, body) of 6,000 entities: nine tenths of them in shard 3, none in 5 and 12."""
    rng = random.Random(seed)
    rows = {}
    while len(rows) < 6000:
        shard = 3 if rng.random() < 0.9 else rng.choice([1, 2, 4, 6, 7, 8, 9, 10, 11, 13, 14, 15, 16])
        edge = rng.choice(EDGES)
        created = edge + rng.choice([0, -1, 1, rng.randint(-(10**4), 10**4), rng.randint(-(10**9), 10**9)])
        if EPOCH < created < EPOCH + (1 << 40):
            body = {name: rng.choice(VALUES) for name in NAMES if rng.random() < 0.5}
            rows[key_of(created, shard, rng.randint(0, 1023))] = (rng.randint(-2, 3), body)
    return rows


def insert(databases, rows):
    """Servers one and two have the shards 1-8 and 9-16."""
    for number, database in enumerate(databases):
        with database.connect() as connection, connection.cursor() as cursor:
            for shard in range(8 * number + 1, 8 * number + 9):
                psycopg2.extras.execute_values(
                    cursor,
                    f"INSERT INTO shard{shard:04d}.entities SELECT id, kind, hstore(k, v)"
                    " FROM (VALUES %s) AS t(id, kind, k, v)",
                    [
                        (key, kind, list(body.keys()), list(body.values()))
                        for key, (kind, body) in rows.items()
                        if key >> 10 & 8191 == shard
                    ],
                    template="(%s::bigint, %s::smallint, %s::text[], %s::text[])",
                    page_size=10000,
                )


@pytest.fixture(scope="module")
def known(shared_servers, tmp_path_factory):
    """A tool on a store with known entities, and these."""
    databases = [server.create_database() for server in shared_servers]
    path = tmp_path_factory.mktemp("count") / "known.conf"
    config = store_config(path, {"one": (databases[0], "1-9"), "two": (databases[1], "9-17")})
    hv("init", config=config).ok()
    rows = make_rows()
    insert(databases, rows)
    tool = StoreTool(config)
    try:
        yield tool.main, rows
        tool.finish()
    finally:
        tool.kill()
        for database in databases:
            database.drop()


class Model:
    """What a selection means among rows, and how that is counted."""

    def __init__(self, rows, selection):
        self.keys = [key for key in rows if self._has(key, *rows[key], selection)]
        self.rows = rows
        self.selection = selection

    def _has(self, key, kind, body, s):
        return (
            (not s.get("shards") or key >> 10 & 8191 in shards_of(s["shards"]))
            and not ("one" in s.get("skip", ()) and key >> 10 & 8191 < 9)
            and (not s.get("kinds") or kind in s["kinds"])
            and key >= max(s.get("from", 0), bound(s["since"]) if "since" in s else 0)
            and key < min(s.get("until", 2**63), bound(s["before"]) if "before" in s else 2**63)
            and all(name in body and body[name] == value for name, value in s.get("equal", {}).items())
            and all(name in body and body[name] in of for name, of in s.get("one_of", {}).items())
            and all(name in body and body[name] == value for name, value in s.get("has", {}).items())
            and all(name in body for name in s.get("exists", ()))
            and all(name not in body for name in s.get("lacks", ()))
        )

    def count(self, by, unit, zone):
        groups = {}
        if by == "all":
            groups[0] = 0
        if by in ("shard", "server"):
            wanted = shards_of(self.selection.get("shards", "1-17"))
            asked = [s for s in wanted if s > 8 or "one" not in self.selection.get("skip", ())]
            groups = {shard if by == "shard" else int(shard > 8): 0 for shard in asked}
        for key in self.keys:
            shard = key >> 10 & 8191
            group = {"all": 0, "kind": self.rows[key][0], "shard": shard, "server": int(shard > 8)}
            if by == "time":
                group["time"] = truncate((key >> 23) + EPOCH, unit, zone or "UTC")
            groups[group[by]] = groups.get(group[by], 0) + 1
        return sorted(map(list, groups.items()))


def shards_of(text):
    found = set()
    for item in text.split(","):
        begin, _, end = item.partition("-")
        found |= set(range(int(begin), int(end or int(begin) + 1)))
    return found


names, values = st.sampled_from(NAMES + ["other"]), st.sampled_from([*VALUES, "3"])
moments = st.builds(lambda edge, by: edge + by, st.sampled_from(EDGES), st.integers(-(10**9), 10**9))
moments = moments.filter(lambda created: created < EPOCH + (1 << 40))
selections = st.fixed_dictionaries(
    {},
    optional={
        "shards": st.sampled_from(["1-17", "3", "5", "1-4,12", "8-10", "5,12", "9-17"]),
        "skip": st.sampled_from([["one"], []]),
        "kinds": st.lists(st.integers(-2, 4), max_size=3),
        "from": moments.map(lambda created: max(bound(created), 1)),
        "until": moments.map(lambda created: max(bound(created), 1)),
        "since": moments,
        "before": moments,
        "equal": st.dictionaries(names, values, max_size=1),
        "one_of": st.dictionaries(names, st.lists(values, min_size=1, max_size=3), max_size=1),
        "has": st.dictionaries(names, values, min_size=1, max_size=2),
        "exists": st.lists(names, max_size=1),
        "lacks": st.lists(names, max_size=1),
    },
)


@settings(max_examples=150, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(
    selections,
    st.sampled_from(["all", "kind", "shard", "server", "time", "time"]),
    st.sampled_from(UNITS),
    st.sampled_from([None, *ZONES]),
)
def test_counts_are_those_of_a_model(known, selection, by, unit, zone):
    tool, rows = known
    in_time = {"unit": unit, "zone": zone} if by == "time" else {}
    reply = tool.count(selection, by, **{name: value for name, value in in_time.items() if value})
    if reply.status == "HV_INVALID":  # a selection that cannot be
        assert re.search("contradicts itself|lower bound is above", reply.message), str(reply)
        assert Model(rows, selection).keys == []
        return
    assert reply.ok().groups == Model(rows, selection).count(by, unit, zone)
    assert reply.total == len(Model(rows, selection).keys)
    skipped = "one" in selection.get("skip", ()) and min(shards_of(selection.get("shards", "1"))) < 9
    assert [missing["server"] for missing in reply.missing] == ["one"] * skipped


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("unit", UNITS)
def test_buckets_of_all_units_are_right_where_clocks_are_changed(known, unit, zone):
    tool, rows = known
    groups = tool.count({}, "time", unit=unit, zone=zone).ok().groups
    assert groups == Model(rows, {}).count("time", unit, zone)


def test_an_empty_store_has_no_groups_but_those_of_shards_and_servers(make_tool, store):
    tool = make_tool(store).main
    assert tool.count().ok().groups == [[0, 0]]
    assert tool.count({}, "kind").ok().groups == []
    assert tool.count({}, "time", unit="day").ok().groups == []
    assert tool.count({}, "shard").ok().groups == [[shard, 0] for shard in range(1, 17)]
    assert tool.count({"shards": "7-10"}, "server").ok().groups == [[0, 0], [1, 0]]
    assert tool.count({"shards": "7"}, "server").ok().groups == [[0, 0]]


def test_a_store_with_more_shards_than_fit_into_a_statement(make_tool, server, tmp_path):
    config = store_config(tmp_path / "many.conf", {"one": (server, "0-150")})
    hv("init", config=config).ok()
    server.sql(f"INSERT INTO shard0149.entities VALUES ({key_of(EPOCH + 1, 149, 0)}, 5, '')")
    tool = make_tool(config).main
    expected = [[shard, int(shard == 149)] for shard in range(150)]
    assert tool.count({}, "shard").ok().groups == expected
    assert tool.count({}, "shard", estimate=True).ok().groups == expected


# ---- nonsense ----


@pytest.mark.parametrize(
    "selection, fields, message",
    [
        ({}, {"by": "time"}, '"" is not a unit of time'),
        ({}, {"by": "time", "unit": "fortnight"}, '"fortnight" is not a unit of time'),
        ({}, {"by": "time", "unit": "days"}, '"days" is not a unit of time'),
        ({}, {"by": "kind", "unit": "day"}, "units and time zones are for counting by time only"),
        ({}, {"zone": "UTC"}, "units and time zones are for counting by time only"),
        ({}, {"by": "nonsense"}, "5 is nothing to count by"),
        ({}, {"by": "time", "unit": "day", "estimate": True}, "there is no estimate by time"),
        ({"newest": True}, {}, "counting takes no order"),
        ({"limit": 3}, {}, "counting takes no limit"),
        ({"after": 3}, {}, "counting takes no key to go on after"),
        ({"only": []}, {}, "counting takes no choice of attributes"),
        ({"from": 4, "until": 3}, {}, "the selection's lower bound is above its upper bound"),
        ({"skip": ["three"]}, {}, 'there is no server "three" to skip'),
        (
            {"exists": ["a"]},
            {"by": "kind", "estimate": True},
            "there is no estimate by kind with conditions on attributes or keys",
        ),
    ],
)
def test_nonsense_is_refused(known, selection, fields, message):
    reply = known[0].count(selection, **fields).gives("HV_INVALID")
    assert reply.message == message
    assert reply.selection is None  # not by its own functions


def test_shards_that_no_server_holds_are_refused(known):
    known[0].count({"shards": "1-18"}).gives("HV_NO_SERVER")


@pytest.mark.parametrize("zone", ["Mars/Phobos", "", "Europe/Berlin; DROP TABLE x", "'", "\u00e9"])
def test_an_unknown_time_zone_is_refused_even_if_there_are_no_entities(make_tool, store, zone):
    tool = make_tool(store).main
    for selection in ({}, {"partial": True}, {"shards": "5"}):
        reply = tool.count(selection, "time", unit="day", zone=zone).gives("HV_INVALID")
        assert reply.message == f'time zone "{zone}" is not known'
        assert reply.hint and reply.server in ("one", "two")


# ---- failures ----


def test_a_server_that_is_down_is_named_or_missing(make_tool, own_store, own_servers):
    tool = make_tool(own_store).main
    for shard in (3, 9, 10):
        tool.put(shard, 1, {}).ok()
    own_servers[0].server.stop("immediate")
    reply = tool.count().gives("HV_UNAVAILABLE")
    assert reply.server == "one"
    reply = tool.count({"partial": True}, "shard").ok()
    assert reply.groups == [[shard, int(shard in (9, 10))] for shard in range(9, 17)]
    (missing,) = reply.missing
    assert (missing["status"], missing["server"], missing["shard"]) == ("HV_UNAVAILABLE", "one", -1)
    assert "Missing: the shards 1-9." in missing["detail"]
    assert tool.count({"skip": ["one"]}).ok().groups == [[0, 2]]
    assert tool.count({"shards": "9-17"}).ok().missing == []
    assert tool.count({"partial": True}, "server").ok().groups == [[1, 2]]


def test_a_shard_that_is_missing_is_named_and_alone_missing(make_tool, store, servers):
    tool = make_tool(store).main
    for shard in range(1, 17):
        tool.put(shard, 1, {}).ok()
    servers[0].sql("DROP SCHEMA shard0003 CASCADE")
    servers[1].sql("ALTER TABLE shard0010.entities RENAME TO elsewhere")
    for how in ({}, {"by": "kind"}, {"by": "time", "unit": "day"}, {"estimate": True}):
        reply = tool.count({}, **how).gives("HV_NOT_INITIALIZED")
        assert (reply.server, reply.shard) in (("one", 3), ("two", 10))
        reply = tool.count({"partial": True}, **how).ok()
        assert reply.total == 14
        assert sorted(missing["shard"] for missing in reply.missing) == [3, 10]


def test_a_table_that_may_not_be_read_is_named(make_tool, servers, tmp_path):
    one, two = servers
    config = store_config(tmp_path / "full.conf", {"one": (one, "1-9"), "two": (two, "9-17")})
    hv("init", config=config).ok()
    role = f"reader_{random.randrange(10**9)}"
    one.sql(f"CREATE ROLE {role} LOGIN")
    try:
        one.sql(f"GRANT USAGE ON SCHEMA hypervault TO {role}")
        one.sql(f"GRANT SELECT ON ALL TABLES IN SCHEMA hypervault TO {role}")
        for shard in range(1, 9):
            one.sql(f"GRANT USAGE ON SCHEMA shard{shard:04d} TO {role}")
            if shard != 6:
                one.sql(f"GRANT SELECT ON shard{shard:04d}.entities TO {role}")
        limited = store_config(tmp_path / "limited.conf", {"one": (one.params(user=role), "1-9")})
        tool = make_tool(limited).main
        reply = tool.count().gives("HV_REFUSED")
        assert (reply.sqlstate, reply.shard) == ("42501", 6)
        reply = tool.count({"partial": True}, "shard").ok()
        assert [group for group, _ in reply.groups] == [1, 2, 3, 4, 5, 7, 8]
        tool.close(0)
    finally:
        one.sql(f"DROP OWNED BY {role}")
        one.sql(f"DROP ROLE {role}")


def test_an_entity_without_a_kind_is_reported(make_tool, store, servers):
    tool = make_tool(store).main
    servers[1].sql("ALTER TABLE shard0011.entities ALTER type DROP NOT NULL")
    servers[1].sql(f"INSERT INTO shard0011.entities VALUES ({key_of(EPOCH + 1, 11, 0)}, NULL, '')")
    reply = tool.count({}, "kind").gives("HV_CORRUPT")
    assert (reply.server, reply.shard) == ("two", 11)
    assert reply.message == "an entity of shard 11 has no type" and "shard0011" in reply.hint
    reply = tool.count({"partial": True}, "kind").ok()
    assert (reply.groups, [missing["shard"] for missing in reply.missing]) == ([], [11])
    assert tool.count().ok().total == 1


def test_a_count_that_takes_too_long_is_given_up(make_tool, store, servers):
    tool = make_tool(store).main
    with servers[0].connect() as connection, connection.cursor() as cursor:
        cursor.execute("BEGIN; LOCK TABLE shard0004.entities IN ACCESS EXCLUSIVE MODE")
        reply = tool.count({"timeout": 300}).gives("HV_TIMEOUT")
        assert reply.server == "one"
        reply = tool.count({"timeout": 300, "partial": True}, "server").ok()
        assert reply.groups == [[1, 0]]
        assert [missing["status"] for missing in reply.missing] == ["HV_TIMEOUT"]
        assert tool.count({"timeout": 300, "shards": "9-17"}).ok().total == 0
    assert tool.count({"timeout": -1}).ok().total == 0


def test_a_count_can_be_interrupted(make_tool, store, servers):
    tool = make_tool(store, interrupts=True)
    (ann,) = tool.threads("ann")
    with servers[0].connect() as connection, connection.cursor() as cursor:
        cursor.execute("BEGIN; LOCK TABLE shard0004.entities IN ACCESS EXCLUSIVE MODE")
        waiting = ann.begin.count({"timeout": -1, "partial": True})
        tool.await_stats(0, lent=1)
        tool.interrupt(ann)
        waiting.reply().gives("HV_TIMEOUT")


def test_a_lost_connection_is_repeated_once(make_tool, relayed_store):
    path, between = relayed_store
    tool = make_tool(path).main
    tool.put(3, 1, {}).ok()
    between.cut()
    assert tool.count().ok().total == 1


def test_a_closed_store_counts_nothing(make_tool, store):
    tool = make_tool(store).main
    tool.stop().ok()
    tool.count().gives("HV_CLOSED")


def test_parameters_are_logged_if_that_is_wanted(make_tool, store):
    selection = {"kinds": [1, 2], "equal": {"a": "x"}, "has": {"b": None}, "shards": "3"}
    for wanted in ("on", "off"):
        tool = make_tool(store, log=True, log_parameters=wanted)
        tool.main.count(selection, "time", unit="day").ok()
        tool.main.explain(selection).ok()
        tool.main.find({**selection, "only": ["c", "d"]}).ok()
        tool.main.next().gives("HV_NOT_FOUND")
        logged = [event for event in tool.await_log(4) if "$1" in event.log]
        values = ["{1,2}", "x", '"b"=>NULL']
        page = [*values, "256", '{"c","d"}']
        expected = [[*values, "UTC"], [*values, "256"], page]
        assert [event.parameters for event in logged] == (expected if wanted == "on" else 3 * [[]])


# ---- while writers write ----


def test_counts_are_right_while_others_write(make_tool, store):
    tool = make_tool(store)
    done = []
    lock = threading.Lock()

    def write(name):
        (thread,) = tool.threads(name)
        for number in range(150):
            thread.put(1 + (number * 7 + len(name)) % 16, 1, {"writer": name}).ok()
            with lock:
                done.append(name)

    writers = [threading.Thread(target=write, args=("w" * n,)) for n in range(1, 5)]
    for writer in writers:
        writer.start()
    last = 0
    while any(writer.is_alive() for writer in writers):
        with lock:
            before = len(done)
        total = tool.main.count({}, "shard").ok().total
        assert before <= total <= 600
        assert last <= total
        last = total
    for writer in writers:
        writer.join()
    assert tool.main.count().ok().total == 600
    assert tool.main.count({"equal": {"writer": "ww"}}).ok().total == 150


# ---- estimates ----


def fill(database, shard, count):
    """Entities of the kinds 0 to 3, of which 0 are a half, and 100 users."""
    database.sql(
        f"INSERT INTO shard{shard:04d}.entities SELECT ((n::bigint * 1000) << 23) | ({shard} << 10),"
        " CASE WHEN n % 2 = 0 THEN 0 ELSE n % 6 END, hstore('user', (n % 100)::text)"
        f" FROM generate_series(1, {count}) AS n"
    )


@pytest.fixture
def estimated(make_tool, store, servers):
    """Shard 2 has 20,000 entities and statistics, shard 9 has 30, and the others are empty."""
    fill(servers[0], 2, 20000)
    fill(servers[1], 9, 30)
    servers[0].sql("ANALYZE shard0002.entities")
    return make_tool(store, log=True)


def about(number, share=0.1):
    return pytest.approx(number, rel=share)


def test_estimates_are_about_right_and_small_tables_exact(estimated):
    tool = estimated.main
    groups = dict(tool.count({}, "shard", estimate=True).ok().groups)
    assert list(groups) == list(range(1, 17))
    assert groups.pop(2) == about(20000)
    assert groups.pop(9) == 30
    assert set(groups.values()) == {0}
    assert dict(tool.count({}, "server", estimate=True).ok().groups) == {0: about(20000), 1: 30}
    assert tool.count({}, estimate=True).ok().total == about(20030)


def test_estimates_by_kind_are_from_statistics(estimated):
    kinds = dict(estimated.main.count({}, "kind", estimate=True).ok().groups)
    assert kinds == {0: about(10015), 1: about(3338), 3: about(3338), 5: about(3338)}
    only = dict(estimated.main.count({"kinds": [3, 4]}, "kind", estimate=True).ok().groups)
    assert only == {3: kinds[3]}
    assert dict(estimated.main.count({"kinds": [3]}, "kind", estimate=True).ok().groups) == only


def test_estimates_with_conditions_are_the_planners(estimated, servers):
    tool = estimated.main
    servers[0].sql("CREATE INDEX ON shard0002.entities ((body -> 'user'))")
    servers[0].sql("ANALYZE shard0002.entities")
    groups = dict(tool.count({"equal": {"user": "7"}}, "shard", estimate=True).ok().groups)
    assert groups[2] == about(200, 0.5)
    assert groups[9] == 1  # counted
    assert tool.count({"kinds": [0]}, estimate=True).ok().total == about(10015)
    half = {"since": EPOCH + 10000 * 1000}
    assert tool.count(half, estimate=True).ok().total == about(10000)
    assert tool.count({"equal": {"user": "7"}, "lacks": ["user2"]}, estimate=True).ok().total < 2000


def test_an_estimate_reads_no_large_table(estimated, servers):
    servers[0].sql("SELECT pg_stat_force_next_flush()")
    for how in ({}, {"by": "kind"}, {"selection": {"equal": {"user": "7"}}}):
        estimated.main.count(**how, estimate=True).ok()
    statements = [event.log for event in estimated.log if "pg_relation_size" in event.log]
    assert len(statements) == 6  # three for each server
    with servers[0].connect() as connection, connection.cursor() as cursor:
        for statement in statements:
            if "shard0002" in statement:
                cursor.execute("SET plan_cache_mode = force_custom_plan")
                cursor.execute(f"PREPARE estimate AS {statement}")
                arguments = "('7')" if "$1" in statement else ""
                cursor.execute(f"EXPLAIN (ANALYZE, FORMAT TEXT) EXECUTE estimate{arguments}")
                plan = "\n".join(row[0] for row in cursor.fetchall())
                cursor.execute("DEALLOCATE estimate")
                (of_large,) = re.findall(r"-> .* on entities entities_1 .*", plan)
                assert "never executed" in of_large, plan


def test_kinds_of_a_table_without_statistics_are_not_invented(estimated, servers):
    fill(servers[1], 12, 5000)
    reply = estimated.main.count({}, "kind", estimate=True).gives("HV_REFUSED")
    assert (reply.server, reply.shard) == ("two", 12)
    assert reply.message == "the server has no statistics of the kinds in shard 12"
    assert "ANALYZE" in reply.hint
    reply = estimated.main.count({"partial": True}, "kind", estimate=True).ok()
    assert [missing["shard"] for missing in reply.missing] == [12]
    assert reply.total == about(20030)
    reply = estimated.main.count({"partial": True, "shards": "9-13"}, "kind", estimate=True).ok()
    assert reply.total == 30  # nothing twice, though shards were asked again, one by one
    assert estimated.main.count({"shards": "12"}, estimate=True).ok().total > 0
