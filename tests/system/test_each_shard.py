"""SQL on every shard through the library: its answers, its limits, what stops it, and that nothing is
left of it: no connection, no lock, no half of a write."""

import contextlib

import pytest

from harness import eventually
from harness.store_tool import make_tool  # noqa: F401

pytestmark = pytest.mark.threads

SHARDS = list(range(1, 17))
ALL = {"max_failures": "all", "canary": "off"}
PATIENT = {"pool_block_timeout": "1min", "operation_timeout": "1min", "interrupts": True}


@pytest.fixture
def tool(make_tool, store):
    return make_tool(store)


def schema(shard):
    return f"shard{shard:04}"


def of(shard, servers):
    return servers[0] if shard < 9 else servers[1]


def works(reply):
    """{shard: what has become of it} of a reply's summary."""
    return {entry["shard"]: entry["work"] for entry in reply.summary}


def failure(reply, shard):
    (entry,) = [entry for entry in reply.summary if entry["shard"] == shard]
    return entry["error"]


def values(reply):
    return {answer["shard"]: answer["rows"] for answer in reply.answers}


@contextlib.contextmanager
def locked(database, shard, mode="ACCESS EXCLUSIVE"):
    with database.connect(application_name="locker") as blocker:
        blocker.autocommit = False
        blocker.cursor().execute(f"LOCK TABLE {schema(shard)}.entities IN {mode} MODE")
        yield
        blocker.rollback()


def assert_nothing_left(tool, *servers):
    """No connection of the pools is missing, and no lock of a shard is held."""
    for number in range(2):
        now = tool.await_stats(server=number, lent=0, waiting=0)
        assert now.open == now.idle == now.opened - now.closed
    for database in servers:
        query = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = 26744"
        eventually(lambda of=database: of.value(query) == 0)


def kill_sleepers(database):
    """Kill the connections that are in pg_sleep(); returns how many there were. The query itself
    may be too long to be seen in pg_stat_activity."""
    return database.value(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event = 'PgSleep'"
    )


# ---- answers ----


def test_each_shard_answers_with_its_own_rows(tool, servers):
    reply = tool.main.each("SELECT current_schema(), '@shard', 7 AS seven").ok()
    assert values(reply) == {s: [[schema(s), schema(s), "7"]] for s in SHARDS}
    assert works(reply) == dict.fromkeys(SHARDS, "done")
    assert {a["shard"]: a["server"] for a in reply.answers} == {s: int(s > 8) for s in SHARDS}
    assert_nothing_left(tool, *servers)


def test_parameters_are_texts_or_null(tool):
    reply = tool.main.each("SELECT $1, $2::text IS NULL, count(*) FROM entities", ["a'b", None]).ok()
    assert values(reply) == {s: [["a'b", "t", "0"]] for s in SHARDS}


def test_the_last_statement_answers(tool):
    sql = "SELECT 1; CREATE TEMP TABLE t AS SELECT 5 AS five; SELECT five FROM t; -- the end"
    reply = tool.main.each(sql, rollout={"write": "on"}).ok()
    assert values(reply) == {s: [["5"]] for s in SHARDS}


def test_once_for_each_server(tool, servers):
    reply = tool.main.each("SELECT current_database()", rollout={"per_server": "on"}).ok()
    assert [(a["server"], a["shard"], a["rows"]) for a in sorted(
        reply.answers, key=lambda answer: answer["server"]
    )] == [(0, -1, [[servers[0].dbname]]), (1, -1, [[servers[1].dbname]])]
    assert [(e["server"], e["work"]) for e in reply.summary] == [(0, "done"), (1, "done")]


def test_chosen_shards_and_servers(tool):
    reply = tool.main.each("SELECT 1", rollout={"shards": "3-6,12"}).ok()
    assert sorted(values(reply)) == [3, 4, 5, 12]
    reply = tool.main.each("SELECT 1", rollout={"skip": ["one"]}).ok()
    assert sorted(values(reply)) == SHARDS[8:]
    refused = tool.main.each("SELECT 1", rollout={"skip": ["one", "two"]}).gives("HV_INVALID")
    assert refused.message == "no shard is left: all servers are skipped"
    refused = tool.main.each("SELECT 1", rollout={"skip": ["three"]}).gives("HV_INVALID")
    assert refused.message == 'there is no server "three" to skip'
    refused = tool.main.each("SELECT 1", rollout={"shards": "3,20"}).gives("HV_INVALID")
    assert (refused.message, refused.shard) == ("no server holds shard 20", 20)


