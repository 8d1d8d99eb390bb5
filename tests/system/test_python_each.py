"""Datastore.each_shard(): SQL on every shard, whose answers come as those of a cursor."""

import gc
import math
import os
import threading
import time
import weakref

import psycopg2
import pytest
from psycopg2 import sql
from psycopg2.extensions import AsIs

from finding import Held, in_thread, lent
from harness import eventually, python
from harness.python import connections, databases, db, own_connections  # noqa: F401

python.provide()

from hv.datastore import ConnectionError, Datastore, DatastoreError, PoolError, Summary

SHARDS = list(range(1, 17))


def answers(db, *args, **kwargs):  # noqa: F811
    """All answers, in the order of the shards."""
    with db.each_shard(*args, **kwargs) as each:
        return sorted(each, key=lambda answer: (answer.shard or 0, answer.server))


def sleepers(*databases):  # noqa: F811
    """How many statements sleep."""
    query = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE wait_event = 'PgSleep' AND datname = current_database()"
    )
    return sum(database.value(query) for database in databases)


# ---- answers ----


def test_every_shard_answers(db):  # noqa: F811
    keys = db.put_many([(shard, 1, {"n": shard}) for shard in SHARDS for _ in range(shard)])
    found = answers(db, "SELECT count(*), min(body -> 'n') AS n FROM entities")
    assert [(each.shard, each.rows) for each in found] == [(n, [(n, str(n))]) for n in SHARDS]
    assert {(each.server, each.shard > 8) for each in found} == {
        ("server 1", False),
        ("server 2", True),
    }
    for each in found:
        assert (each.work, each.error, each.rowcount) == ("done", None, 1)
        assert each.columns == ("count", "n")
    assert repr(found[2]) == "<ShardAnswer: shard 3, done, 1 row>"
    db.delete_many(keys)


def test_the_search_path_is_the_shard_and_its_name_is_replaced(db):  # noqa: F811
    text = (
        "SELECT current_schema(), '@shard', $$@shard.x$$, 'a@shard', "
        "(SELECT count(*) FROM @shard.entities)"
    )
    for each in answers(db, text, shards="3-5"):
        name = f"shard{each.shard:04d}"
        assert each.rows == [(name, name, f"{name}.x", "a@shard", 0)]


@pytest.mark.parametrize(
    "shards,meant",
    [(3, [3]), ("3-5,12", [3, 4, 12]), ([3, "9-12"], [3, 9, 10, 11]), (range(2, 4), [2, 3])],
    ids=["int", "text", "list", "range"],
)
def test_some_shards(db, shards, meant):  # noqa: F811
    assert [each.shard for each in answers(db, "SELECT 1", shards=shards)] == meant


def test_a_server_can_be_left_out(db):  # noqa: F811
    assert [each.shard for each in answers(db, "SELECT 1", skip="server 1")] == SHARDS[8:]
    assert [each.shard for each in answers(db, "SELECT 1", skip=["server 2"])] == SHARDS[:8]


def test_once_for_each_server(db, databases):  # noqa: F811
    found = answers(db, "SELECT current_database()", per_server=True)
    assert [(each.shard, each.server, each.rows) for each in found] == [
        (None, f"server {n}", [(database.dbname,)]) for n, database in enumerate(databases, 1)
    ]
    assert repr(found[0]) == "<ShardAnswer: server 'server 1', done, 1 row>"


TYPES = """
    SELECT 1::int2, 'ä'::text, NULL::int, 1.50::numeric, '2026-02-28'::date, '12:30'::time,
        '2026-02-28 12:30:15.25+02'::timestamptz, '2026-02-28 12:30'::timestamp,
        '{1,2,NULL}'::int[], '{a,"b c"}'::text[], 'a=>1, b=>NULL'::hstore, ARRAY['a=>1'::hstore],
        '{"a": [1]}'::jsonb, true, 0.1::float8, 'NaN'::float4, '1 day 02:00'::interval,
        '[1,5)'::int4range, 'infinity'::date, 'e0b8a9a6-5d6c-4c3b-8a0e-6f7d0f4f3a10'::uuid,
        '10.0.0.1'::inet, ''::text, 4::bigint AS n, 4::oid
"""


def test_values_are_those_of_a_cursor(db):  # noqa: F811
    with db.cursor_server(0) as cursor:
        cursor.execute(TYPES)
        expected, names = list(cursor.fetchone()), tuple(each.name for each in cursor.description)
    for each in answers(db, TYPES):
        (row,) = each.rows
        assert type(row) is tuple and repr(list(row)) == repr(expected)
        assert [type(value) for value in row] == [type(value) for value in expected]
        assert each.columns == names
        assert each.rows is each.rows


