"""Changes that meet others' changes of the same entity, are refused for a reason that passes, or
find a table that is not as hypervault would have made it."""

import contextlib
import threading
import time

import pytest

from changing import SHARD, WAYS, alone, change, content, run_many, run_queue
from harness import eventually
from harness.store_tool import make_tool  # noqa: F401

pytestmark = pytest.mark.threads

BODY = {"a": "1"}
TABLE = f"shard{SHARD:04}.entities"
CHANGES = {
    "replace": {"kind": 2, "dict": {"x": "y"}},
    "merge": {"dict": {"x": "y"}},
    "increment": {"attribute": "a", "amount": "1"},
    "delete": {},
}
all_changes = pytest.mark.parametrize("verb", CHANGES)
conditional = pytest.mark.parametrize("condition", [None, {"kind": 7}], ids=["", "conditional"])
every_way = pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)


@pytest.fixture
def tool(make_tool, store):
    return make_tool(store, log=True)


@pytest.fixture
def database(servers):
    return servers[0]


def put(tool, count=1):
    return [tool.main.put(SHARD, 7, BODY).ok().key for _ in range(count)]


# ---- deleted and put again, between a statement's first look and its change ----


def anew(key):
    """SQL that deletes the entity, and puts it again, in one transaction."""
    return (
        f"INSERT INTO {TABLE} (id, type, body) VALUES ({key}, 7, 'a=>1')"
        f" ON CONFLICT (id) DO UPDATE SET type = 7;"
        f"DELETE FROM {TABLE} WHERE id = {key};"
        f"INSERT INTO {TABLE} (id, type, body) VALUES ({key}, 7, 'a=>1')"
    )


def start(connection, sql):
    """Run it in another thread, as it has to wait."""
    running = threading.Thread(target=connection.cursor().execute, args=[sql])
    running.start()
    return running


def is_waiting(database, connection):
    return database.value(
        "SELECT wait_event_type = 'Lock' FROM pg_catalog.pg_stat_activity WHERE pid = %s",
        connection.info.backend_pid,
    )


def waits_for(database, holder):
    """Does somebody wait for this connection?"""
    return database.value(
        "SELECT count(*) FROM pg_catalog.pg_stat_activity"
        " WHERE %s = ANY (pg_catalog.pg_blocking_pids(pid))",
        holder.info.backend_pid,
    )


@all_changes
@conditional
def test_an_entity_that_others_keep_putting_anew_is_changed_in_the_end(
    tool, database, verb, condition
):
    """Each transaction is waited for by the change, and by the next one."""
    [key] = put(tool)
    turns = 6
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(database.connect()) for _ in range(turns)]
        for each in connections:
            each.autocommit = False
        connections[0].cursor().execute(anew(key))
        making = tool.send(
            "main", {"do": verb, "key": key, "condition": condition, **CHANGES[verb]}
        )
        for now, then in zip(connections, connections[1:]):
            eventually(lambda: waits_for(database, now) or making.done)
            begun = start(then, anew(key))
            eventually(lambda: is_waiting(database, then))
            now.commit()
            begun.join()
        connections[-1].commit()
        making.reply().gives("HV_OK")


# ---- refused for a reason that passes ----


def refuse_once(database, attribute, sqlstate):
    """Refuse rows that get this attribute, the first two times: together, and apart."""
    database.sql(f"""
        CREATE SEQUENCE refused;
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
            IF nextval('public.refused') <= 2 THEN
                RAISE EXCEPTION 'later' USING ERRCODE = '{sqlstate}';
            END IF;
            RETURN NEW;
        END$$;
        CREATE TRIGGER refuse BEFORE UPDATE ON {TABLE} FOR EACH ROW
        WHEN (NEW.body ? '{attribute}') EXECUTE FUNCTION public.refuse()""")


@pytest.mark.parametrize("run", [run_many, run_queue])
@pytest.mark.parametrize("condition", [None, {"kind": 7}], ids=["", "conditional"])
@pytest.mark.parametrize("exactly_once, sqlstate", [("off", "40001"), ("on", "55P03")])
def test_what_is_refused_for_now_is_done_before_what_comes_after_it(
    make_tool, store, database, run, condition, exactly_once, sqlstate
):
    tool = make_tool(store, exactly_once=exactly_once)
    [key, other] = put(tool, 2)
    refuse_once(database, "first", sqlstate)
    done = run(
        tool,
        [
            change("merge", other, condition, dict={"v": "other"}),
            change("merge", key, condition, dict={"first": "yes", "v": "1"}),
            change("merge", key, condition, dict={"v": "2"}, remove=["first"]),
            change("increment", key, {"has": {"v": "2"}}, attribute="v", amount="1"),
        ],
    )
    assert [each.status for each in done] == 4 * ["HV_OK"]
    assert content(database, [key, other]) == {
        key: (7, {**BODY, "v": "3"}),
        other: (7, {**BODY, "v": "other"}),
    }