def test_a_write_is_committed_on_each_shard(tool, servers):
    sql = "CREATE TABLE notes (a int); INSERT INTO notes VALUES (1), (2)"
    reply = tool.main.each(sql, rollout={"write": "on"}).ok()
    assert works(reply) == dict.fromkeys(SHARDS, "done")
    for shard in SHARDS:
        assert of(shard, servers).value(f"SELECT count(*) FROM {schema(shard)}.notes") == 2
    assert_nothing_left(tool, *servers)


def test_settings_of_the_role_and_of_an_earlier_shard_do_not_count(tool, servers):
    for database in servers:
        database.sql(
            f"ALTER DATABASE {database.dbname} SET statement_timeout TO 100;"
            f"ALTER DATABASE {database.dbname} SET default_transaction_read_only TO on;"
            f"ALTER DATABASE {database.dbname} SET standard_conforming_strings TO off"
        )
    tool.main.disconnect().ok()
    sql = (
        "SET SESSION work_mem TO '7MB'; CREATE TEMP TABLE before (a int);"
        "SELECT pg_advisory_lock(1); SELECT pg_sleep(0.12), '\\'"
    )
    rollout = {"write": "on", "parallel": "1"}
    assert works(tool.main.each(sql, rollout=rollout).ok()) == dict.fromkeys(SHARDS, "done")
    reply = tool.main.each("SELECT current_setting('work_mem'), to_regclass('before')").ok()
    for rows in values(reply).values():
        assert rows[0][0] != "7MB" and rows[0][1] is None


def test_empty_and_unreadable_sql_is_refused(tool):
    assert tool.main.each(" -- nothing").gives("HV_INVALID").message == "there is no SQL to run"
    tool.main.each("SELECT 'open").gives("HV_INVALID")
    refused = tool.main.each("SELECT 1; SELECT $1", ["a"]).gives("HV_INVALID")
    assert refused.message == "SQL with parameters is one statement, not 2"
    refused = tool.main.each("SELECT 1", rollout={"once": "a"}).gives("HV_INVALID")
    assert refused.message == '"once" is for SQL that may write'


@pytest.mark.parametrize(
    "name, value",
    [
        ("parallel", "0"),
        ("parallel", "65"),
        ("parallel", "four"),
        ("parallel_total", "1025"),
        ("canary", "maybe"),
        ("max_failures", "-1"),
        ("lock_timeout", "0"),
        ("max_wait", "0"),
        ("max_wait", "-2"),
        ("timeout", "1s"),
        ("shards", "5-3"),
        ("shards", ""),
        ("skip", ""),
        ("once", ""),
        ("paralel", "1"),
    ],
)
def test_options_that_are_none(tool, name, value):
    refused = tool.main.each("SELECT 1", rollout={name: value}).gives("HV_INVALID")
    assert refused.hint or "item" in refused.message


def test_an_error_names_shard_and_line(tool, servers):
    servers[1].sql(f"ALTER TABLE {schema(12)}.entities RENAME COLUMN type TO kind")
    sql = "SELECT 1;\n\nSELECT\n  type FROM entities"
    reply = tool.main.each(sql, rollout={"max_failures": "all"}).ok()
    assert works(reply) == {s: "failed" if s == 12 else "done" for s in SHARDS}
    error = failure(reply, 12)
    assert error["status"] == "HV_REFUSED" and error["sqlstate"] == "42703"
    assert (error["server"], error["shard"]) == ("two", 12)
    assert error["message"] == 'line 4: column "type" does not exist'


def test_a_run_time_error_names_the_statements_line(tool):
    sql = "SELECT 1;\n\nSELECT 1 /\n (SELECT 0)"
    reply = tool.main.each(sql, rollout={"shards": "1"}).ok()
    assert failure(reply, 1)["message"] == "line 3: division by zero"


# ---- once ----

ADD = "CREATE TABLE IF NOT EXISTS notes (a int); INSERT INTO notes VALUES (1) RETURNING a"


def notes(servers):
    return [of(s, servers).value(f"SELECT count(*) FROM {schema(s)}.notes") for s in SHARDS]