def test_bytes_are_those_of_a_cursor(db):  # noqa: F811
    (each,) = answers(db, r"SELECT '\x00ff'::bytea", shards=3)
    assert bytes(each.rows[0][0]) == b"\x00\xff"


def test_a_type_that_is_new_changes_nothing_for_others(connections, databases):  # noqa: F811
    one = databases[0]
    with Datastore(connections) as db:  # noqa: F811
        (each,) = answers(db, "SELECT 'a=>1'::hstore", shards=3)
        assert each.rows == [({"a": "1"},)]
        one.sql("CREATE SCHEMA other; CREATE EXTENSION IF NOT EXISTS citext SCHEMA other")
        (each,) = answers(db, "SELECT 'a'::other.citext, 'b=>2'::hstore", shards=3)
        assert each.rows == [("a", {"b": "2"})]
    one.sql("DROP SCHEMA other CASCADE")


def test_a_statement_without_rows(db):  # noqa: F811
    (each,) = answers(db, "SELECT 1 WHERE false", shards=3)
    assert (each.rows, each.rowcount, each.columns) == ([], 0, ("?column?",))
    (each,) = answers(db, "DO $$ BEGIN END $$", shards=3)
    assert (each.rows, each.rowcount, each.columns) == ([], -1, ())
    assert repr(each) == "<ShardAnswer: shard 3, done>"


def test_the_answer_is_that_of_the_last_statement(db):  # noqa: F811
    (each,) = answers(db, "SELECT 1; SELECT 2 AS two, 3 AS three", shards=3)
    assert (each.columns, each.rows) == (("two", "three"), [(2, 3)])


def test_an_answer_cannot_be_changed(db):  # noqa: F811
    (each,) = answers(db, "SELECT 1", shards=3)
    for name in ("server", "shard", "work", "error", "columns", "rowcount", "rows", "other"):
        with pytest.raises(AttributeError):
            setattr(each, name, 5)


# ---- arguments ----


@pytest.mark.parametrize(
    "value",
    ["x", "it's", "back\\slash", "100%", "@shard", "'@shard' \\", "ä", 5, None, 1.5, [1, 2],
     ["@shard", "\\"], {"a": "@shard", "b": None}],
    ids=lambda value: repr(value) if isinstance(value, str) else type(value).__name__,
)  # fmt: skip
def test_arguments_are_those_of_a_cursor(db, value):  # noqa: F811
    for text, args in (("SELECT %s AS v", [value]), ("SELECT %(v)s AS v", {"v": value, "w": 1})):
        with db.cursor_server(0) as cursor:
            cursor.execute(text, args)
            expected = cursor.fetchone()[0]
        for each in answers(db, text, args, shards=[3, 12]):
            assert each.rows == [(expected,)]


def test_sql_that_is_composed(db):  # noqa: F811
    text = sql.SQL("SELECT {}, {} FROM {} LIMIT 1").format(
        sql.Literal(5), sql.Placeholder(), sql.Identifier("pg_catalog", "pg_class")
    )
    (each,) = answers(db, text, ["x"], shards=3)
    assert each.rows == [(5, "x")]
    (each,) = answers(db, sql.SQL("SELECT {}").format(sql.Literal("y")), shards=3)
    assert each.rows == [("y",)]


def test_without_arguments_a_percent_sign_is_one(db):  # noqa: F811
    (each,) = answers(db, "SELECT 5 % 3, 'a%s'", shards=3)
    assert each.rows == [(2, "a%s")]
    (each,) = answers(db, "SELECT 5 %% 3, %s", ("a",), shards=3)
    assert each.rows == [(2, "a")]


def test_sql_as_an_argument_is_not_quoted(db):  # noqa: F811
    (each,) = answers(db, "SELECT count(*) FROM %s", [AsIs("@shard.entities")], shards=3)
    assert each.rows == [(0,)]


