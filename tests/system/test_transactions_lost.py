"""Transactions over connections that are cut at any byte, servers that go down, time that runs out,
signals, forks and stores that are closed: all of a transaction has happened, or nothing."""

import os
import threading

import pytest

from changing import SHARD, change, changed, content, shared_tool  # noqa: F401
from harness import PgBouncer, eventually, hv, store_config
from harness.store_tool import make_tool, step  # noqa: F401
from sweeping import Sweep, one, relayed  # noqa: F401
from test_interrupt import SOON, await_locked_out, locked
from transacting import FAIL_40001, SERIALIZABLE, also, fork_here, once, results, run, sql

BODY = {"n": "0", "keep": "x"}
TABLE = f"shard{SHARD:04}.entities"
UNKNOWN = "HV_OUTCOME_UNKNOWN"
STEP = int(os.environ.get("HV_TEST_CUT_STEP", "3"))  # bytes from one cut to the next
COMMIT_SENT = len("Q....COMMIT.")
COMMIT_ANSWERED = len("C....COMMIT.") + len("Z....I")


# ---- connections that are cut ----


class Pair:
    """Two entities for each turn of a sweep, put before it on the connection that is then cut, and
    what is done to both in one transaction. The statements are prepared there, too."""

    def __init__(self, ann, cursor, command):
        self.ann = ann
        self.cursor = cursor
        self.command = command

    def prepare(self):
        self.put()
        self.command(self.ann, *self.keys).ok()
        self.put()

    def put(self):
        self.keys = [self.ann.put(3, 1, BODY).ok().key for _ in range(2)]

    def left(self):
        """What is there of a transaction: "all", "nothing", or else the rows."""
        first, second = self.keys
        self.cursor.execute(
            f"SELECT type, hstore_to_json(body) FROM {TABLE} WHERE id IN (%s, %s)"
            " OR body -> 'of' = %s ORDER BY id = %s, type",
            [first, second, str(first), second],
        )
        rows = self.cursor.fetchall()
        if rows == [(1, BODY), (1, BODY)]:
            return "nothing"
        made = [(1, {**BODY, "n": "1"}), (2, {"of": str(first)}), (5, {"n": "1"})]
        return "all" if rows in (made, [made[0], made[2]]) else rows


def in_a_function(ann, first, second):
    return run(
        ann,
        step("increment", first, "n", "1"),
        step("replace", second, 5, {"n": "1"}, condition={"has": {"n": "0"}}),
    )


def in_steps(ann, first, second):
    """The reply of the first failure, or of the commit."""
    begun = ann.tx_begin(3)
    if begun.status != "HV_OK":
        return begun
    for command in (
        lambda: ann.increment(first, "n", "1"),
        lambda: ann.put(3, 2, {"of": str(first)}),
        lambda: ann.merge(second, {"n": "1"}, ["keep"]),
    ):
        reply = command()
        if reply.status != "HV_OK":
            ann.tx_rollback()
            return reply
    ann.sql(f"UPDATE {TABLE} SET type = 5 WHERE id = {second}")
    return ann.tx_commit()


@pytest.fixture
def cursor(one):
    with one.connect(application_name="test harness") as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            yield cursor


@pytest.mark.parametrize("way", [in_a_function, in_steps], ids=["function", "steps"])
def test_wherever_it_is_cut_all_of_it_has_happened_or_nothing(make_tool, relayed, cursor, way):
    config, between = relayed()
    ann = make_tool(config, exactly_once="on" if way is in_steps else "off").main
    pair = Pair(ann, cursor, way)
    step = STEP if way is in_a_function else 3 * STEP
    cuts = Sweep(between, lambda _: way(ann, *pair.keys), pair.prepare, step=step)
    met = set()
    for direction, count, _, reply in cuts:
        where = f"{direction} {count} of {cuts.lengths}: {reply}"
        tail = COMMIT_SENT if direction == "to_server" else COMMIT_ANSWERED
        till_commit = cuts.lengths[direction] - tail
        is_before = count < till_commit
        if direction == "to_client" and count > till_commit:  # it may take the server a moment
            eventually(lambda: pair.left() == "all", what=where)
        left = pair.left()
        assert left in ("all", "nothing"), f"{where}: {left}"
        met.add((is_before, reply.status, left))
        if reply.status == "HV_OK":
            assert left == "all", where
        elif reply.status == UNKNOWN:
            assert not is_before and reply.outcome_unknown and not reply.retriable, where
        else:
            assert way is in_steps and is_before and left == "nothing", where
            assert reply.status in ("HV_UNAVAILABLE", "HV_INVALID"), where
        if way is in_a_function and is_before:
            assert reply.status == "HV_OK" and reply.calls <= 2, where
    before = {status for is_before, status, _ in met if is_before}
    assert before == {"HV_OK"} if way is in_a_function else "HV_UNAVAILABLE" in before
    assert (False, UNKNOWN, "all") in met and (False, UNKNOWN, "nothing") in met