def test_sql_with_a_name_is_run_once(tool, servers):
    rollout = {"write": "on", "once": "it's one", "shards": "3,9"}
    assert values(tool.main.each(ADD, rollout=rollout).ok()) == {3: [["1"]], 9: [["1"]]}
    rollout.pop("shards")
    reply = tool.main.each(ADD, rollout=rollout).ok()
    assert works(reply) == {s: "unchanged" if s in (3, 9) else "done" for s in SHARDS}
    assert notes(servers) == [1] * 16
    assert works(tool.main.each(ADD, rollout=rollout).ok()) == dict.fromkeys(SHARDS, "unchanged")
    rollout["once"] = "another"
    assert works(tool.main.each(ADD, rollout=rollout).ok()) == dict.fromkeys(SHARDS, "done")
    assert notes(servers) == [2] * 16
    assert_nothing_left(tool, *servers)


def test_one_statement_with_parameters_is_run_once(tool, servers):
    tool.main.each("CREATE TABLE notes (a text)", rollout={"write": "on"}).ok()
    rollout = {"write": "on", "once": "add"}
    for work in ("done", "unchanged"):
        reply = tool.main.each("INSERT INTO notes VALUES ($1)", ["x"], rollout).ok()
        assert works(reply) == dict.fromkeys(SHARDS, work)
    assert notes(servers) == [1] * 16


def test_what_fails_is_not_recorded(tool, servers):
    rollout = {"write": "on", "once": "a", "shards": "3"}
    sql = ADD + "; SELECT 1 / (a - 1) FROM notes"
    assert works(tool.main.each(sql, rollout=rollout).ok()) == {3: "failed"}
    assert works(tool.main.each(ADD, rollout=rollout).ok()) == {3: "done"}
    assert servers[0].value("SELECT count(*) FROM shard0003.notes") == 1


def test_a_lost_commit_is_found_in_the_ledger(tool, servers):
    ann = tool.threads("ann")[0]
    sql = ADD + "; SELECT pg_sleep(1)"
    running = ann.begin.each(sql, rollout={"write": "on", "once": "a", "parallel": "4", **ALL})
    for _ in range(2):
        eventually(lambda: kill_sleepers(servers[0]) > 0)
    reply = running.reply().ok()
    assert set(works(reply).values()) <= {"done", "unchanged"}
    assert notes(servers) == [1] * 16


# ---- reading only ----


@pytest.mark.parametrize(
    "sql, sqlstate",
    [
        ("CREATE TABLE notes (a int)", "25006"),
        ("SET TRANSACTION READ WRITE; CREATE TABLE notes (a int)", "25001"),
        ("SELECT set_config('transaction_read_only', 'off', false); CREATE TABLE notes (a int)",
         "25001"),
        ("SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE; CREATE TABLE notes (a int)",
         "25006"),
        ("SAVEPOINT a; SET TRANSACTION READ WRITE; CREATE TABLE notes (a int)", "25001"),
        ("DO 'BEGIN COMMIT; CREATE TABLE notes (a int); END'", "2D000"),
        ("DO 'BEGIN EXECUTE $$COMMIT$$; CREATE TABLE notes (a int); END'", "0A000"),
    ],
)
def test_without_write_nothing_is_written(tool, servers, sql, sqlstate):
    reply = tool.main.each(sql, rollout={"max_failures": "all"}).ok()
    assert works(reply) == dict.fromkeys(SHARDS, "failed")
    assert {failure(reply, s)["sqlstate"] for s in SHARDS} == {sqlstate}
    for shard in SHARDS:
        assert of(shard, servers).value(f"SELECT to_regclass('{schema(shard)}.notes')") is None


@pytest.mark.parametrize(
    "sql",
    [
        "COMMIT; BEGIN; CREATE TABLE notes (a int)",
        "SELECT 1; /* x */ end; CREATE TABLE notes (a int)",
        "ROLLBACK AND CHAIN",
        "PREPARE TRANSACTION 'a'",
        "ABORT",
    ],
)
def test_sql_that_leaves_the_transaction_is_refused(tool, sql):
    for rollout in ({}, {"write": "on"}):
        tool.main.each(sql, rollout=rollout).gives("HV_INVALID")


def test_a_parameters_statement_can_not_leave_either(tool, servers):
    reply = tool.main.each("CREATE TABLE notes AS SELECT $1 AS a", ["x"], {"max_failures": "all"})
    assert works(reply.ok()) == dict.fromkeys(SHARDS, "failed")
    assert "Without the option" in failure(reply, 1)["hint"]


# ---- how many at a time ----