WRONG = [
    (TypeError, ["SELECT 1"], {"sharts": 3}),
    (TypeError, [], {}),
    (TypeError, [5], {}),
    (TypeError, ["SELECT 1", None, 3], {}),
    (TypeError, ["SELECT %s", "x"], {}),
    (TypeError, ["SELECT %s", 5], {}),
    (TypeError, ["SELECT 1"], {"shards": 1.5}),
    (TypeError, ["SELECT 1"], {"shards": [None]}),
    (TypeError, ["SELECT 1"], {"skip": 5}),
    (TypeError, ["SELECT 1"], {"parallel": "four"}),
    (TypeError, ["SELECT 1"], {"max_failures": 1.5}),
    (TypeError, ["SELECT 1"], {"timeout": "1s"}),
    (TypeError, ["SELECT 1"], {"observer": 5}),
    (TypeError, ["SELECT 1"], {"once": 5, "write": True}),
    (DatastoreError, ["SELECT 1"], {"shards": ""}),
    (DatastoreError, ["SELECT 1"], {"shards": "x"}),
    (DatastoreError, ["SELECT 1"], {"shards": []}),
    (DatastoreError, ["SELECT 1"], {"shards": -3}),
    (DatastoreError, ["SELECT 1"], {"shards": 99}),
    (DatastoreError, ["SELECT 1"], {"skip": "nobody"}),
    (DatastoreError, ["SELECT 1"], {"skip": []}),
    (DatastoreError, ["SELECT 1"], {"parallel": 0}),
    (DatastoreError, ["SELECT 1"], {"parallel_total": 2000}),
    (DatastoreError, ["SELECT 1"], {"max_failures": -1}),
    (DatastoreError, ["SELECT 1"], {"max_failures": "some"}),
    (DatastoreError, ["SELECT 1"], {"lock_timeout": 0}),
    (DatastoreError, ["SELECT 1"], {"lock_timeout": math.inf}),
    (DatastoreError, ["SELECT 1"], {"max_wait": -1}),
    (DatastoreError, ["SELECT 1"], {"timeout": math.nan}),
    (DatastoreError, ["SELECT 1"], {"once": "name"}),
    (DatastoreError, ["SELECT 1"], {"once": "", "write": True}),
    (DatastoreError, ["SELECT '\0'"], {}),
    (DatastoreError, ["SELECT '\ud800'"], {}),
    (DatastoreError, ["SELECT 'x"], {}),
    (DatastoreError, ["SELECT 1; COMMIT"], {"write": True}),
]


@pytest.mark.parametrize("kind,args,kwargs", WRONG, ids=[f"{i}" for i in range(len(WRONG))])
def test_what_is_wrong_is_refused_before_anything_is_sent(connections, kind, args, kwargs):  # noqa: F811
    with Datastore(connections) as db:  # noqa: F811
        with pytest.raises(kind) as caught:
            db.each_shard(*args, **kwargs)
        if kind is DatastoreError:
            assert caught.value.status == "HV_INVALID"
        stats = db.pool_stats()
        assert (stats["opened"], stats["lent"]) == (0, 0)


@pytest.mark.parametrize(
    "text,args,kind",
    [
        ("SELECT %s", [object()], psycopg2.ProgrammingError),
        ("SELECT %s, %s", [1], IndexError),
        ("SELECT %(a)s", {}, KeyError),
        ("SELECT %s", [5, 6], TypeError),
    ],
    ids=["object", "few", "name", "many"],
)
def test_arguments_that_do_not_fit_raise_what_a_cursor_raises(db, text, args, kind):  # noqa: F811
    with pytest.raises(kind):
        db.each_shard(text, args)
    eventually(lambda: lent(db) == 0)


# ---- errors ----


def test_an_error_is_in_the_answer_and_raised_by_its_rows(db):  # noqa: F811
    text = "SELECT 1 / (current_schema() <> 'shard0005')::int"
    found = answers(db, text, max_failures="all")
    assert [each.shard for each in found] == SHARDS
    (failed,) = [each for each in found if each.work == "failed"]
    assert (failed.shard, failed.columns, failed.rowcount) == (5, (), -1)
    with pytest.raises(DatastoreError) as caught:
        failed.rows
    error = caught.value
    assert error is failed.error
    assert (error.status, error.sqlstate) == ("HV_REFUSED", "22012")
    assert (error.server, error.shard) == ("server 1", 5)
    assert str(error).endswith('\nWHERE:  shard 5, server "server 1"')
    assert "division by zero" in error.message and "division by zero" in repr(failed)


def test_after_too_many_failures_it_ends(db):  # noqa: F811
    with db.each_shard("SELECT 1 / 0", parallel=1, parallel_total=1) as each:
        found = list(each)
        assert [answer.work for answer in found] == ["failed"]
        summary = each.summary
    assert isinstance(summary, Summary) and isinstance(summary, tuple)
    assert [work.shard for work in summary] == SHARDS
    assert [work.shard for work in summary.failed] == [found[0].shard]
    assert summary.failed[0].error.sqlstate == "22012"
    assert len(summary.not_begun) == 15
    assert (summary.done, summary.unchanged) == ([], [])
    assert repr(summary) == "<Summary: 1 failed, 15 not begun>"


