"""What borrowers of a connection may do to it, and the state in which the next one gets it."""

import os
import signal
import threading

import pytest

from harness import eventually
from harness.store_tool import make_tool  # noqa: F401

pytestmark = pytest.mark.threads

ONE = 0
BODY = {"a": "b"}
AT_ONCE = 4000  # milliseconds, on a busy machine; waits that are meant last 5 s


@pytest.fixture
def ann(make_tool, store):
    """A thread that borrows from a pool of one connection."""
    tool = make_tool(store, pool_max=1)
    thread = tool.threads("ann")[0]
    thread.tool = tool
    return thread


def lend_again(thread):
    """Return the connection and borrow again; is it the same one?"""
    before = thread.sql("SELECT 1").ok() and thread.pid
    thread.release().ok()
    thread.pid = thread.acquire(3).ok().pid
    return thread.pid == before


# ---- the state of a lent connection ----


def test_a_lent_connection_is_as_promised(ann):
    ann.acquire(3).ok()
    assert ann.sql("SHOW client_encoding").value == "UTF8"
    assert ann.sql("SHOW TimeZone").value == "UTC"
    assert ann.sql("SHOW application_name").value == "hypervault"
    assert ann.sql("SELECT '€' || 'ß'").value == "€ß"
    ann.sql("CREATE TEMP TABLE t (n int)").ok()
    ann.sql("INSERT INTO t VALUES (1)").ok()
    assert ann.sql("SELECT pg_current_xact_id_if_assigned()").value is None  # autocommit


def test_a_lent_connection_works_on_any_table_of_the_shard(ann, servers):
    ann.acquire(3).ok()
    ann.sql("CREATE TABLE shard0003.likes (who bigint, what bigint)").ok()
    ann.sql("BEGIN; INSERT INTO shard0003.likes VALUES (1, 2); COMMIT").ok()
    ann.release().ok()
    assert servers[ONE].query("SELECT * FROM shard0003.likes") == [(1, 2)]


def test_a_connection_is_lent_by_shard_or_by_server(ann, servers):
    ann.acquire(3).ok()
    assert ann.sql("SELECT current_database()").value == servers[0].dbname
    ann.acquire(9, conn="x").ok()
    assert ann.sql("SELECT current_database()", "x").value == servers[1].dbname
    ann.acquire(server=1, conn="y", shard=None).gives("HV_TIMEOUT")
    ann.release("x").ok()
    ann.acquire(server=1, conn="y").ok()
    assert ann.sql("SELECT current_database()", "y").value == servers[1].dbname


def test_there_is_no_connection_for_what_is_not_there(ann):
    assert ann.acquire(17).gives("HV_NO_SERVER").shard == 17
    ann.acquire(8192).gives("HV_INVALID")
    ann.acquire(-1).gives("HV_INVALID")
    ann.acquire(server=2).gives("HV_INVALID")
    ann.acquire(server=-1).gives("HV_INVALID")
    assert ann.tool.stats().loans == 0


# ---- leftovers of the borrower ----


def test_an_open_transaction_is_rolled_back(ann, servers):
    first = ann.acquire(3).ok().pid
    ann.sql("BEGIN; INSERT INTO shard0003.entities (type, body) VALUES (1, '')").ok()
    ann.release().ok()
    assert servers[ONE].value("SELECT count(*) FROM shard0003.entities") == 0
    assert ann.acquire(3).ok().pid == first
    assert ann.sql("SELECT pg_current_xact_id_if_assigned()").value is None


def test_a_failed_transaction_is_rolled_back(ann):
    first = ann.acquire(3).ok().pid
    ann.sql("BEGIN").ok()
    assert ann.sql("SELECT 1/0").sqlstate == "22012"
    assert ann.sql("SELECT 1").sqlstate == "25P02"
    ann.release().ok()
    ann.put(3, 1, BODY).ok()
    assert ann.acquire(3).ok().pid == first


def test_a_prepared_transaction_is_the_borrowers_own(ann, servers):
    ann.acquire(3).ok()
    ann.sql("BEGIN; INSERT INTO shard0003.entities (type, body) VALUES (1, '')").ok()
    ann.sql("PREPARE TRANSACTION 'mine'").ok()
    ann.release().ok()
    servers[ONE].sql("COMMIT PREPARED 'mine'")
    assert servers[ONE].value("SELECT count(*) FROM shard0003.entities") == 1