@pytest.mark.threads
@pytest.mark.parametrize("end", ["fast", "immediate", "kill9"])
def test_while_the_server_restarts_each_one_is_done_once(make_tool, one, tmp_path, end):
    config = store_config(tmp_path / "c", {"one": (one, "1-4")}, operation_timeout="60s")
    hv("init", config=config).ok()
    tool = make_tool(config, pool_max=8)
    pairs = [[tool.main.put(3, 1, {"n": "0"}).ok().key for _ in range(2)] for _ in range(6)]
    ending = threading.Event()
    done, unknown = [0] * len(pairs), [0] * len(pairs)
    wrong, again = [], []

    def work(number, thread):
        steps = [step("increment", key, "n", "1") for key in pairs[number]]
        while not ending.is_set() and not wrong:
            reply = run(thread, *steps)
            done[number] += reply.status == "HV_OK"
            unknown[number] += reply.status == UNKNOWN
            if reply.calls > 1:
                again.append(reply.calls)
            at_once = reply.status == "HV_UNAVAILABLE" and reply.calls == 0  # it could not begin
            if reply.status not in ("HV_OK", UNKNOWN) and not at_once:
                wrong.append(reply)

    threads = [
        threading.Thread(target=work, args=(number, thread))
        for number, thread in enumerate(tool.threads(*(f"t{n}" for n in range(len(pairs)))))
    ]
    for thread in threads:
        thread.start()
    try:
        for _ in range(3):
            goal = sum(done) + 50
            eventually(lambda: sum(done) >= goal or wrong, timeout=60)
            if end == "kill9":
                one.server.kill9()
            else:
                one.server.stop(end)
            one.server.start(wait=False)
        goal = sum(done) + 50
        eventually(lambda: sum(done) >= goal or wrong, timeout=60)
    finally:
        ending.set()
        for thread in threads:
            thread.join()
    assert not wrong and again
    for number, (first, second) in enumerate(pairs):
        there = content(one, [first, second])
        assert there[first] == there[second]
        value = int(there[first][1]["n"])
        assert done[number] <= value <= done[number] + unknown[number]


def test_a_server_that_does_not_come_back_is_waited_for_until_the_time_is_over(
    make_tool, one, tmp_path
):
    config = store_config(tmp_path / "c", {"one": (one, "1-4")})
    hv("init", config=config).ok()
    tool = make_tool(config)
    ann, bob = tool.threads("ann", "bob")
    steps = [
        step("put", 3, 1, BODY),
        once(step("meet", "up", 2)),
        once(step("meet", "down", 2)),
        step("put", 3, 1, BODY),
    ]
    pending = ann.begin.transaction(3, steps, timeout=2000)
    bob.meet("up", 2)
    one.server.stop("immediate")
    bob.meet("down", 2)
    done = pending.reply().gives("HV_UNAVAILABLE")
    assert done.calls == 1 and done.retriable and 1500 < done.ms < 1500 + SOON
    assert "tried 2 times" in done.detail
    # At the very first try it is reported at once.
    done = run(ann, timeout=60_000).gives("HV_UNAVAILABLE")
    assert done.calls == 0 and done.ms < SOON
    ann.tx_begin(3).gives("HV_UNAVAILABLE")
    one.server.start()
    assert one.value(f"SELECT count(*) FROM {TABLE}") == 0


