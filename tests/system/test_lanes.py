"""Lanes: operations of many threads that share a connection and a transaction, and go unseen.

Most tests have one lane, and keep it: then all operations that come wait in one batch. A lane is
kept by holding the log callback of the operation that has it, or by locking the table that it
needs.
"""

import contextlib
import itertools
import time

import pytest

from harness import eventually
from harness.store_tool import make_tool as make_any_tool  # noqa: F401
from harness.store_tool import relayed_store, step  # noqa: F401
from lanes import lane_kept

pytestmark = [pytest.mark.threads, pytest.mark.races]

ONE = 0
SHARDS = range(1, 9)  # the shards of server one
NOBODY = 1 << 23 | 3 << 10  # a key of shard 3 that has no entity
SLACK = 2500  # milliseconds that an operation may end after its deadline, on a busy machine


@pytest.fixture
def make_tool(make_any_tool):
    """As everywhere, but waiters give up only where the test wants it: on a busy machine it may
    take long until all threads are where the test needs them."""
    return lambda config, **how: make_any_tool(config, **{"pool_block_timeout": "30s", **how})


def body(writer):
    return {"writer": str(writer), "more": "x" * (7 * writer)}


def begin(tool, operations, first=0):
    """Begin each operation in a thread of its own."""
    threads = tool.threads(*(f"t{first + i}" for i in range(len(operations))))
    return [tool.send(thread.name, operation) for thread, operation in zip(threads, operations)]


def queue(tool, operations, first=0):
    """The same, and wait until all of them wait for a lane, as the `first` before them do. The lane
    must be all of the pool, for they do not wait long while there are other connections."""
    pending = begin(tool, operations, first)
    eventually(lambda: tool.sleepers() == first + len(operations))
    return pending


def puts(count, shards=SHARDS, kind=1):
    return [step("put", shards[i % len(shards)], kind, body(i)) for i in range(count)]


@contextlib.contextmanager
def locked(database, shard):
    with database.connect() as blocker:
        blocker.autocommit = False
        blocker.cursor().execute(f"LOCK TABLE shard{shard:04}.entities")
        yield blocker


def waiting_for_locks(database):
    return database.value(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND wait_event_type = 'Lock'",
        database.dbname,
    )


def transactions(database, kind=1):
    """How many transactions stored the entities of this kind that are there now."""
    union = " UNION ".join(
        f"SELECT xmin::text FROM shard{shard:04}.entities WHERE type = {kind}" for shard in SHARDS
    )
    return database.value(f"SELECT count(*) FROM ({union}) AS x")


def stored(database, shard, kind=1):
    return database.value(f"SELECT count(*) FROM shard{shard:04}.entities WHERE type = {kind}")


def stored_everywhere(database, kind=1):
    """At one moment."""
    union = " UNION ALL ".join(
        f"SELECT FROM shard{shard:04}.entities WHERE type = {kind}" for shard in SHARDS
    )
    return database.value(f"SELECT count(*) FROM ({union}) AS x")


def events_of(tool, since):
    """The log's statements since there were `since`, without those that keep the lane."""
    return [event for event in tool.log[since:] if event.thread != "holder"]


def assert_stored(tool, replies, first=0):
    """Each put has its own key, under which is the put's own entity."""
    keys = [reply.ok().key for reply in replies]
    assert len(set(keys)) == len(keys)
    for writer, key in enumerate(keys, first):
        assert tool.main.get(key).ok().dict == body(writer)


# ---- batches ----


def test_operations_that_wait_for_a_lane_run_together_and_each_gets_its_own(
    make_tool, store, servers
):
    tool = make_tool(store, log=True, lanes=1, pool_max=1)
    there = {shard: tool.main.put(shard, 5, body(shard)).ok().key for shard in (2, 3)}
    gets = [step("get", there[shard]) for shard in (2, 3, 2, 2)] + [step("get", NOBODY)]
    operations = puts(16) + gets
    with lane_kept(tool):
        before = len(tool.log)
        pending = queue(tool, operations)
    replies = [one.reply() for one in pending]
    events = events_of(tool, before)
    assert len(events) == 8 + 2  # puts on eight shards, gets on two
    assert len({event.thread for event in events}) == 1  # the leader ran all of them
    assert transactions(servers[ONE]) == 1
    for reply, shard in zip(replies[16:20], (2, 3, 2, 2)):
        assert (reply.ok().dict, reply.kind) == (body(shard), 5)
        assert reply.key == there[shard]
    replies[20].gives("HV_NOT_FOUND")
    assert_stored(tool, replies[:16])
    assert stored_everywhere(servers[ONE]) == 16