@pytest.mark.parametrize(
    "leave",
    [
        lambda ann: ann.sql("COPY shard0003.entities FROM STDIN"),
        lambda ann: ann.sql("COPY (SELECT generate_series(1, 1000000)) TO STDOUT"),
        lambda ann: ann.enter_pipeline(),
        lambda ann: ann.send("SELECT pg_sleep(30)"),
        lambda ann: ann.send("SELECT 1"),
        lambda ann: ann.send("SELECT generate_series(1, 1000000)"),
    ],
    ids=["copy in", "copy out", "pipeline", "busy", "unread answer", "long unread answer"],
)
def test_a_connection_in_the_middle_of_something_is_closed(ann, servers, leave):
    first = ann.acquire(3).ok().pid
    leave(ann)
    assert ann.release().ok().ms < AT_ONCE
    now = ann.tool.stats()
    assert (now.open, now.closed) == (0, 1)
    assert ann.put(3, 1, BODY).ok().ms < AT_ONCE
    assert ann.acquire(3).ok().pid != first


def test_encoding_and_time_zone_are_put_right(ann):
    first = ann.acquire(3).ok().pid
    ann.sql("SET client_encoding = 'LATIN1'; SET TimeZone = 'America/St_Johns'").ok()
    ann.release().ok()
    key = ann.put(3, 1, {"€": "ß"}).ok().key
    assert ann.get(key).ok().dict == {"€": "ß"}
    assert ann.acquire(3).ok().pid == first
    assert ann.sql("SHOW client_encoding").value == "UTF8"
    assert ann.sql("SHOW TimeZone").value == "UTC"


def test_encoding_and_time_zone_are_put_right_after_a_transaction_that_changed_them(ann):
    ann.acquire(3).ok()
    ann.sql("SET TimeZone = 'Asia/Tokyo'").ok()
    ann.sql("BEGIN; SET TimeZone = 'Asia/Kathmandu'; SET LOCAL client_encoding = 'LATIN1'").ok()
    ann.release().ok()
    ann.acquire(3).ok()
    assert ann.sql("SHOW client_encoding").value == "UTF8"
    assert ann.sql("SHOW TimeZone").value == "UTC"


def test_discard_all_puts_back_the_servers_settings_but_not_for_the_next_borrower(ann):
    first = ann.acquire(3).ok().pid
    ann.sql("DISCARD ALL").ok()
    ann.release().ok()
    assert ann.acquire(3).ok().pid == first
    assert ann.sql("SHOW TimeZone").value == "UTC"


@pytest.mark.parametrize("forget", ["DISCARD ALL", "DEALLOCATE ALL", "DEALLOCATE hv_put_0003"])
def test_put_and_get_do_not_mind_that_their_statements_are_gone(make_tool, store, forget):
    tool = make_tool(store, pool_max=1, log=True)
    ann = tool.threads("ann")[0]
    key = ann.put(3, 1, BODY).ok().key
    ann.get(key).ok()
    ann.acquire(3).ok()
    ann.sql(forget).ok()
    ann.release().ok()
    seen = len(tool.log)
    assert ann.get(ann.put(3, 2, {"c": "d"}).ok().key).ok().dict == {"c": "d"}
    assert ann.get(key).ok().dict == BODY
    assert tool.stats().opened == 1
    for event in tool.await_log(seen + 3)[seen:]:
        assert (event.status, event.sqlstate) == ("HV_OK", None)


def test_put_and_get_do_not_mind_statements_of_their_names(ann):
    ann.acquire(3).ok()
    ann.sql("PREPARE hv_put_0003 AS SELECT 1; PREPARE hv_get_0003 AS SELECT 1").ok()
    ann.release().ok()
    assert ann.get(ann.put(3, 1, BODY).ok().key).ok().dict == BODY


def test_put_and_get_do_not_mind_that_their_table_is_altered(ann, servers):
    key = ann.put(3, 1, BODY).ok().key
    ann.get(key).ok()
    for change in (
        "ADD COLUMN updated timestamp",
        "ALTER COLUMN updated SET DEFAULT now()",
        "DROP COLUMN updated",
        "ADD COLUMN updated timestamp DEFAULT now()",
        "ALTER COLUMN type SET STORAGE plain",
        "ADD CHECK (type < 1000)",
    ):
        servers[ONE].sql(f"ALTER TABLE shard0003.entities {change}")
        assert ann.get(ann.put(3, 2, {"c": "d"}).ok().key).ok().kind == 2
        assert ann.get(key).ok().dict == BODY
    assert ann.put(3, 1000, BODY).gives("HV_REFUSED").sqlstate == "23514"
    assert ann.tool.stats().opened == 1


