"""Transactions in one shard: what is done in them, when they are committed, and what makes them begin
again."""

import pytest

from changing import MISSING, SHARD, changed, content, shared_tool  # noqa: F401
from harness.store_tool import make_tool, step  # noqa: F401
from transacting import (
    FAIL_40001,
    READ_COMMITTED,
    REPEATABLE_READ,
    SERIALIZABLE,
    also,
    once,
    results,
    run,
    sql,
)

pytestmark = pytest.mark.threads

BODY = {"a": "1", "b": "two"}
TABLE = f"shard{SHARD:04}.entities"
ALL_LEVELS = (READ_COMMITTED, REPEATABLE_READ, SERIALIZABLE)


@pytest.fixture
def tool(shared_tool):
    return shared_tool


@pytest.fixture
def ann(tool):
    return tool.main


@pytest.fixture
def database(changed):
    return changed[1][0]


@pytest.fixture
def key(ann):
    return ann.put(SHARD, 7, BODY).ok().key


def there(database, key):
    """(kind, attributes), or None."""
    return content(database, [key]).get(key)


# ---- what is done in them ----


def test_all_operations_in_one_transaction(ann, database):
    replaced, merged, counted, deleted = (ann.put(SHARD, 7, BODY).ok().key for _ in range(4))
    given = ann.reserve(SHARD, 1).ok().keys[0]
    done = run(
        ann,
        step("put", SHARD, 1, {"new": "1"}),
        step("put_key", given, 2, {"given": "1"}),
        step("get", replaced),
        step("get_only", replaced, ["b", "none"]),
        step("exists", replaced),
        step("replace", replaced, 3, {"c": "3"}),
        step("merge", merged, {"c": "3"}, ["a"]),
        step("increment", counted, "a", "41"),
        step("delete", deleted),
        step("exists", deleted),
        also(step("get", None), key_of=0),
    ).ok()
    assert done.calls == 1
    made = results(done)
    assert [result.status for result in made] == 9 * ["HV_OK"] + ["HV_NOT_FOUND", "HV_OK"]
    assert made[2].dict == BODY and made[3].dict == {"b": "two"}
    assert made[7].dict == {"a": "42"}
    assert made[10].dict == {"new": "1"} and made[10].key == made[0].key
    assert content(database, [made[0].key, given, replaced, merged, counted, deleted]) == {
        made[0].key: (1, {"new": "1"}),
        given: (2, {"given": "1"}),
        replaced: (3, {"c": "3"}),
        merged: (7, {"b": "two", "c": "3"}),
        counted: (7, {"a": "42", "b": "two"}),
    }


def test_nothing_of_it_is_seen_before_it_is_committed(tool, database, key):
    ann, bob = tool.threads("ann", "bob")
    ann.tx_begin(SHARD).ok()
    put = ann.put(SHARD, 1, {}).ok().key
    ann.merge(key, {"a": "2"}).ok()
    assert bob.get(key).ok().dict == BODY
    bob.get(put).gives("HV_NOT_FOUND")
    ann.tx_commit().ok()
    assert bob.get(key).ok().dict == {**BODY, "a": "2"}
    bob.exists(put).ok()


def test_rolled_back_in_steps_nothing_has_happened(ann, database, key):
    ann.tx_begin(SHARD).ok()
    put = ann.put(SHARD, 1, {}).ok().key
    ann.delete(key).ok()
    ann.tx_rollback()
    assert there(database, key) == (7, BODY) and there(database, put) is None


def test_conditions_hold_or_not_within_a_transaction(ann, database, key):
    done = run(
        ann,
        step("merge", key, {"a": "2"}, condition={"has": {"a": "1"}}),
        step("merge", key, {"a": "3"}, condition={"has": {"a": "1"}}),
        step("get", key),
        step("delete", MISSING),
    ).ok()
    first, second, third, fourth = results(done)
    assert first.status == "HV_OK" and fourth.status == "HV_NOT_FOUND"
    assert second.status == "HV_CHANGED" and second.dict == {**BODY, "a": "2"}
    assert there(database, key) == (7, {**BODY, "a": "2"})  # neither is a failure