def most_at_once(tool, servers, rollout):
    """Run it and return the most statements that ran at once on each server."""
    for database in servers:
        database.sql("CREATE TABLE IF NOT EXISTS public.seen (a int)")
    thread = tool.threads("runner")[0]
    running = thread.begin.each("SELECT pg_sleep(0.15)", rollout=rollout)
    query = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND wait_event = 'PgSleep'"
    )
    most = [0, 0]
    with servers[0].connect() as one, servers[1].connect() as two:
        while not running.done:
            counts = []
            for connection in (one, two):
                with connection.cursor() as cursor:
                    cursor.execute(query)
                    counts.append(cursor.fetchone()[0])
                connection.rollback()
            most = [max(pair) for pair in zip(most, counts)]
    assert set(works(running.reply().ok()).values()) == {"done"}
    return most


def test_some_of_a_server_at_a_time(tool, servers):
    assert most_at_once(tool, servers, {"parallel": "3"}) == [3, 3]


def test_some_altogether(tool, servers):
    rollout = {"parallel": "4", "parallel_total": "2", "shards": "1-9"}
    assert most_at_once(tool, servers, rollout) == [2, 0]
    rollout = {"parallel": "4", "parallel_total": "1"}
    assert most_at_once(tool, servers, rollout) == [1, 1]


def test_one_connection_is_left_for_others(make_tool, store, servers):
    tool = make_tool(store, pool_max=3)
    assert most_at_once(tool, servers, {"parallel": "4"}) == [2, 2]


def test_a_pool_of_one_connection(make_tool, store, servers):
    tool = make_tool(store, pool_max=1)
    assert most_at_once(tool, servers, {"parallel": "4"}) == [1, 1]
    assert_nothing_left(tool, *servers)


def test_others_have_their_turn_between_two_shards(make_tool, store):
    tool = make_tool(store, pool_max=1, pool_block_timeout="1min")
    ann, bob = tool.threads("ann", "bob")
    running = ann.begin.each("SELECT pg_sleep(0.3)", rollout={"shards": "1-9"})
    tool.await_stats(lent=1)
    bob.put(3, 1, {"a": "b"}).ok()
    assert not running.done
    assert works(running.reply().ok()) == dict.fromkeys(SHARDS[:8], "done")


def test_it_waits_for_a_connection_that_the_program_uses(make_tool, store):
    tool = make_tool(store, pool_max=1)
    ann, bob = tool.threads("ann", "bob")
    ann.acquire(3).ok()
    running = bob.begin.each("SELECT 1", rollout={"shards": "1-9"})
    tool.await_stats(waiting=1)
    ann.release().ok()
    assert works(running.reply().ok()) == dict.fromkeys(SHARDS[:8], "done")


# ---- what stops it ----


def test_the_canary_goes_first(tool, servers):
    servers[0].sql(f"DROP TABLE {schema(1)}.entities")
    rollout = {"write": "on", "max_failures": "all"}
    reply = tool.main.each("ALTER TABLE entities ADD COLUMN a int", rollout=rollout).ok()
    assert works(reply) == {s: "failed" if s == 1 else "not begun" for s in SHARDS}
    reply = tool.main.each(
        "ALTER TABLE entities ADD COLUMN a int", rollout={**rollout, "canary": "off"}
    ).ok()
    assert works(reply) == {s: "failed" if s == 1 else "done" for s in SHARDS}


def test_the_failure_budget(tool, servers):
    for shard in (2, 3, 4, 5):
        servers[0].sql(f"DROP TABLE {schema(shard)}.entities")
    sql = "SELECT count(*) FROM entities"
    rollout = {"parallel": "1", "shards": "1-9", "max_failures": "2"}
    reply = tool.main.each(sql, rollout=rollout).ok()
    assert works(reply) == {
        1: "done", 2: "failed", 3: "failed", 4: "failed",
        5: "not begun", 6: "not begun", 7: "not begun", 8: "not begun",
    }
    assert len(reply.answers) == 4
    reply = tool.main.each(sql, rollout={**rollout, "max_failures": "4"}).ok()
    assert sum(work == "done" for work in works(reply).values()) == 4


def test_events(tool):
    reply = tool.main.each("SELECT 1", rollout={"shards": "1-4"}, events=True).ok()
    seen = [(event["shard"], event["work"]) for event in reply.events]
    for shard in (1, 2, 3):
        assert [work for of, work in seen if of == shard] == ["running", "done"]


# ---- locks ----