def test_a_column_of_another_type_is_an_error_and_its_return_none(ann, servers):
    key = ann.put(3, 1, BODY).ok().key
    ann.get(key).ok()
    servers[ONE].sql("ALTER TABLE shard0003.entities ALTER COLUMN type TYPE integer")
    wrong = ann.get(key).gives("HV_CORRUPT")
    assert (wrong.server, wrong.shard) == ("one", 3)
    servers[ONE].sql("ALTER TABLE shard0003.entities ALTER COLUMN type TYPE smallint")
    assert ann.get(key).ok().dict == BODY
    servers[ONE].sql("ALTER TABLE shard0003.entities ALTER COLUMN body TYPE text USING body::text")
    ann.get(key).gives("HV_CORRUPT")
    servers[ONE].sql("ALTER TABLE shard0003.entities ALTER COLUMN body TYPE hstore USING body::hstore")
    assert ann.get(key).ok().dict == BODY
    ann.get(ann.put(3, 1, BODY).ok().key).ok()


def test_a_table_dropped_and_made_again_is_used_again(ann, servers):
    key = ann.put(3, 1, BODY).ok().key
    servers[ONE].sql("ALTER TABLE shard0003.entities RENAME TO away")
    missing = ann.get(key).gives("HV_NOT_INITIALIZED")
    assert missing.sqlstate == "42P01" and missing.hint.startswith("Run `hv init`")
    ann.put(3, 1, BODY).gives("HV_NOT_INITIALIZED")
    servers[ONE].sql("ALTER TABLE shard0003.away RENAME TO entities")
    assert ann.get(key).ok().dict == BODY


def test_a_trace_that_a_borrower_switched_on_ends_with_the_loan(ann, tmp_path):
    trace = tmp_path / "trace"
    first = ann.acquire(3).ok().pid
    ann.trace(str(trace)).ok()
    ann.release().ok()
    ann.put(3, 1, BODY).ok()
    ann.close_trace().ok()
    assert "INSERT" not in trace.read_text()
    assert ann.acquire(3).ok().pid == first


def test_a_copy_to_a_server_that_does_not_read_does_not_hold_its_borrower_up(
    make_tool, own_store, own_servers
):
    tool = make_tool(own_store)
    ann = tool.threads("ann")[0]
    backend = ann.acquire(3).ok().pid
    ann.sql("COPY shard0003.entities FROM STDIN")
    os.kill(backend, signal.SIGSTOP)
    try:
        assert ann.fill().ok().put == 1
        returning = ann.begin.release()
        assert returning.reply().ok().ms < 15_000
        assert tool.stats().open == 0
    finally:
        os.kill(backend, signal.SIGCONT)


# ---- what is not lent ----


def test_a_connection_returned_twice_is_an_error(ann):
    ann.acquire(3).ok()
    ann.release().ok()
    twice = ann.release().gives("HV_INVALID")
    assert twice.message == "this connection is not lent by this store"
    assert twice.hint == "Return each connection once, to the store that lent it."
    now = ann.tool.stats()
    assert (now.open, now.idle, now.lent) == (1, 1, 0)


def test_a_connection_returned_twice_at_once_is_an_error_for_one_of_them(make_tool, store):
    tool = make_tool(store, pool_max=1)
    ann, bob = tool.threads("ann", "bob")
    for _ in range(300):
        ann.acquire(3, conn="c").ok()
        both = [ann.begin.release("c"), bob.begin.release("c")]
        assert sorted(one.reply().status for one in both) == ["HV_INVALID", "HV_OK"]
        now = tool.stats()
        assert (now.open, now.idle, now.lent) == (1, 1, 0)


def test_a_connection_of_somebody_else_is_not_taken(ann, servers):
    params = servers[ONE].params()
    conninfo = " ".join(f"{name}={value}" for name, value in params.items())
    foreign = ann.release_foreign(conninfo).gives("HV_INVALID")
    assert foreign.still == "open"