@pytest.mark.parametrize("options", [{}, {"prepare": "off"}, {"prepared_max": 1}])
def test_batches_are_right_again_and_again_whatever_is_prepared(
    make_tool, store, servers, options
):
    tool = make_tool(store, log=True, lanes=1, **{"pool_max": 1, **options})
    for turn in range(3):
        with lane_kept(tool):
            pending = queue(tool, puts(20, kind=turn + 1))
        replies = [one.reply() for one in pending]
        assert_stored(tool, replies)
        assert transactions(servers[ONE], turn + 1) == 1
        with lane_kept(tool):
            pending = queue(tool, [step("get", reply.key) for reply in replies])
        for writer, one in enumerate(pending):
            assert one.reply().ok().dict == body(writer)


@pytest.mark.parametrize("statement", ["DISCARD ALL", "DEALLOCATE ALL"])
def test_a_borrower_that_drops_the_prepared_statements_harms_no_batch(
    make_tool, store, servers, statement
):
    tool = make_tool(store, log=True, lanes=1, pool_max=1)
    (ann,) = tool.threads("ann")
    for turn in range(3):
        with lane_kept(tool):
            pending = queue(tool, puts(12) + [step("get", NOBODY)] * 2)
        replies = [one.reply() for one in pending]
        assert_stored(tool, replies[:12])
        for reply in replies[12:]:
            reply.gives("HV_NOT_FOUND")
        ann.acquire(3).ok()
        ann.sql(statement).ok()
        ann.release().ok()
    assert stored_everywhere(servers[ONE]) == 36


def test_a_value_of_a_megabyte_does_not_wait_for_a_lane(make_tool, store, servers):
    tool = make_tool(store, lanes=1, pool_max=2)
    (ann,) = tool.threads("ann")
    large = {"value": "v" * (1 << 20)}
    with locked(servers[ONE], 3):
        holder = tool.threads("holder")[0].begin.put(3, 0, {})
        eventually(lambda: waiting_for_locks(servers[ONE]) == 1)
        key = ann.put(4, 1, large).ok().key
        pending = begin(tool, [step("get", key)] * 3 + puts(3, [4]))
        for one in pending[:3]:
            assert one.reply().ok().dict == large
        assert_stored(tool, [one.reply() for one in pending[3:]])
        assert not holder.done
    holder.reply().ok()


def test_a_lane_that_is_held_up_holds_up_its_own_batch_only(make_tool, store, servers):
    tool = make_tool(store, lanes=1, pool_max=2)
    with locked(servers[ONE], 3):
        holder = tool.threads("holder")[0].begin.put(3, 0, {})
        eventually(lambda: waiting_for_locks(servers[ONE]) == 1)
        for turn in range(3):
            pending = begin(tool, puts(8, [4, 5], kind=turn + 1))
            assert_stored(tool, [one.reply() for one in pending])
        assert not holder.done
        assert tool.stats().open == 2
    holder.reply().ok()


def test_more_than_a_batch_takes_becomes_two_batches(make_tool, store, servers):
    tool = make_tool(store, log=True, lanes=1, pool_max=1)
    bodies = [{"value": chr(97 + i) * 60000} for i in range(20)]  # a batch has room for 1 MB
    with lane_kept(tool):
        pending = queue(tool, [step("put", 3, 1, one) for one in bodies])
    keys = [one.reply().ok().key for one in pending]
    assert [tool.main.get(key).ok().dict for key in keys] == bodies
    assert transactions(servers[ONE]) == 2


def test_without_lanes_each_operation_takes_a_connection(make_tool, store, servers):
    tool = make_tool(store, log=True, lanes=0, pool_max=10)
    with locked(servers[ONE], 3):
        threads = tool.threads(*(f"t{i}" for i in range(10)))
        pending = [thread.begin.put(3, 1, body(i)) for i, thread in enumerate(threads)]
        eventually(lambda: waiting_for_locks(servers[ONE]) == 10)
    assert_stored(tool, [one.reply() for one in pending])
    assert transactions(servers[ONE]) == 10