def test_a_lock_that_is_held_is_waited_for(tool, servers):
    ann = tool.threads("ann")[0]
    rollout = {"write": "on", "lock_timeout": "20"}
    with locked(servers[0], 3):
        running = ann.begin.each(
            "ALTER TABLE entities ADD COLUMN a int", rollout=rollout, events=True
        )
        query = f"SELECT count(*) FROM pg_attribute WHERE attname = 'a' AND attrelid = '%s.entities'::regclass"
        eventually(lambda: servers[1].value(query % schema(16)) == 1)
        assert not running.done
    reply = running.reply().ok()
    assert works(reply) == dict.fromkeys(SHARDS, "done")
    waits = [e for e in reply.events if e["work"] == "waiting"]
    assert {event["shard"] for event in waits} == {3}
    assert "(locker, idle in transaction for " in waits[0]["waits_for"]
    assert waits[0]["waits_for"].endswith("holds a lock on shard0003.entities")
    assert_nothing_left(tool, *servers)


def test_it_waits_no_longer_than_max_wait(tool, servers):
    rollout = {"write": "on", "lock_timeout": "20", "max_wait": "300", **ALL}
    with locked(servers[0], 3):
        reply = tool.main.each("ALTER TABLE entities ADD COLUMN a int", rollout=rollout).ok()
    assert works(reply) == {s: "failed" if s == 3 else "done" for s in SHARDS}
    error = failure(reply, 3)
    assert error["status"] == "HV_TIMEOUT" and error["sqlstate"] == "55P03"
    assert error["message"] == "no lock on shard0003 came free in time"
    assert "locker" in error["detail"] and "max_wait" in error["hint"]


def test_two_runs_do_not_work_on_one_shard_at_once(tool, servers):
    ann = tool.threads("ann")[0]
    one = ann.begin.each("SELECT pg_sleep(1)", rollout={"write": "on", "shards": "3"})
    query = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = 26744"
    eventually(lambda: servers[0].value(query) == 1)
    rollout = {"write": "on", "shards": "3", "max_wait": "100"}
    error = failure(tool.main.each("SELECT 1", rollout=rollout).ok(), 3)
    assert error["message"] == "another run is working on shard0003"
    assert error["sqlstate"] == "VH001" and "is working on shard0003" in error["detail"]
    rollout = {"write": "on", "shards": "3"}
    assert works(tool.main.each("SELECT 1", rollout=rollout).ok()) == {3: "done"}
    assert one.done
    assert works(one.reply().ok()) == {3: "done"}


def test_a_statements_time(tool):
    rollout = {"timeout": "100", "lock_timeout": "50", "shards": "1-3"}
    error = failure(tool.main.each("SELECT pg_sleep(30)", rollout=rollout).ok(), 1)
    assert error["sqlstate"] == "57014"


# ---- interruption, and the end ----


def running_statements(database):
    return database.value(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND wait_event = 'PgSleep'"
    )


def test_an_interrupt_cancels_what_is_running(make_tool, store, servers):
    tool = make_tool(store, **PATIENT)
    ann = tool.threads("ann")[0]
    running = ann.begin.each("SELECT pg_sleep(600)", rollout={"write": "on", "canary": "off"})
    eventually(lambda: [running_statements(s) for s in servers] == [4, 4])
    tool.interrupt(ann)
    reply = running.reply().gives("HV_TIMEOUT")
    assert reply.ms < 5000
    assert [running_statements(s) for s in servers] == [0, 0]
    assert sorted(works(reply).values()) == ["failed"] * 8 + ["not begun"] * 8
    for shard, work in works(reply).items():
        if work == "failed":
            error = failure(reply, shard)
            assert (error["status"], error["message"]) == ("HV_TIMEOUT", "interrupted")
    assert_nothing_left(tool, *servers)


def test_an_interrupt_ends_pauses_and_waits_for_connections(make_tool, store, servers):
    tool = make_tool(store, pool_max=1, **PATIENT)
    ann, bob = tool.threads("ann", "bob")
    bob.acquire(9).ok()
    with locked(servers[0], 1):
        running = ann.begin.each(
            "ALTER TABLE entities ADD COLUMN a int",
            rollout={"write": "on", "canary": "off", "max_wait": "-1"},
        )
        tool.await_stats(server=1, waiting=1)
        tool.await_stats(server=0, lent=1)
        tool.interrupt(ann)
        reply = running.reply().gives("HV_TIMEOUT")
    assert reply.ms < 5000
    assert set(works(reply).values()) <= {"failed", "not begun"}
    bob.release().ok()
    assert_nothing_left(tool, *servers)