def test_it_is_read_only(db):  # noqa: F811
    text = "INSERT INTO entities (id, type) VALUES (1, 1)"
    for each in answers(db, text, max_failures="all"):
        assert each.error.sqlstate == "25006"
        with pytest.raises(DatastoreError):
            each.rows
    assert db.count() == 0


def test_with_write_it_changes_the_shards(db):  # noqa: F811
    keys = db.put_many([(shard, 1, {"n": 1}) for shard in (3, 3, 12)])
    text = "UPDATE entities SET type = %s"
    found = answers(db, text, [7], write=True)
    assert [each.rowcount for each in found if each.shard in (3, 4, 12)] == [2, 0, 1]
    assert [row["type"] for row in db.get_many(keys)] == [7, 7, 7]
    (each,) = answers(db, text + " RETURNING type", [8], write=True, shards=12)
    assert (each.rows, each.rowcount) == ([(8,)], 1)
    db.delete_many(keys)


def test_once_it_is_run_once(db):  # noqa: F811
    keys = db.put_many([(shard, 1, {"n": 1}) for shard in SHARDS])
    text = "UPDATE entities SET type = type + 1"
    half = answers(db, text, write=True, once="more", shards="1-5")
    assert [each.work for each in half] == ["done"] * 4
    with db.each_shard(text, write=True, once="more") as each:
        found = sorted(each, key=lambda answer: answer.shard)
        assert len(each.summary.unchanged) == 4 and len(each.summary.done) == 12
    assert [each.work for each in found] == ["unchanged"] * 4 + ["done"] * 12
    assert (found[0].rows, found[0].columns, found[0].rowcount) == ([], (), -1)
    assert [row["type"] for row in db.get_many(keys)] == [2] * 16
    db.delete_many(keys)


def test_a_server_that_is_down_is_in_the_answers(own_servers, own_connections):  # noqa: F811
    with Datastore(own_connections, pool_block_timeout=1) as db:  # noqa: F811
        own_servers[0].server.stop("immediate")
        found = answers(db, "SELECT %s::hstore", [{"a": "1"}], max_failures="all")
        assert [each.shard for each in found] == SHARDS
        for each in found[:8]:
            assert (each.work, each.server) == ("failed", "server 1")
            assert isinstance(each.error, ConnectionError)
        assert [each.rows for each in found[8:]] == [[({"a": "1"},)]] * 8


# ---- the observer ----


def test_an_observer_learns_of_each_shard(db):  # noqa: F811
    seen = []
    with db.each_shard("SELECT 1", observer=seen.append) as each:
        assert len(list(each)) == 16
    done = [event for event in seen if event.work == "done"]
    assert sorted(event.shard for event in done) == SHARDS
    assert {event.server for event in done} == {"server 1", "server 2"}
    assert all(event.error is None for event in done)


def test_an_observer_learns_what_is_waited_for(db, databases):  # noqa: F811
    seen = []
    with Held(databases[0], 3) as held:
        came, thread = in_thread(
            lambda: answers(db, "SELECT count(*) FROM entities", observer=seen.append)
        )
        eventually(lambda: any(event.work == "waiting" for event in seen))
        pid = held._held.thing.info.backend_pid
        waiting = [event for event in seen if event.work == "waiting"]
        assert {event.shard for event in waiting} == {3}
        eventually(lambda: any(str(pid) in (event.waits_for or "") for event in seen))
    thread.join(60)
    assert [each.work for each in came[0]] == ["done"] * 16


def test_what_an_observer_raises_ends_the_work_and_comes_out(db, databases):  # noqa: F811
    class Mine(Exception):
        pass

    def observe(event):
        if event.work == "done":
            raise Mine(event.shard)

    each = db.each_shard(
        "SELECT pg_sleep(CASE current_schema() WHEN 'shard0001' THEN 0 ELSE 600 END)",
        observer=observe,
    )
    with pytest.raises(Mine):
        list(each)
    assert list(each) == []
    assert len(each.summary) == 16
    eventually(lambda: sleepers(*databases) == 0)
    eventually(lambda: lent(db) == 0)


def test_what_an_observer_raises_in_a_function_with_a_summary(db):  # noqa: F811
    def observe(event):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        db.schema_check(observer=observe)
    eventually(lambda: lent(db) == 0)


# ---- the end ----


def test_a_loop_can_be_left_half_way(db, databases):  # noqa: F811
    text = "SELECT pg_sleep(CASE current_schema() WHEN 'shard0001' THEN 0 ELSE 600 END)"
    for each in db.each_shard(text, parallel=8):
        assert each.shard == 1
        break
    del each
    gc.collect()
    eventually(lambda: sleepers(*databases) == 0)
    eventually(lambda: lent(db) == 0)