def test_a_log_with_parameters_shows_those_of_every_operation(make_tool, store):
    tool = make_tool(store, log=True, lanes=1, pool_max=1, log_parameters="on")
    threads = tool.threads(*(f"t{i}" for i in range(8)))
    pending = [thread.begin.put(3, 40 + i, {"n": str(i)}) for i, thread in enumerate(threads)]
    keys = [one.reply().ok().key for one in pending]
    seen = sorted(tuple(event.parameters) for event in tool.log if "entities" in event.log)
    assert seen == [(str(40 + i), f'"n"=>"{i}"') for i in range(8)]
    before = len(tool.log)
    pending = [thread.begin.get(key) for key, thread in zip(keys, threads)]
    for one in pending:
        one.reply().ok()
    seen = [event.parameters[0] for event in tool.log[before:] if "entities" in event.log]
    assert sorted(seen) == sorted(map(str, keys))


# ---- refused operations ----

DEFERRED = """
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION USING MESSAGE = 'no sevens', ERRCODE = 'check_violation',
                 CONSTRAINT = 'no_sevens'; END $$;
    CREATE CONSTRAINT TRIGGER no_sevens AFTER INSERT ON shard0003.entities
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.type = 7) EXECUTE FUNCTION refuse()"""
CHECK = "ALTER TABLE shard0003.entities ADD CONSTRAINT no_sevens CHECK (type <> 7)"


@pytest.mark.parametrize("rule", [CHECK, DEFERRED], ids=["check", "deferred trigger"])
def test_only_the_rows_that_a_constraint_forbids_are_refused(make_tool, store, servers, rule):
    servers[ONE].sql(rule)
    tool = make_tool(store, log=True, lanes=1, pool_max=1)
    there = tool.main.put(2, 5, body(0)).ok().key
    kinds = [7 if i % 5 == 2 else 1 for i in range(20)]
    operations = [step("put", 3, kind, body(i)) for i, kind in enumerate(kinds)]
    with lane_kept(tool):
        pending = queue(tool, operations + [step("get", there)])
    for i, one in enumerate(pending[:20]):
        reply = one.reply()
        if kinds[i] == 7:
            reply.gives("HV_REFUSED")
            assert (reply.sqlstate, reply.constraint) == ("23514", "no_sevens")
            assert (reply.server, reply.shard) == ("one", 3)
            assert not reply.outcome_unknown
        else:
            assert tool.main.get(reply.ok().key).ok().dict == body(i)
    assert pending[20].reply().ok().dict == body(0)
    assert stored(servers[ONE], 3) == kinds.count(1)
    assert stored(servers[ONE], 3, 7) == 0


# The first to be refused takes the connection with it: between the server's error and the end of
# its answer, the server ends the session.
REFUSE_AND_END = """
    CREATE SEQUENCE public.times;
    CREATE FUNCTION public.refuse_and_end() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF nextval('public.times') = 1 THEN
            RAISE EXCEPTION 'no sevens, %', pg_terminate_backend(pg_backend_pid());
        END IF;
        RAISE EXCEPTION 'no sevens'; END $$;
    CREATE TRIGGER refuse_and_end BEFORE INSERT ON shard0003.entities
        FOR EACH ROW WHEN (NEW.type = 7) EXECUTE FUNCTION public.refuse_and_end()"""


def test_a_refusal_that_breaks_the_connection_is_reported_to_its_own_put_only(
    make_tool, store, servers
):
    servers[ONE].sql(REFUSE_AND_END)
    tool = make_tool(store, log=True, lanes=1, pool_max=1)
    there = tool.main.put(2, 5, body(0)).ok().key
    with lane_kept(tool):
        pending = queue(tool, [step("put", 3, 7, {}), step("get", there)] + puts(8))
    replies = [one.reply() for one in pending]
    assert replies[0].gives("HV_REFUSED").message == "no sevens"
    assert replies[1].ok().dict == body(0)
    assert_stored(tool, replies[2:])
    assert stored_everywhere(servers[ONE]) == 8
    assert tool.stats().opened == 2


def test_a_shard_that_is_not_there_spoils_nothing_for_the_others(make_tool, store, servers):
    servers[ONE].sql("DROP SCHEMA shard0005 CASCADE")
    tool = make_tool(store, log=True, lanes=1, pool_max=1)
    alone = tool.main.put(5, 1, {}).gives("HV_NOT_INITIALIZED")
    with lane_kept(tool):
        pending = queue(tool, puts(16))
    for i, one in enumerate(pending):
        reply = one.reply()
        if SHARDS[i % 8] == 5:
            reply.gives("HV_NOT_INITIALIZED")
            assert (reply.message, reply.shard) == (alone.message, 5)
        else:
            assert tool.main.get(reply.ok().key).ok().dict == body(i)