def test_through_a_bouncer_that_restarts(server, make_tool, tmp_path):
    with PgBouncer(server.server, settings={"server_round_robin": 1}) as bouncer:
        servers = {"one": (bouncer.params(server.dbname), "1-9")}
        config = store_config(tmp_path / "bounced.conf", servers, prepare="off")
        hv("init", config=config).ok()
        tool = make_tool(config)
        ann, bob = tool.threads("ann", "bob")
        key = ann.put(3, 1, BODY).ok().key
        increments = [step("increment", key, "n", "1") for _ in range(3)]
        done = run(ann, *increments, sql("SHOW transaction_isolation"), isolation=SERIALIZABLE)
        assert results(done.ok())[3].value == "serializable"
        meet = [once(step("meet", "up", 2)), once(step("meet", "restarted", 2))]
        pending = ann.begin.transaction(3, [increments[0], *meet, *increments])
        bob.meet("up", 2)
        bouncer.restart()
        bob.meet("restarted", 2)
        assert pending.reply().ok().calls == 2
        assert content(server, [key]) == {key: (1, {**BODY, "n": "7"})}


# ---- time ----


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


def untouched(database, key):
    return content(database, [key]) == {key: (7, BODY)}


@pytest.mark.parametrize("option", [False, True], ids=["timeout", "operation_timeout"])
def test_an_operation_that_waits_too_long(make_tool, changed, database, key, option):
    ann = make_tool(changed[0], **({"operation_timeout": "400ms"} if option else {})).main
    with database.connect() as blocker:
        blocker.autocommit = False
        blocker.cursor().execute(f"SELECT FROM {TABLE} WHERE id = {key} FOR UPDATE")
        done = run(
            ann,
            step("put", SHARD, 9, {"waits": str(key)}),
            step("increment", key, "n", "1"),
            timeout=0 if option else 400,
        ).gives("HV_TIMEOUT")
        blocker.rollback()
    assert done.calls == 1 and 300 < done.ms < SOON and "operation_timeout" in done.hint
    assert untouched(database, key)
    query = f"SELECT count(*) FROM {TABLE} WHERE body -> 'waits' = %s"
    assert database.value(query, str(key)) == 0


def test_a_function_that_takes_too_long_is_rolled_back(ann, database, key):
    slow = sql("SELECT pg_sleep(0.5)")
    done = run(ann, step("increment", key, "n", "1"), slow, timeout=300).gives("HV_TIMEOUT")
    assert done.calls == 1 and untouched(database, key)
    done = run(ann, slow, step("increment", key, "n", "1"), timeout=300).gives("HV_TIMEOUT")
    assert done.calls == 1 and untouched(database, key)


def test_what_fails_until_the_time_is_over_ends_with_its_reason(ann, database, key):
    done = run(ann, step("increment", key, "n", "1"), sql(FAIL_40001), timeout=300)
    done.gives("HV_REFUSED")
    assert done.sqlstate == "40001" and 1 < done.calls < 100 and done.ms < SOON
    assert done.detail == f"The transaction was tried {done.calls} times."
    assert untouched(database, key)


def test_a_commit_that_takes_too_long_has_an_unknown_outcome(ann, database, key):
    database.sql(
        "CREATE OR REPLACE FUNCTION doze() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN PERFORM pg_sleep(1.5); RETURN NULL; END';"
        f"CREATE CONSTRAINT TRIGGER doze AFTER UPDATE ON {TABLE} DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION doze()"
    )
    try:
        done = run(ann, step("increment", key, "n", "1"), timeout=500).gives(UNKNOWN)
        assert done.calls == 1 and done.ms < 1400 and done.outcome_unknown and not done.retriable
        assert "may or may not have been committed" in done.hint
        eventually(lambda: content(database, [key]) == {key: (7, {**BODY, "n": "1"})})
    finally:
        database.sql(f"DROP TRIGGER doze ON {TABLE}")


def test_a_pool_without_a_connection_to_spare(make_tool, changed, key):
    tool = make_tool(changed[0], pool_max=1, pool_block_timeout="200ms")
    ann, bob = tool.threads("ann", "bob")
    ann.tx_begin(SHARD).ok()
    done = run(bob, step("get", key), timeout=60_000).gives("HV_TIMEOUT")
    assert done.calls == 0 and done.ms < SOON
    ann.get(key).ok()
    ann.tx_commit().ok()
    outside = also(step("get", key), outside=True, ignore=True)
    done = run(bob, step("get", key), outside, step("get", key)).ok()
    assert [result.status for result in results(done)] == ["HV_OK", "HV_TIMEOUT", "HV_OK"]