def test_the_connection_of_a_put_under_way_cannot_be_returned_by_a_stray_pointer(
    make_tool, store, servers
):
    tool = make_tool(store, pool_max=1)
    ann, bob = tool.threads("ann", "bob")
    ann.acquire(3).ok()
    ann.release().ok()
    with servers[ONE].connect() as lock:
        cursor = lock.cursor()
        cursor.execute("BEGIN; LOCK TABLE shard0003.entities")
        putting = bob.begin.put(3, 1, BODY)
        tool.await_stats(lent=1)
        ann.release().gives("HV_INVALID")
        assert tool.stats().lent == 1
        cursor.execute("COMMIT")
    putting.reply().ok()


# ---- another driver's connections ----


@pytest.mark.parametrize("connector", [True, "steps"])
def test_a_connector_opens_and_closes_every_connection(make_tool, store, servers, connector):
    tool = make_tool(store, connector=connector)
    ann, bob = tool.threads("ann", "bob")
    key = ann.put(3, 1, BODY).ok().key
    assert ann.get(key).ok().dict == BODY
    assert ann.acquire(3).ok().handle == 1
    assert bob.acquire(3).ok().handle == 2
    ann.sql("SELECT 1").ok()
    ann.release().ok()
    bob.enter_pipeline()
    bob.release().ok()
    now = tool.main.connector()
    assert (now.opened, now.closed) == (2, 1)
    tool.main.disconnect()
    assert tool.main.connector().closed == 2
    eventually(lambda: servers[ONE].clients() == [])


@pytest.mark.parametrize("connector", [True, "steps"])
def test_a_connector_that_fails_is_an_error(make_tool, own_servers, tmp_path, connector):
    from harness import store_config

    config = store_config(tmp_path / "c", {"one": (own_servers[ONE], "1-9")})
    tool = make_tool(config, connector=connector)
    own_servers[ONE].server.stop()
    refused = tool.main.put(3, 1, BODY).gives("HV_UNAVAILABLE")
    assert refused.message == 'could not connect to server "one"'
    assert "refused" in refused.detail


def test_a_connector_in_steps_that_takes_too_long_is_given_up(make_tool, store, servers):
    """And what it opens afterwards is closed."""
    tool = make_tool(store, connector="steps", pool_block_timeout="3s")
    tool.main.hold("connect", True)
    late = tool.main.put(3, 1, BODY).gives("HV_TIMEOUT")
    assert late.message == 'could not connect to server "one" in time'
    assert late.detail == "no connection within 3000 ms" and late.retriable
    assert tool.main.connector().opened == 0
    tool.main.hold("connect", False)
    eventually(lambda: tool.main.connector().closed == 1, what="the late connection is closed")
    eventually(lambda: tool.main.put(3, 1, BODY).status == "HV_OK", what="the next put succeeds")
    eventually(lambda: len(servers[ONE].clients()) == 1)


# ---- statements that are kept prepared ----


PREPARED = "SELECT name FROM pg_prepared_statements ORDER BY name"


def prepared(thread):
    thread.acquire(3).ok()
    names = [row[0] for row in thread.sql(PREPARED).ok().rows]
    thread.release().ok()
    return names


def test_statements_are_prepared_and_the_least_recently_used_go_first(make_tool, store):
    tool = make_tool(store, pool_max=1, prepared_max=3)
    ann = tool.threads("ann")[0]
    for shard in (1, 2, 3, 1, 4):
        ann.put(shard, 1, BODY).ok()
    assert prepared(ann) == ["hv_put_0001", "hv_put_0003", "hv_put_0004"]
    for shard in (1, 2, 3, 4, 5, 6, 7, 8) * 5:
        key = ann.put(shard, 1, BODY).ok().key
        assert ann.get(key).ok().dict == BODY
    assert prepared(ann) == ["hv_get_0007", "hv_get_0008", "hv_put_0008"]
    assert tool.stats().opened == 1


def test_one_prepared_statement_is_enough(make_tool, store):
    ann = make_tool(store, pool_max=1, prepared_max=1).threads("ann")[0]
    for shard in (1, 2, 3) * 3:
        assert ann.get(ann.put(shard, 1, BODY).ok().key).ok().dict == BODY
    assert prepared(ann) == ["hv_get_0003"]