def test_closing_cancels_what_is_running(tool, servers):
    ann = tool.threads("ann")[0]
    sql = "SELECT pg_sleep(CASE WHEN '@shard' > 'shard0001' THEN 600 ELSE 1 END)"
    ann.each_open(sql, rollout={"shards": "1-6", "write": "on", "canary": "off"}).ok()
    assert len(ann.each_next(1).ok().answers) == 1
    assert running_statements(servers[0]) == 3
    ann.each_close().ok()
    assert running_statements(servers[0]) == 0
    assert_nothing_left(tool, *servers)


def test_an_open_one_uses_the_store(tool):
    ann = tool.threads("ann")[0]
    ann.each_open("SELECT 1").ok()
    tool.main.close(0).gives("HV_BUSY")
    ann.each_next().gives("HV_CLOSED")
    ann.each_close().ok()


# ---- lost connections ----


def test_connections_that_are_killed_in_the_middle(tool, servers):
    ann = tool.threads("ann")[0]
    running = ann.begin.each("SELECT pg_sleep(1), count(*) FROM entities", rollout=ALL)
    for _ in range(2):
        eventually(lambda: kill_sleepers(servers[0]) > 0)
    assert works(running.reply().ok()) == dict.fromkeys(SHARDS, "done")
    assert_nothing_left(tool, *servers)


def test_a_write_that_is_killed_has_an_unknown_outcome(tool, servers):
    ann = tool.threads("ann")[0]
    sql = "CREATE TABLE notes (a int); SELECT pg_sleep(600)"
    running = ann.begin.each(sql, rollout={"write": "on", "shards": "2"})
    eventually(lambda: kill_sleepers(servers[0]) == 1)
    reply = running.reply().ok()
    assert failure(reply, 2)["status"] == "HV_OUTCOME_UNKNOWN"
    assert servers[0].value("SELECT to_regclass('shard0002.notes')") is None


def test_a_server_that_is_down_fails_quickly(make_tool, own_store, own_servers):
    tool = make_tool(own_store)
    own_servers[1].server.stop()
    reply = tool.main.each("SELECT 1", rollout={"max_failures": "all"}).ok()
    assert works(reply) == {s: "done" if s < 9 else "failed" for s in SHARDS}
    assert {failure(reply, s)["status"] for s in SHARDS[8:]} == {"HV_UNAVAILABLE"}
    assert reply.ms < 5000


def test_a_server_that_restarts_is_waited_for(make_tool, own_store, own_servers):
    tool = make_tool(own_store)
    ann = tool.threads("ann")[0]
    running = ann.begin.each("SELECT pg_sleep(1)", rollout={"max_failures": "0"})
    eventually(lambda: len(own_servers[1].clients()) >= 4)
    own_servers[1].server.restart()
    assert works(running.reply().ok()) == dict.fromkeys(SHARDS, "done")


def test_a_silent_server_does_not_hold_an_interrupt_up(make_tool, own_store, own_servers):
    tool = make_tool(own_store, **PATIENT)
    ann = tool.threads("ann")[0]
    running = ann.begin.each("SELECT pg_sleep(600)", rollout={"canary": "off"})
    eventually(lambda: [running_statements(s) for s in own_servers] == [4, 4])
    own_servers[1].server.freeze()
    tool.interrupt(ann)
    reply = running.reply().gives("HV_TIMEOUT")
    assert reply.ms < 8000
    own_servers[1].server.thaw()
    assert sorted(works(reply).values()) == ["failed"] * 8 + ["not begun"] * 8


# ---- fork ----


def test_a_child_leaves_the_parents_statements_alone(tool, servers):
    ann = tool.threads("ann")[0]
    ann.each_open("SELECT pg_sleep(0.5)", rollout={"write": "on", "canary": "off"}).ok()
    assert len(ann.each_next().ok().answers) == 1
    in_child = [{"do": "each_next"}, {"do": "each_close"}, {"do": "put", "shard": 3, "kind": 1, "dict": {}}]
    forked = ann.begin.fork(in_child).reply()
    assert [reply.status for reply in forked.child] == ["HV_INVALID", "HV_OK", "HV_OK"]
    rest = ann.each_next(100).ok()
    assert works(rest) == dict.fromkeys(SHARDS, "done")
    ann.each_close().ok()
    assert_nothing_left(tool, *servers)