def test_a_put_under_a_key_finds_the_same_entity_or_another(ann, database, key):
    given = ann.reserve(SHARD, 1).ok().keys[0]
    put = step("put_key", given, 1, BODY)
    done = run(ann, put, put, step("put_key", key, 7, BODY)).ok()
    assert [result.status for result in results(done)] == 3 * ["HV_OK"]
    refused = run(ann, step("merge", key, {"a": "2"}), step("put_key", given, 2, BODY))
    refused.gives("HV_CONFLICT")
    assert refused.calls == 1 and str(given) in refused.message
    assert there(database, key) == (7, BODY)


def test_a_put_under_a_key_that_was_deleted_in_the_transaction(ann, database, key):
    run(ann, step("delete", key), step("put_key", key, 1, {})).ok()
    assert there(database, key) == (1, {})


@pytest.mark.parametrize("isolation", ALL_LEVELS)
def test_the_isolation_level_is_the_one_asked_for_whatever_the_defaults_are(
    isolation, make_tool, store, servers
):
    name = ["read committed", "repeatable read", "serializable"][isolation]
    other = "read committed" if isolation else "serializable"
    servers[0].sql(
        f"ALTER DATABASE {servers[0].dbname} SET default_transaction_isolation = '{other}';"
        f"ALTER DATABASE {servers[0].dbname} SET default_transaction_read_only = on;"
        f"ALTER DATABASE {servers[0].dbname} SET default_transaction_deferrable = on;"
        f"ALTER DATABASE {servers[0].dbname} SET search_path = nowhere;"
    )
    ann = make_tool(store).main
    done = run(
        ann,
        sql("SHOW transaction_isolation"),
        sql("SHOW transaction_read_only"),
        step("put", SHARD, 1, BODY),
        isolation=isolation,
    ).ok()
    level, read_only, put = results(done)
    assert (level.value, read_only.value) == (name, "off")
    servers[0].server.sql(f"ALTER DATABASE {servers[0].dbname} RESET ALL")
    assert there(servers[0], put.key) == (1, BODY)


def test_without_prepared_statements(make_tool, store, servers, tmp_path):
    ann = make_tool(store, prepare="off").main
    for _ in range(2):
        done = run(
            ann,
            step("put", SHARD, 1, BODY),
            also(step("increment", None, "a", "1"), key_of=0),
            sql("SELECT count(*) FROM pg_prepared_statements"),
        ).ok()
        assert results(done)[2].value == "0"
        assert there(servers[0], results(done)[0].key) == (1, {**BODY, "a": "2"})


def test_the_log_has_the_beginning_and_the_end(make_tool, changed):
    tool = make_tool(changed[0], log=True)
    run(tool.main, step("put", SHARD, 1, BODY)).ok()
    run(tool.main, step("put", SHARD, 1, BODY), then="HV_NOT_FOUND").gives("HV_NOT_FOUND")
    tool.finish()
    events = [event for event in tool.log if event.shard == SHARD]
    begin = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"
    assert [event.fields["log"].split(" INTO")[0] for event in events] == [
        begin, "INSERT", "COMMIT", begin, "INSERT", "ROLLBACK"
    ]  # fmt: skip


# ---- which are committed ----


@pytest.mark.parametrize("status", ["HV_NOT_FOUND", "HV_CHANGED"])
def test_an_answer_that_is_no_failure_rolls_back_without_an_error(ann, database, key, status):
    done = run(ann, step("merge", key, {"a": "2"}), then=status)
    done.gives(status)
    assert done.calls == 1 and done.message is None
    assert there(database, key) == (7, BODY)


def test_what_its_function_returns_is_the_result(ann, database, key):
    changed = step("merge", key, {"a": "2"})
    bad = also(step("get", -1), outside=True, ignore=True)
    done = run(ann, changed, bad, then="HV_INVALID").gives("HV_INVALID")
    assert done.calls == 1 and done.message == "-1 is not a key"
    done = run(ann, changed, then="HV_REFUSED").gives("HV_REFUSED")
    assert done.calls == 1 and not done.retriable
    assert done.message == "the transaction's function returned HV_REFUSED, without an error"
    done = run(ann, changed, then=99).gives("HV_INVALID")
    assert done.message == "the transaction's function returned 99, which is no status"
    assert there(database, key) == (7, BODY)


def test_an_error_with_success_is_no_failure(ann, database, key):
    run(ann, step("merge", key, {"a": "2"}), also(step("get", -1), outside=True, ignore=True)).ok()
    assert there(database, key) == (7, {**BODY, "a": "2"})