# ---- signals ----


@pytest.mark.threads
def test_a_signal_ends_it_with_nothing_written(make_tool, changed, database, key):
    tool = make_tool(changed[0], interrupts=True, operation_timeout="1min")
    ann, bob = tool.threads("ann", "bob")
    with locked(database, SHARD):
        pending = ann.begin.transaction(SHARD, [step("increment", key, "n", "1")])
        await_locked_out(database)
        bob.interrupt("ann")
        done = pending.reply().gives("HV_TIMEOUT")
    assert done.calls == 1 and "interrupted" in done.message and done.ms < SOON
    pending = ann.begin.transaction(
        SHARD, [step("increment", key, "n", "1"), sql(FAIL_40001), once(step("meet", "x", 1))]
    )
    eventually(lambda: tool.stats().loans > 5)  # in one of its pauses, or between them
    bob.interrupt("ann")
    done = pending.reply()
    assert done.status in ("HV_REFUSED", "HV_TIMEOUT") and done.calls < 100 and done.ms < SOON
    assert untouched(database, key)
    assert run(ann, step("increment", key, "n", "1")).ok().calls == 1


# ---- forks ----

forks = pytest.mark.races


@forks
def test_in_a_child_it_can_only_be_ended(make_tool, changed, database, key):
    tool = make_tool(changed[0])
    ann = tool.threads("ann")[0]
    for end in ("tx_commit", "tx_rollback"):
        ann.tx_begin(SHARD).ok()
        ann.increment(key, "n", "1").ok()
        fork = ann.fork([
            step("increment", key, "n", "1"),
            step("put", SHARD, 1, {}),
            step("tx_failed", "40001", "x"),
            step("tx_connection"),
            step(end),
            step("get", key),
            step("close", 0),
        ]).ok()  # fmt: skip
        assert fork.exit_status == 0
        increment, put, failed, connection, ended, get, closed = fork.child
        for refused in (increment, put, failed, ended)[: 4 if end == "tx_commit" else 3]:
            assert refused.gives("HV_INVALID").message == "the transaction is another process's"
        assert connection.pid is None
        assert get.ok().dict == BODY  # the store works there
        closed.ok()  # and nothing of it is in use
        ann.increment(key, "n", "1").ok()  # the parent's goes on
        ann.tx_rollback()
    assert untouched(database, key)
    assert tool.stats().opened == 1


@forks
def test_a_child_that_leaves_the_function_commits_nothing(make_tool, changed, database, key):
    tool = make_tool(changed[0])
    ann = tool.threads("ann")[0]
    done = run(
        ann, step("increment", key, "n", "1"), fork_here(), step("increment", key, "n", "1")
    ).ok()
    assert results(done)[1].exit_status == 2  # HV_INVALID
    assert done.calls == 1 and content(database, [key]) == {key: (7, {**BODY, "n": "2"})}


# ---- the end of the store ----


def test_an_open_one_keeps_the_store_open(make_tool, changed, database, key):
    tool = make_tool(changed[0])
    ann, bob = tool.threads("ann", "bob")
    ann.tx_begin(SHARD).ok()
    bob.close(0).gives("HV_BUSY")
    ann.increment(key, "n", "1").ok()  # it may be finished
    bob.tx_begin(SHARD).gives("HV_CLOSED")
    ann.tx_commit().ok()
    assert content(database, [key]) == {key: (7, {**BODY, "n": "1"})}
    ann.close(0).ok()
    tool.open(changed[0]).ok()


def test_after_the_store_was_stopped_none_begins_again(make_tool, changed, database, key):
    tool = make_tool(changed[0])
    ann = tool.threads("ann")[0]
    increment = step("increment", key, "n", "1")
    run(ann, increment, step("stop"), increment).ok()
    ann.close(0).ok()
    tool.open(changed[0]).ok()
    done = run(ann, increment, step("stop"), sql(FAIL_40001)).gives("HV_CLOSED")
    assert done.calls == 1
    run(ann).gives("HV_CLOSED")
    ann.close(0).ok()
    tool.open(changed[0]).ok()
    assert content(database, [key]) == {key: (7, {**BODY, "n": "2"})}