def test_statements_that_fail_count_too(make_tool, store, servers):
    for shard in range(1, 9):
        servers[ONE].sql(f"ALTER TABLE shard{shard:04}.entities ADD CHECK (type > 0)")
    ann = make_tool(store, pool_max=1, prepared_max=3).threads("ann")[0]
    for shard in (1, 2, 3, 4, 5, 6, 7, 8) * 2:
        assert ann.put(shard, 0, BODY).gives("HV_REFUSED").sqlstate == "23514"
        assert len(prepared(ann)) <= 3
    ann.put(8, 1, BODY).ok()
    assert "hv_put_0008" in prepared(ann)


def test_statements_that_cannot_be_prepared_leave_no_trace(make_tool, store, servers):
    servers[ONE].sql("DROP TABLE shard0003.entities")
    ann = make_tool(store, pool_max=1, prepared_max=3).threads("ann")[0]
    for _ in range(3):
        ann.put(3, 0, BODY).gives("HV_NOT_INITIALIZED")
    assert prepared(ann) == ["hv_locate_0003"]  # the question where the shard is, and no put


def test_nothing_is_prepared_when_prepare_is_off(make_tool, store):
    ann = make_tool(store, pool_max=1, prepare="off").threads("ann")[0]
    assert ann.get(ann.put(3, 1, BODY).ok().key).ok().dict == BODY
    assert prepared(ann) == []


@pytest.mark.parametrize("prepare", ["on", "off"])
def test_an_error_at_commit_is_an_error(make_tool, store, servers, prepare):
    servers[ONE].sql(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN IF NEW.type = 7 THEN RAISE EXCEPTION 'not seven'; END IF; RETURN NULL; END $$"
    )
    servers[ONE].sql(
        "CREATE CONSTRAINT TRIGGER late AFTER INSERT ON shard0003.entities"
        " DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse()"
    )
    ann = make_tool(store, pool_max=1, prepare=prepare).threads("ann")[0]
    for _ in range(3):
        refused = ann.put(3, 7, BODY).gives("HV_REFUSED")
        assert (refused.message, refused.sqlstate) == ("not seven", "P0001")
        ann.put(3, 8, BODY).ok()
    assert servers[ONE].value("SELECT count(*) FROM shard0003.entities") == 3


def test_notices_and_notifications_are_no_trouble(make_tool, store, servers):
    servers[ONE].sql(
        "CREATE FUNCTION chat() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE WARNING 'hello'; NOTIFY news; RETURN NEW; END $$"
    )
    servers[ONE].sql(
        "CREATE TRIGGER chat BEFORE INSERT ON shard0003.entities"
        " FOR EACH ROW EXECUTE FUNCTION chat()"
    )
    tool = make_tool(store, pool_max=1)
    ann = tool.threads("ann")[0]
    ann.acquire(3).ok()
    ann.sql("LISTEN news").ok()
    ann.release().ok()
    for _ in range(3):
        ann.put(3, 1, BODY).ok()


def test_the_next_borrower_gets_no_notifications_of_the_one_before(ann, servers):
    ann.acquire(3).ok()
    ann.sql("LISTEN news").ok()
    ann.sql("NOTIFY news").ok()
    ann.sql("UNLISTEN news").ok()
    ann.release().ok()
    ann.acquire(3).ok()
    assert ann.notifications().count == 0


def test_many_borrowers_leave_the_pool_in_order(make_tool, store, servers):
    tool = make_tool(store, pool_max=3)
    threads = tool.threads(*(f"t{number}" for number in range(8)))
    deeds = (
        ["BEGIN"],
        ["SELECT 1/0"],
        ["BEGIN", "SELECT 1/0"],
        ["COPY shard0003.entities FROM STDIN"],
        ["SET TimeZone = 'Asia/Tokyo'"],
        ["DISCARD ALL"],
        ["SELECT pg_terminate_backend(pg_backend_pid())"],
    )
    failures = []

    def behave_badly(number, thread):
        for deed in deeds[number % 3 :] + deeds:
            if thread.acquire(3).status != "HV_OK":
                failures.append(thread.name)
            for sql in deed:
                thread.sql(sql)
            thread.release().ok()
            if thread.put(3, number, BODY).status != "HV_OK":
                failures.append(thread.name)

    drivers = [
        threading.Thread(target=behave_badly, args=pair) for pair in enumerate(threads)
    ]
    for driver in drivers:
        driver.start()
    for driver in drivers:
        driver.join()
    assert failures == []
    now = tool.stats()
    assert (now.lent, now.waiting) == (0, 0)
    assert now.open == now.idle == now.opened - now.closed <= 3