def test_after_a_failure_nothing_is_done_or_committed(ann, database, key):
    done = run(
        ann,
        step("merge", key, {"a": "2"}),
        also(step("increment", key, "b", "1"), ignore=True),
        also(step("merge", key, {"a": "3"}), ignore=True),
        also(sql("SELECT 1"), ignore=True),
    ).gives("HV_INVALID")
    assert done.calls == 1
    assert done.message == "the transaction cannot be committed: an operation in it has failed"
    _, first, second, third = results(done)
    assert first.status == second.status == "HV_INVALID"
    assert done.detail == second.detail == f"It failed with: {first.message}"
    assert third.rows == [["1"]]  # the connection itself is not harmed
    assert there(database, key) == (7, BODY)


def test_a_failed_one_cannot_be_committed_in_steps_either(ann, database, key):
    ann.tx_begin(SHARD).ok()
    ann.merge(key, {"a": "2"}).ok()
    ann.put_key(key, 1, {}).gives("HV_CONFLICT")
    assert "earlier operation" in ann.get(key).gives("HV_CONFLICT").message
    assert "cannot be committed" in ann.tx_commit().gives("HV_INVALID").message
    assert there(database, key) == (7, BODY)


def test_a_failure_and_another_status_of_the_function(ann, key):
    done = run(ann, also(step("increment", key, "b", "1"), ignore=True), then="HV_CONFLICT")
    done.gives("HV_CONFLICT")
    assert "HV_CONFLICT, without an error" in done.message
    assert results(done)[0].message in done.detail