def test_a_batch_that_is_refused_needs_no_other_connection(make_tool, store, servers):
    servers[ONE].sql(CHECK)
    tool = make_tool(store, log=True, lanes=1, pool_max=1)
    with lane_kept(tool):
        opened = tool.stats().opened
        pending = queue(tool, [step("put", 3, 7 if i == 30 else 1, body(i)) for i in range(60)])
    replies = [one.reply() for one in pending]
    replies[30].gives("HV_REFUSED")
    assert_stored(tool, replies[:30])
    assert tool.stats().opened == opened


def test_after_a_refusal_the_next_batch_is_as_any(make_tool, store, servers):
    servers[ONE].sql(CHECK)
    tool = make_tool(store, log=True, lanes=1, pool_max=1)
    for kind in (1, 7, 1):
        with lane_kept(tool):
            before = len(tool.log)
            pending = queue(tool, puts(6, [2]) + puts(6, [3], kind) + puts(6, [4]))
        replies = [one.reply() for one in pending]
    assert_stored(tool, replies[:6])
    assert [event.status for event in events_of(tool, before)[:3]] == ["HV_OK"] * 3
    assert transactions(servers[ONE]) == 2 + 12


def test_a_statement_that_the_server_has_already_does_not_spoil_batches(
    make_tool, store, servers
):
    tool = make_tool(store, log=True, lanes=1, pool_max=1)
    (ann,) = tool.threads("ann")
    ann.acquire(3).ok()
    ann.sql("PREPARE hv_put_many_0003 AS SELECT 1").ok()
    ann.release().ok()
    with lane_kept(tool):
        pending = queue(tool, puts(6, [3]) + puts(6, [4]))
    assert_stored(tool, [one.reply() for one in pending][:6])
    assert transactions(servers[ONE]) == 1


# ---- connections that break ----


def batch_of_both(tool):
    """Eight puts and eight gets."""
    keys = [tool.main.put(3, 5, body(i)).ok().key for i in range(8)]
    return puts(8) + [step("get", key) for key in keys]


@pytest.mark.parametrize("direction, count", [("to_client", 1), ("to_client", 400),
                                              ("to_server", 50)])
def test_a_batch_that_is_cut_off_leaves_its_puts_unknown_and_repeats_its_gets(
    make_tool, relayed_store, own_servers, direction, count
):
    config, between = relayed_store
    tool = make_tool(config, log=True, lanes=1, pool_max=1)
    operations = batch_of_both(tool)
    with lane_kept(tool):
        pending = queue(tool, operations)
        between.cut_in(direction, count)
    for i, one in enumerate(pending):
        reply = one.reply()
        if i < 8:
            reply.gives("HV_OUTCOME_UNKNOWN")
            assert reply.outcome_unknown and not reply.retriable
            assert (reply.server, reply.shard) == ("one", SHARDS[i])
        else:
            assert reply.ok().dict == body(i - 8)
    assert stored_everywhere(own_servers[ONE]) in (0, 8)  # all or nothing
    with lane_kept(tool):
        pending = queue(tool, operations)
    assert_stored(tool, [one.reply() for one in pending[:8]])