# ---- many on one key ----


def test_many_reads_of_one_key_wait_for_a_change_at_little_cost(tool):
    """Each is compared with the one before it only: compared with all, they took 200 times as long."""
    [key] = put(tool)
    reads = 40000 * [{"key": key, "names": ["a"]}]

    def timed(operations):
        since = time.monotonic()
        replies = run_queue(tool, operations)
        assert {each.status for each in replies} == {"HV_OK"}
        return time.monotonic() - since, [each.dict for each in replies]

    without, _ = timed(reads)
    after, found = timed([change("merge", key, dict={"a": "2"}), *reads])
    assert found[1:] == len(reads) * [{"a": "2"}]
    assert after < 4 * without


# ---- other tables ----


@every_way
def test_further_columns_may_have_any_names(tool, database, way):
    """The statements for many have names of their own for what they are given."""
    names = (
        "key kind set remove has lacks version name names number attribute addend amount"
        " new_type new_body holds old sum x c given there done stored locked is_number ids e"
    )
    for name in names.split():
        database.sql(f"ALTER TABLE {TABLE} ADD {name} text")
    since = database.server.log_size()
    for condition in (None, {"kind": 7, "has": BODY, "lacks": ["no"]}):
        for verb, fields in CHANGES.items():
            [key] = put(tool)
            assert tool.main.get_only_many([key, *put(tool)], ["a"]).ok().items[0]["dict"] == BODY
            way(tool, change(verb, key, condition, **fields)).gives("HV_OK")
    assert "ambiguous" not in database.server.log_text(since)


@every_way
@all_changes
@pytest.mark.parametrize("condition", [None, {"lacks": ["b"]}], ids=["", "conditional"])
def test_a_body_that_is_null_has_no_attributes(tool, database, way, verb, condition):
    """They can be read only after that."""
    database.sql(f"ALTER TABLE {TABLE} ALTER body DROP NOT NULL")
    [key] = put(tool)
    database.sql(f"UPDATE {TABLE} SET body = NULL")
    way(tool, change(verb, key, {"has": BODY}, **CHANGES[verb])).gives("HV_CORRUPT")
    way(tool, change(verb, key, condition, **CHANGES[verb])).gives("HV_OK")
    left = {"replace": [{"x": "y"}], "merge": [{"x": "y"}], "increment": [{"a": "1"}], "delete": []}
    assert [body for _, body in content(database, [key]).values()] == left[verb]


@every_way
@all_changes
@conditional
def test_the_table_may_be_partitioned(tool, database, way, verb, condition):
    """One of the partitions has its columns in another order, and had more."""
    database.sql(f"""
        ALTER TABLE {TABLE} RENAME TO old;
        ALTER TABLE shard{SHARD:04}.old RENAME CONSTRAINT entities_pkey TO old_pkey;
        CREATE TABLE {TABLE} (LIKE shard{SHARD:04}.old INCLUDING DEFAULTS) PARTITION BY HASH (id);
        ALTER TABLE {TABLE} ADD PRIMARY KEY (id);
        CREATE TABLE shard{SHARD:04}.one PARTITION OF {TABLE}
            FOR VALUES WITH (MODULUS 2, REMAINDER 0);
        CREATE TABLE shard{SHARD:04}.two
            (gone text, body hstore NOT NULL, type smallint NOT NULL, id bigint NOT NULL);
        ALTER TABLE shard{SHARD:04}.two DROP gone;
        ALTER TABLE {TABLE} ATTACH PARTITION shard{SHARD:04}.two
            FOR VALUES WITH (MODULUS 2, REMAINDER 1)""")
    for key in put(tool, 6):
        version = tool.main.get_only(key, None).ok().version
        done = way(tool, change(verb, key, condition, **CHANGES[verb])).gives("HV_OK")
        if verb == "delete":
            tool.main.get(key).gives("HV_NOT_FOUND")
            continue
        there = tool.main.get_only(key, None).ok()
        assert there.version not in (None, version)
        assert done.version in (None, there.version)
        alone(tool, change("merge", key, {"version": version}, dict={"n": "1"})).gives("HV_CHANGED")
        alone(tool, change("merge", key, {"version": there.version}, dict={"n": "1"})).ok()