BAD = {
    "a kind": step("put", SHARD, 40000, {}),
    "no key": step("get", 0),
    "an empty merge": step("merge", MISSING, {}),
    "no number": step("increment", MISSING, "a", "x"),
    "a condition on another's version": step(
        "delete", MISSING, condition={"version": f"{MISSING + 1}-1-0-1"}
    ),
    "no attribute": step("increment", MISSING, None, "1"),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_bad_input_fails_it_before_anything_is_sent(ann, database, key, bad):
    done = run(ann, step("merge", key, {"a": "2"}), bad).gives("HV_INVALID")
    assert done.calls == 1 and done.message == results(done)[1].message
    assert there(database, key) == (7, BODY)


ELSEWHERE = 4
OTHERS = {
    "put": step("put", ELSEWHERE, 1, {}),
    "put_key": step("put_key", MISSING + (1 << 10), 1, {}),
    "get": step("get", MISSING + (1 << 10)),
    "get_only": step("get_only", MISSING + (1 << 10), ["a"]),
    "exists": step("exists", MISSING + (1 << 10)),
    "replace": step("replace", MISSING + (1 << 10), 1, {}),
    "merge": step("merge", MISSING + (1 << 10), {"a": "1"}),
    "increment": step("increment", MISSING + (1 << 10), "a", "1"),
    "delete": step("delete", MISSING + (1 << 10)),
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_another_shard_is_refused_by_name(ann, database, key, other):
    done = run(ann, step("merge", key, {"a": "2"}), also(other, ignore=True))
    done.gives("HV_INVALID")
    refused = results(done)[1].gives("HV_INVALID")
    if other["do"] == "put":
        assert refused.message == f"the transaction is in shard {SHARD}, not in shard {ELSEWHERE}"
    else:
        assert refused.message == (
            f"the transaction is in shard {SHARD}, and the key {other['key']} is of shard 4"
        )
    assert refused.hint == "One transaction is in one shard." and refused.shard == SHARD
    assert there(database, key) == (7, BODY)


def test_what_cannot_begin(ann):
    assert "8000" in run(ann, shard=8000).gives("HV_NO_SERVER").message
    run(ann, shard=9000).gives("HV_INVALID")
    assert "isolation level" in run(ann, isolation=3).gives("HV_INVALID").message
    assert "negative" in run(ann, timeout=-1).gives("HV_INVALID").message
    ann.tx_begin(8000).gives("HV_NO_SERVER")
    ann.tx_begin(SHARD, 7).gives("HV_INVALID")
    assert run(ann, shard=8000).calls == 0


def test_a_transaction_does_not_begin_in_another(ann, database, key):
    nested = [
        also(step("transaction", SHARD, [step("delete", key)]), ignore=True, outside=True),
        also(step("transaction", ELSEWHERE, []), ignore=True, outside=True),
        also(step("tx_begin", SHARD), ignore=True, outside=True),
    ]
    done = run(ann, step("merge", key, {"a": "2"}), *nested).ok()
    for refused in results(done)[1:]:
        refused.gives("HV_INVALID")
        assert refused.message == "a transaction cannot begin within another one"
        assert "SAVEPOINT" in refused.hint
    assert there(database, key) == (7, {**BODY, "a": "2"})
    run(ann, step("delete", key)).ok()  # and after it one can


# ---- which begin again ----


def test_two_transactions_that_deadlock_both_succeed(tool, database, ann):
    keys = [ann.put(SHARD, 1, {"n": "0"}).ok().key for _ in range(2)]

    def steps(first, second):
        return [
            step("increment", first, "n", "1"),
            once(step("meet", f"deadlock {keys[0]}", 2)),
            step("increment", second, "n", "1"),
        ]

    pending = [
        thread.begin.transaction(SHARD, steps(*order))
        for thread, order in zip(tool.threads("ann", "bob"), (keys, keys[::-1]))
    ]
    first, second = sorted(one.reply().ok().calls for one in pending)
    assert first == 1 < second  # which may run into the other's way more than once
    assert [there(database, key) for key in keys] == 2 * [(1, {"n": "2"})]


def test_a_serialization_failure_in_a_statement_begins_again(tool, database, key):
    ann, bob = tool.threads("ann", "bob")
    meeting = f"reread {key}"
    pending = ann.begin.transaction(
        SHARD,
        [
            step("get", key),
            once(step("meet", meeting, 2)),
            once(step("meet", meeting + " again", 2)),
            step("increment", key, "a", "1"),
        ],
        isolation=REPEATABLE_READ,
    )
    bob.meet(meeting, 2)
    bob.increment(key, "a", "10").ok()
    bob.meet(meeting + " again", 2)
    done = pending.reply().ok()
    assert done.calls == 2 and results(done)[0].dict["a"] == "11"
    assert there(database, key) == (7, {**BODY, "a": "12"})


def test_a_serialization_failure_at_commit_begins_again(tool, database, ann):
    keys = [ann.put(SHARD, 1, {"on": "yes"}).ok().key for _ in range(2)]
    meeting = f"skew {keys[0]}"
    pending = [
        thread.begin.transaction(
            SHARD,
            [
                step("get", keys[0]),
                step("get", keys[1]),
                step("merge", own, {"on": "no"}, condition={"has": {"on": "yes"}}),
                once(step("meet", meeting, 2)),
            ],
            isolation=SERIALIZABLE,
        )
        for thread, own in zip(tool.threads("ann", "bob"), keys)
    ]
    done = [one.reply().ok() for one in pending]
    assert sorted(reply.calls for reply in done) == [1, 2]
    second = max(done, key=lambda reply: reply.calls)
    assert sorted(result.dict["on"] for result in results(second)[:2]) == ["no", "yes"]


def test_a_lost_connection_begins_again(tool, database, key):
    kill = once(sql("SELECT pg_terminate_backend(pg_backend_pid())", unchecked=True))
    for last in (step("increment", key, "a", "1"), sql("SELECT 1"), step("put", SHARD, 1, {})):
        before = there(database, key)[1]["a"]
        done = run(tool.main, step("increment", key, "a", "1"), kill, also(last, ignore=True)).ok()
        assert done.calls == 2
        added = 2 if last["do"] == "increment" else 1
        assert there(database, key)[1]["a"] == str(int(before) + added)


def test_a_lost_connection_begins_again_whatever_the_function_returns(tool, database, key):
    kill = once(sql("SELECT pg_terminate_backend(pg_backend_pid())", unchecked=True))
    done = run(tool.main, step("increment", key, "a", "1"), kill, then="HV_NOT_FOUND")
    done.gives("HV_NOT_FOUND")
    assert done.calls == 2 and there(database, key) == (7, BODY)
    checked = once(sql("SELECT pg_terminate_backend(pg_backend_pid())"))
    done = run(tool.main, step("increment", key, "a", "1"), also(checked, ignore=True)).ok()
    assert done.calls == 2 and there(database, key) == (7, {**BODY, "a": "2"})


def test_in_steps_a_lost_connection_is_an_error_after_which_nothing_is_written(
    ann, database, key
):
    ann.tx_begin(SHARD).ok()
    ann.increment(key, "a", "1").ok()
    ann.sql("SELECT pg_terminate_backend(pg_backend_pid())", unchecked=True)
    assert ann.get(key).gives("HV_UNAVAILABLE").retriable
    assert ann.sql("SELECT 1").checked["status"] == "HV_UNAVAILABLE"
    ann.tx_commit().gives("HV_UNAVAILABLE")
    assert there(database, key) == (7, BODY)


def test_it_is_called_a_hundred_times_at_most(ann, database, key):
    done = run(ann, step("merge", key, {"a": "2"}), sql(FAIL_40001), timeout=600_000)
    done.gives("HV_REFUSED")
    assert done.calls == 100 and done.sqlstate == "40001" and done.retriable
    assert done.message == "made to fail"
    assert done.detail == "The transaction was tried 100 times."
    assert there(database, key) == (7, BODY)


def test_a_failure_of_another_class_does_not_begin_again(ann, key):
    for sqlstate in ("23505", "53200", "55P03", "P0001"):
        failing = FAIL_40001.replace("40001", sqlstate)
        done = run(ann, sql(failing)).gives("HV_REFUSED")
        assert (done.calls, done.sqlstate) == (1, sqlstate)


# ---- SQL of the caller's own ----


def test_sql_and_operations_share_the_transaction(ann, database, key):
    done = run(
        ann,
        sql(f"UPDATE {TABLE} SET type = 5 WHERE id = {key}"),
        step("get", key),
        step("merge", key, {"a": "2"}),
        sql(f"SELECT body -> 'a' FROM {TABLE} WHERE id = {key}"),
        sql("SELECT pg_current_xact_id_if_assigned() IS NOT NULL"),
    ).ok()
    assert results(done)[1].kind == 5 and results(done)[3].value == "2"
    assert there(database, key) == (5, {**BODY, "a": "2"})
    run(ann, sql(f"DELETE FROM {TABLE} WHERE id = {key}"), then="HV_CHANGED").gives("HV_CHANGED")
    assert there(database, key) is not None


def test_a_failed_statement_that_was_checked_is_the_reason(ann, key):
    done = run(ann, step("merge", key, {"a": "2"}), sql("SELECT 1 / 0")).gives("HV_REFUSED")
    assert (done.calls, done.sqlstate, done.message) == (1, "22012", "division by zero")
    assert done.shard == SHARD and done.server == "one"
    done = run(ann, once(sql(FAIL_40001)), step("get", key)).ok()
    assert done.calls == 2


def test_a_failed_statement_that_was_not_checked_is_found(ann, database, key):
    failed = sql("SELECT 1 / 0", unchecked=True)
    done = run(ann, step("merge", key, {"a": "2"}), failed).gives("HV_INVALID")
    assert done.calls == 1 and "hv_tx_check()" in done.hint
    assert done.message == "a statement on the transaction's connection has failed"
    done = run(ann, failed, step("get", key)).gives("HV_INVALID")
    assert "hv_tx_check()" in done.hint
    done = run(ann, sql(FAIL_40001, unchecked=True), then="HV_REFUSED").gives("HV_REFUSED")
    assert done.calls == 1 and "hv_tx_check()" in done.hint
    assert there(database, key) == (7, BODY)


def test_a_failure_that_another_driver_reports(ann, database, key):
    failed = sql(FAIL_40001, unchecked=True)
    reported = step("tx_failed", "40001", "could not serialize access\nLINE 1")
    done = run(ann, step("increment", key, "a", "1"), once(failed), once(reported)).ok()
    assert done.calls == 2 and there(database, key) == (7, {**BODY, "a": "2"})
    done = run(ann, step("tx_failed", "22012", "division by zero\nLINE 1")).gives("HV_REFUSED")
    assert (done.calls, done.sqlstate, done.message) == (1, "22012", "division by zero")
    done = run(ann, step("tx_failed", None, None)).gives("HV_REFUSED")
    assert done.calls == 1 and done.sqlstate is None
    killed = sql("SELECT pg_terminate_backend(pg_backend_pid())", unchecked=True)
    done = run(ann, once(killed), once(step("tx_failed", None, "server closed"))).ok()
    assert done.calls == 2


def test_a_failure_that_a_savepoint_undoes(ann, database, key):
    run(
        ann,
        sql("SAVEPOINT here"),
        sql("SELECT 1 / 0", unchecked=True),
        sql("ROLLBACK TO here"),
        step("merge", key, {"a": "2"}),
    ).ok()
    assert there(database, key) == (7, {**BODY, "a": "2"})


def test_a_deferred_constraint_is_refused_at_commit(ann, database, key):
    database.sql(
        f"CREATE TABLE refers (id bigint REFERENCES {TABLE} DEFERRABLE INITIALLY DEFERRED)"
    )
    done = run(ann, step("merge", key, {"a": "2"}), sql("INSERT INTO refers VALUES (1)"))
    database.sql("DROP TABLE refers")
    done.gives("HV_REFUSED")
    assert done.calls == 1 and done.sqlstate == "23503" and done.constraint == "refers_id_fkey"
    assert there(database, key) == (7, BODY)


@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK"])
def test_a_statement_that_ends_it_leaves_the_outcome_unknown(ann, database, key, end):
    merged = step("merge", key, {"a": "2"})
    for steps in ([merged, sql(end)], [merged, sql(end), step("get", key)]):
        for then in (None, "HV_NOT_FOUND"):
            done = run(ann, *steps, then=then).gives("HV_OUTCOME_UNKNOWN")
            assert done.calls == 1 and not done.retriable
            assert done.message == "the transaction was ended by a statement on its connection"
    assert there(database, key) == (7, BODY if end == "ROLLBACK" else {**BODY, "a": "2"})
    # Also if something failed that the connection knows nothing of.
    steps = [merged, also(step("get", -1), ignore=True), sql(end)]
    run(ann, *steps).gives("HV_OUTCOME_UNKNOWN")
    ann.tx_begin(SHARD).ok()
    ann.sql(end)
    ann.tx_commit().gives("HV_OUTCOME_UNKNOWN")


def test_a_statement_that_ends_it_after_a_failure_that_would_pass(ann, database, key):
    undone = [sql("SAVEPOINT a"), also(sql(FAIL_40001), ignore=True), sql("ROLLBACK TO a")]
    reported = [also(step("tx_failed", "40001", "x"), ignore=True)]
    for number, failed in enumerate((undone, reported), 1):
        done = run(ann, step("increment", key, "a", "1"), *failed, sql("COMMIT"))
        done.gives("HV_OUTCOME_UNKNOWN")
        assert done.calls == 1 and there(database, key)[1]["a"] == str(1 + number)


LEFT = {
    "a query": [step("send", "SELECT pg_sleep(0.01)")],
    "a pipeline": [step("enter_pipeline")],
    "COPY": [sql(f"COPY {TABLE} FROM STDIN", unchecked=True)],
    "another encoding": [sql("SET client_encoding TO LATIN1")],
}


@pytest.mark.parametrize("left", LEFT.values(), ids=LEFT)
def test_a_connection_that_is_not_left_at_rest_fails_it(ann, database, key, left):
    merged = step("merge", key, {"a": "2"})
    for steps in ([merged, *left], [*left, merged]):
        done = run(ann, *steps).gives("HV_INVALID")
        assert done.calls == 1 and "the transaction's connection" in done.message and done.hint
        assert there(database, key) == (7, BODY)
    run(ann, merged).ok()


def test_what_the_caller_has_set_is_restored_as_after_a_loan(make_tool, changed, key):
    ann = make_tool(changed[0], pool_max=1).main
    done = run(ann, step("tx_connection"), sql("SET time zone 'Asia/Tokyo'")).ok()
    pid = results(done)[0].pid
    again = ann.acquire(SHARD).ok()
    assert again.pid == pid and ann.sql("SHOW time zone").value == "UTC"
    ann.release().ok()


@pytest.mark.parametrize("connector", [True, "steps"])
def test_its_connection_is_not_lent_but_has_a_handle(make_tool, changed, connector):
    ann = make_tool(changed[0], connector=connector, pool_max=1).main
    done = run(ann, step("tx_connection"), step("put", SHARD, 1, {})).ok()
    connection = results(done)[0]
    assert connection.release == "HV_INVALID" and connection.handle > 0
    again = ann.acquire(SHARD).ok()
    assert again.handle == connection.handle
    ann.release().ok()


# ---- what a connection has cached ----


def test_statements_that_were_given_up_are_prepared_in_the_next_try(ann, database, key):
    done = run(ann, step("get", key), once(sql("DEALLOCATE ALL")), step("get", key)).ok()
    assert done.calls == 2
    prepared = "SELECT count(*) FROM pg_prepared_statements WHERE name LIKE 'hv_get_0003'"
    done = run(ann, step("get", key), then="HV_NOT_FOUND")
    done = run(ann, sql(prepared)).ok()
    assert results(done)[0].value == "1"  # though that was rolled back


def test_a_table_that_has_changed_under_prepared_statements(make_tool, store, servers):
    ann = make_tool(store).main
    key = ann.put(SHARD, 1, BODY).ok().key
    run(ann, step("get", key)).ok()
    servers[0].sql(f"ALTER TABLE {TABLE} ALTER COLUMN type TYPE integer")
    refused = run(ann, step("get", key))
    assert refused.status == "HV_CORRUPT" and refused.calls < 4
    servers[0].sql(f"ALTER TABLE {TABLE} ALTER COLUMN type TYPE smallint")
    done = run(ann, step("get", key)).ok()
    assert done.calls < 4 and results(done)[0].dict == BODY


def test_types_that_were_made_anew(make_tool, store, servers):
    tool = make_tool(store)
    steps = [
        step("put", SHARD, 1, BODY),
        also(step("put_key", None, 1, BODY), key_of=0),
        also(step("increment", None, "a", "1"), key_of=0),
    ]
    ann, bob = tool.threads("ann", "bob")
    for thread in (ann, bob):  # two connections
        thread.tx_begin(SHARD).ok()
    for thread in (ann, bob):
        thread.tx_rollback()
        run(thread, *steps).ok()
    servers[0].sql(
        f"DROP EXTENSION hstore CASCADE; CREATE EXTENSION hstore;"
        f"ALTER TABLE {TABLE} ADD COLUMN body hstore NOT NULL DEFAULT ''"
    )
    for thread in (ann, bob):
        done = run(thread, *steps).ok()
        assert done.calls <= 3
        key = results(done)[0].key
        assert there(servers[0], key) == (1, {**BODY, "a": "2"})


# ---- tables with a will of their own ----


@pytest.fixture
def swallowing(database):
    """In this shard a trigger takes away every row of kind 99, and every change to it."""
    database.sql(
        "CREATE OR REPLACE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN RETURN NULL; END';"
        f"CREATE TRIGGER swallow BEFORE INSERT OR UPDATE ON {TABLE}"
        " FOR EACH ROW WHEN (NEW.type = 99) EXECUTE FUNCTION swallow()"
    )
    yield
    database.sql(f"DROP TRIGGER swallow ON {TABLE}")


def test_a_row_that_a_trigger_takes_away(swallowing, ann, database, key):
    given = ann.reserve(SHARD, 1).ok().keys[0]
    for bad in (
        step("put", SHARD, 99, {}),
        step("put_key", given, 99, {}),
        step("replace", key, 99, {}),
    ):
        done = run(ann, step("merge", key, {"a": "2"}), bad).gives("HV_NOT_STORED")
        assert done.calls == 1
    assert there(database, key) == (7, BODY) and there(database, given) is None


def test_a_made_key_that_has_an_entity_is_made_again(make_tool, store, servers):
    """The first call meets the entity of a key that was made before."""
    ann = make_tool(store).main
    first = ann.put(SHARD, 1, BODY).ok().key
    servers[0].sql(
        f"ALTER FUNCTION shard{SHARD:04}.next_id() RENAME TO real_id;"
        f"CREATE TABLE turns (n serial);"
        f"CREATE FUNCTION shard{SHARD:04}.next_id() RETURNS bigint LANGUAGE sql AS"
        f" 'SELECT CASE WHEN nextval(''turns_n_seq'') = 1 THEN {first}"
        f" ELSE shard{SHARD:04}.real_id() END';"
        f"ALTER TABLE {TABLE} ALTER COLUMN id SET DEFAULT shard{SHARD:04}.next_id()"
    )
    done = run(ann, step("put", SHARD, 1, {"second": "yes"})).ok()
    assert done.calls == 2
    second = results(done)[0].key
    assert content(servers[0], [first, second]) == {
        first: (1, BODY),
        second: (1, {"second": "yes"}),
    }