def test_a_batch_whose_server_is_killed_and_comes_back_fails_and_works_again(
    make_tool, own_store, own_servers
):
    one = own_servers[ONE]
    tool = make_tool(own_store, lanes=1, pool_max=1)
    operations = batch_of_both(tool)
    with locked(one, 3):
        holder = tool.threads("holder")[0].begin.put(3, 0, {})
        eventually(lambda: waiting_for_locks(one) == 1)
        pending = queue(tool, operations)
        pid = one.value("SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
        one.sql("SELECT pg_terminate_backend(%s)", pid)
        holder.reply().gives("HV_OUTCOME_UNKNOWN")
        eventually(lambda: waiting_for_locks(one) == 1)  # it is the batch that waits now
        one.server.kill9()
        for reply in [each.reply() for each in pending[:8]]:
            reply.gives("HV_OUTCOME_UNKNOWN")
        for reply in [each.reply() for each in pending[8:]]:
            assert reply.gives("HV_UNAVAILABLE").retriable
    one.server.start()
    assert stored_everywhere(one) == 0
    eventually(lambda: tool.main.get(NOBODY).status == "HV_NOT_FOUND")
    pending = [
        tool.send(f"t{i}", operation) for i, operation in enumerate(operations)
    ]
    assert_stored(tool, [each.reply() for each in pending[:8]])
    for i, each in enumerate(pending[8:]):
        assert each.reply().ok().dict == body(i)


# ---- deadlines ----


def test_what_no_lane_comes_free_for_in_time_has_not_happened(make_tool, store, servers):
    tool = make_tool(store, log=True, lanes=1, pool_max=1, operation_timeout="5s")
    with lane_kept(tool):
        pending = queue(tool, puts(10) + [step("get", NOBODY)] * 4)
        for one in pending:
            reply = one.reply().gives("HV_TIMEOUT")
            assert reply.message == 'no lane to server "one" came free in time'
            assert not reply.outcome_unknown
            assert 5000 <= reply.ms < 5000 + SLACK
    assert stored_everywhere(servers[ONE]) == 0
    with lane_kept(tool):
        pending = queue(tool, puts(10))
    assert_stored(tool, [one.reply() for one in pending])


def test_those_whose_leader_gave_up_are_led_by_another(make_tool, store, servers):
    tool = make_tool(store, log=True, lanes=1, pool_max=1, operation_timeout="8s")
    with lane_kept(tool):
        (leader,) = queue(tool, [step("put", 3, 2, {})])
        time.sleep(4)  # so that the others have time left when the leader has not
        pending = queue(tool, puts(8), first=1)
        leader.reply().gives("HV_TIMEOUT")
        assert not any(one.done for one in pending)
    assert_stored(tool, [one.reply() for one in pending])
    assert transactions(servers[ONE]) == 1
    assert stored(servers[ONE], 3, 2) == 0


def test_a_batch_that_the_server_does_not_answer_ends_in_time(
    make_tool, relayed_store, own_servers
):
    config, between = relayed_store
    tool = make_tool(config, log=True, lanes=1, pool_max=1, operation_timeout="5s")
    operations = batch_of_both(tool)
    with lane_kept(tool):
        pending = queue(tool, operations)
        between.stall()
    for i, one in enumerate(pending):
        reply = one.reply().gives("HV_OUTCOME_UNKNOWN" if i < 8 else "HV_TIMEOUT")
        assert 4900 <= reply.ms < 5000 + SLACK
    between.resume()
    with lane_kept(tool):
        pending = queue(tool, operations)
    assert_stored(tool, [one.reply() for one in pending[:8]])


@pytest.mark.parametrize("early", [step("put", 3, 2, {}), step("get", NOBODY)], ids=["put", "get"])
@pytest.mark.parametrize("place", ["leader", "follower"])
def test_who_came_early_does_not_wait_for_the_deadline_of_who_came_late(
    make_tool, relayed_store, own_servers, early, place
):
    config, between = relayed_store
    tool = make_tool(config, log=True, lanes=1, pool_max=1, operation_timeout="7s")
    tool.main.put(3, 1, {}).ok()
    with lane_kept(tool):
        first = queue(tool, [early] * 2)
        time.sleep(SLACK / 1000 + 0.5)  # the difference between their deadlines
        late = queue(tool, puts(4), first=2)
        between.stall()
    status = "HV_OUTCOME_UNKNOWN" if early["do"] == "put" else "HV_TIMEOUT"
    reply = first[place == "follower"].reply().gives(status)
    assert 6900 <= reply.ms < 7000 + SLACK
    for one in late:
        reply = one.reply().gives("HV_OUTCOME_UNKNOWN")
        assert reply.ms < 7000 + SLACK
    between.resume()
    first[place != "follower"].reply().gives(status)


def test_the_wait_for_a_lane_is_a_wait_for_a_connection(make_tool, store, servers):
    tool = make_tool(store, log=True, lanes=1, pool_max=1, pool_block_timeout="5s")
    with lane_kept(tool):
        for one in queue(tool, puts(4) + [step("get", NOBODY)] * 2):
            reply = one.reply().gives("HV_TIMEOUT")
            assert 5000 <= reply.ms < 5000 + SLACK
    assert stored_everywhere(servers[ONE]) == 0


def test_a_batch_waits_for_a_connection_as_long_as_a_single_operation(make_tool, store, servers):
    tool = make_tool(store, log=True, lanes=1, pool_max=1, pool_block_timeout="5s")
    (ann,) = tool.threads("ann")
    with lane_kept(tool):
        pending = queue(tool, puts(4) + [step("get", NOBODY)] * 2)
        borrowing = ann.begin.acquire(3)
        tool.await_stats(waiting=1)
    borrowing.reply().ok()
    for one in pending:
        reply = one.reply().gives("HV_TIMEOUT")
        assert reply.message == 'no connection to server "one" came free in time'
        assert 5000 <= reply.ms < 10000 + SLACK
        assert not reply.outcome_unknown
    ann.release().ok()
    assert stored_everywhere(servers[ONE]) == 0


# ---- reserved keys ----


def test_puts_under_keys_share_a_batch_and_each_learns_of_its_own_key(make_tool, store, servers):
    tool = make_tool(store, log=True, lanes=1, pool_max=1)
    keys = tool.main.reserve(3, 9).ok().keys
    tool.main.put_key(keys[0], 1, body(0)).ok()
    tool.main.put_key(keys[1], 1, body(99)).ok()
    with lane_kept(tool):
        before = len(tool.log)
        pending = queue(tool, [step("put_key", key, 1, body(i)) for i, key in enumerate(keys)]
                        + [step("put_key", keys[5], 1, body(5)), step("put_key", keys[6], 1, body(0))])
    replies = [one.reply() for one in pending]
    assert events_of(tool, before)[0].status == "HV_OK"  # all in one statement
    assert transactions(servers[ONE]) == 3
    replies[1].gives("HV_CONFLICT")
    assert sorted([replies[6].status, replies[10].status]) == ["HV_CONFLICT", "HV_OK"]
    for i in (0, 2, 3, 4, 5, 7, 8):
        replies[i].ok()
        assert tool.main.get(keys[i]).ok().dict == body(i)
    replies[9].ok()
    assert stored(servers[ONE], 3) == 9


def test_exactly_once_puts_share_batches_and_bring_their_next_keys(make_tool, store, servers):
    tool = make_tool(store, log=True, lanes=1, pool_max=1, exactly_once="on")
    kinds = itertools.count(1)

    def brought():
        """Did a batch find the keys that the one before had brought? After a second they are too
        old, and it reserves others first."""
        kind = next(kinds)
        with lane_kept(tool):
            before = len(tool.log)
            pending = queue(tool, puts(16, [3, 4], kind=kind))
        replies = [one.reply() for one in pending]
        words = [event.log.split()[0] for event in events_of(tool, before)]
        entities.append((kind, replies))
        return words[:2] == ["WITH", "WITH"]

    entities = []
    eventually(brought)
    for kind, replies in entities:
        assert_stored(tool, replies)
        assert stored_everywhere(servers[ONE], kind) == 16


# ---- the store's end, and its children ----


def test_who_waits_for_a_lane_is_sent_away_when_the_store_is_closed(make_tool, store, servers):
    tool = make_tool(store, log=True, lanes=1, pool_max=1)
    with lane_kept(tool):
        pending = queue(tool, puts(10) + [step("get", NOBODY)] * 2)
        closing = tool.main.begin.close(-1)
        for one in pending:
            one.reply().gives("HV_CLOSED")
        assert not closing.done
    closing.reply().ok()
    assert stored_everywhere(servers[ONE]) == 0


def test_a_child_finds_all_lanes_free_and_its_parents_batch_goes_on(make_tool, store, servers):
    tool = make_tool(store, lanes=1, pool_max=1)
    (ann,) = tool.threads("ann")
    ann.put(4, 3, body(1)).ok()
    with locked(servers[ONE], 3):
        holder = tool.threads("holder")[0].begin.put(3, 0, {})
        eventually(lambda: waiting_for_locks(servers[ONE]) == 1)
        pending = queue(tool, puts(10))
        fork = ann.fork([step("put", 4, 2, body(2)), step("put", 4, 2, body(3))]).ok()
        assert fork.exit_status == 0
        assert [put.ok().status for put in fork.child] == ["HV_OK"] * 2
        assert not any(one.done for one in pending)
    holder.reply().ok()
    assert_stored(tool, [one.reply() for one in pending])
    assert transactions(servers[ONE]) == 1