def test_one_that_is_closed_returns_no_more(db):  # noqa: F811
    with db.each_shard("SELECT 1") as each:
        next(each)
    assert each.closed
    with pytest.raises(PoolError) as caught:
        next(each)
    assert caught.value.status == "HV_CLOSED"
    assert len(each.summary) == 16 and each.summary.done
    each.close()
    eventually(lambda: lent(db) == 0)


def test_at_its_end_it_needs_the_store_no_more(connections):  # noqa: F811
    db = Datastore(connections)  # noqa: F811
    each = db.each_shard("SELECT 1")
    found = list(each)
    assert not each.closed
    db.close(timeout=0)
    assert list(each) == [] and len(each.summary.done) == 16
    assert [answer.rows for answer in found] == [[(1,)]] * 16
    each.close()


def test_a_store_is_closed_under_it(connections):  # noqa: F811
    db = Datastore(connections)  # noqa: F811
    each = db.each_shard("SELECT 1")
    next(each)
    with pytest.raises(PoolError) as caught:
        db.close(timeout=0)
    assert caught.value.status == "HV_BUSY"
    with pytest.raises(PoolError) as caught:
        list(each)
    assert caught.value.status == "HV_CLOSED"
    db.close(timeout=5)


def test_one_that_its_store_refers_to_is_collected_with_it(connections):  # noqa: F811
    class Mine(Datastore):
        pass

    db = Mine(connections)  # noqa: F811
    db.each = db.each_shard("SELECT 1", observer=lambda event: db)
    next(db.each)
    gone = weakref.ref(db)
    del db
    gc.collect()
    assert gone() is None


def test_another_thread_closes_it_while_it_waits(db, databases):  # noqa: F811
    each = db.each_shard("SELECT pg_sleep(600)")
    came, thread = in_thread(lambda: next(each))
    eventually(lambda: sleepers(*databases) > 0)
    for use in (lambda: next(each), lambda: each.summary):
        with pytest.raises(RuntimeError, match="another thread"):
            use()
    each.close()
    thread.join(20)
    assert not thread.is_alive()
    assert isinstance(came[0], PoolError) and came[0].status == "HV_CLOSED"
    assert each.closed
    eventually(lambda: sleepers(*databases) == 0)
    eventually(lambda: lent(db) == 0)


def test_threads_do_it_at_the_same_time(connections):  # noqa: F811
    wrong = []

    def work():
        try:
            assert len(answers(db, "SELECT 'a=>1'::hstore", parallel=2)) == 16
        except BaseException as error:
            wrong.append(error)

    with Datastore(connections, pool_block_timeout=60) as db:  # noqa: F811
        threads = [threading.Thread(target=work) for _ in range(4)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        assert wrong == []
        eventually(lambda: lent(db) == 0)


def test_one_connection_is_enough(connections):  # noqa: F811
    with Datastore(connections, pool_max=1, pool_block_timeout=5) as db:  # noqa: F811
        found = answers(db, "SELECT 'a=>1'::hstore, %s", ["x"])
        assert [each.rows for each in found] == [[({"a": "1"}, "x")]] * 16


def test_ctrl_c_ends_the_work(connections, databases):  # noqa: F811
    code = """
db = Datastore(connections)
each = db.each_shard("SELECT pg_sleep(600)")
say("ready")
try:
    next(each)
except KeyboardInterrupt as error:
    say("interrupted", error.__context__.status, error.__context__.summary)
say(list(each), db.put(3, 1) is not None)
db.close()
"""
    with python.Process(code, connections) as process:
        assert process.read() == "ready"
        eventually(lambda: sleepers(*databases) >= 2)
        since = time.monotonic()
        process.interrupt()
        assert process.read().startswith("interrupted HV_TIMEOUT <Summary: ")
        assert time.monotonic() - since < 10
        assert process.read() == "[] True"
        assert process.end() == (0, "", "")
    eventually(lambda: sleepers(*databases) == 0)
    databases[0].sql("DELETE FROM shard0003.entities")


def test_a_forked_child_does_not_end_its_parents_work(connections, databases):  # noqa: F811
    code = """
db = Datastore(connections)
each = db.each_shard("SELECT pg_sleep(0.5), current_schema()")
first = next(each)
child = os.fork()
if child == 0:
    each.close()
    del each
    say(len(list(db.each_shard("SELECT 1", shards=3))))
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
say(len([answer.rows for answer in each]))
db.close()
"""
    result = python.run(code, connections)
    assert (result.code, result.err) == (0, ""), str(result)
    assert result.lines == ["1", "15"]
