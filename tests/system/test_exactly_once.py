"""Puts over connections that are cut at any byte and servers that go down: with the option
exactly_once there is one entity for each put; without it, no reported outcome is wrong."""

import itertools
import re
import time

import pytest

from harness import eventually, hv, make_shards, store_config
from harness.store_tool import make_tool, step  # noqa: F401
from sweeping import DIRECTIONS, Sweep, one, relayed  # noqa: F401
from traffic import Traffic, keys_by_number

# Milliseconds that an operation may end after its deadline, on a busy machine: less than any time-out here,
# so that to wait for one twice is seen.
SLACK = 2500


@pytest.fixture
def stored(one):
    """A function that returns the keys of the entities that were put as {"n": number}."""
    with one.connect(application_name="test harness") as connection, connection.cursor() as cursor:

        def keys(number, shard=3):
            cursor.execute(
                f"SELECT id FROM shard{shard:04}.entities WHERE body -> 'n' = %s", [str(number)]
            )
            return [row[0] for row in cursor.fetchall()]

        yield keys


# ---- cut at any byte ----


def test_a_put_that_is_cut_anywhere_is_reported_as_it_is(make_tool, relayed, stored):
    config, between = relayed()
    ann = make_tool(config).main
    sweep = Sweep(
        between, lambda number: ann.put(3, 1, {"n": str(number)}), lambda: ann.put(3, 2, {}).ok()
    )
    for direction, count, number, reply in sweep:
        where = f"{direction} {count} of {sweep.lengths}"
        if sweep.is_whole(direction, count):
            assert stored(number) == [reply.ok().key]
        else:
            assert reply.status == "HV_OUTCOME_UNKNOWN", where
            if direction == "to_client":
                eventually(lambda: len(stored(number)) == 1, what=where)
            elif not sweep.is_sent_whole(direction, count):
                assert stored(number) == [], where


def test_exactly_once_a_put_that_is_cut_anywhere_is_stored_once(make_tool, relayed, stored):
    config, between = relayed(exactly_once="on")
    ann = make_tool(config).main
    sweep = Sweep(
        between, lambda number: ann.put(3, 1, {"n": str(number)}), lambda: ann.put(3, 2, {}).ok()
    )
    for direction, count, number, reply in sweep:
        assert stored(number) == [reply.ok().key], f"{direction} {count} of {sweep.lengths}"


def test_exactly_once_a_shards_first_put_that_is_cut_anywhere_is_stored_once(
    make_tool, relayed, stored
):
    """It reserves its key, and nothing is prepared: two exchanges, and longer ones."""
    config, between = relayed("0-400", exactly_once="on")
    ann = make_tool(config).main

    def connect():
        ann.acquire(0).ok()
        ann.release().ok()

    # The number of the turn is the shard, so every put is its shard's first. Every third byte: the
    # messages are those of the puts above, with those of PREPARE between them.
    sweep = Sweep(between, lambda number: ann.put(number, 1, {"n": str(number)}), connect, step=3)
    for direction, count, number, reply in sweep:
        where = f"{direction} {count} of {sweep.lengths}"
        assert stored(number, shard=number) == [reply.ok().key], where


def assert_refusal_is_kept(sweep, statuses):
    """Of what is refused and then looked for: that the look is cut off says nothing about the put."""
    met = set()
    for direction, count, _, reply in sweep:
        here = statuses(reply)
        assert here <= {sweep.outcome, "HV_OUTCOME_UNKNOWN"}, f"{direction} {count}: {reply}"
        met |= here
    assert met == {sweep.outcome, "HV_OUTCOME_UNKNOWN"}


def test_exactly_once_a_value_that_must_be_unique_is_the_reason_wherever_it_is_cut(
    make_tool, relayed, one, stored
):
    config, between = relayed(exactly_once="on")
    ann = make_tool(config).main
    one.sql("CREATE UNIQUE INDEX ON shard0003.entities ((body->'n'))")
    ann.put(3, 1, {"n": "1"}).ok()
    sweep = Sweep(
        between,
        lambda _: ann.put(3, 1, {"n": "1"}),
        lambda: ann.reserve(3, 1).ok(),
        step=3,
        outcome="HV_REFUSED",
    )
    assert_refusal_is_kept(sweep, lambda reply: {reply.status})
    assert len(stored(1)) == 1


def test_exactly_once_a_trigger_is_the_reason_wherever_it_is_cut(make_tool, relayed, one, stored):
    config, between = relayed(exactly_once="on", pool_max=1)  # a sweep counts on one connection
    ann = make_tool(config).main
    one.sql("""
        CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
        CREATE TRIGGER swallow BEFORE INSERT ON shard0003.entities FOR EACH ROW
        WHEN (NEW.body ? 'n') EXECUTE FUNCTION swallow()""")
    puts = [{"shard": 3, "kind": 1, "dict": {"n": "1"}}] * 2
    sweep = Sweep(
        between,
        lambda _: ann.put_many(puts),
        lambda: ann.reserve(3, 1).ok(),
        step=7,
        outcome="HV_NOT_STORED",
    )
    assert_refusal_is_kept(sweep, lambda reply: {item["status"] for item in reply.items})
    assert stored(1) == []


def test_a_keyed_put_that_is_cut_anywhere_may_be_repeated(make_tool, relayed, stored):
    config, between = relayed()
    ann = make_tool(config).main
    keys = ann.reserve(3, 1000).ok().keys
    sweep = Sweep(
        between,
        lambda number: ann.put_key(keys[number], 1, {"n": str(number)}),
        lambda: ann.put_key(keys[0], 2, {}).ok(),
    )
    for direction, count, number, reply in sweep:
        where = f"{direction} {count} of {sweep.lengths}"
        if sweep.is_whole(direction, count):
            reply.ok()
        else:
            assert reply.status == "HV_OUTCOME_UNKNOWN", where
        ann.put_key(keys[number], 1, {"n": str(number)}).ok()
        assert stored(number) == [keys[number]], where


def test_a_reservation_that_is_cut_anywhere_is_repeated_unseen(make_tool, relayed):
    config, between = relayed()
    ann = make_tool(config).main
    sweep = Sweep(between, lambda number: ann.reserve(3, 2), lambda: ann.reserve(3, 1).ok())
    seen = set()
    for direction, count, _, reply in sweep:
        keys = reply.ok().keys
        assert len(keys) == 2 and seen.isdisjoint(keys), f"{direction} {count} of {sweep.lengths}"
        seen.update(keys)


# ---- servers that go down ----


def kill9(server):
    server.kill9()


def immediate(server):
    server.stop("immediate")


def fast(server):
    server.stop("fast")


@pytest.mark.parametrize("end", [fast, immediate, kill9])
@pytest.mark.threads
def test_exactly_once_nothing_is_lost_or_doubled_when_the_server_restarts(
    make_tool, one, tmp_path, end
):
    config = store_config(
        tmp_path / "c", {"one": (one, "1-4")}, exactly_once="on", operation_timeout="60s"
    )
    hv("init", config=config).ok()
    with Traffic(make_tool(config, pool_max=16), [1, 2, 3], threads=16) as traffic:
        for _ in range(3):
            end(one.server)
            one.server.start(wait=False)
            traffic.flows()
    traffic.check(one)
    assert traffic.slowest() < 60_000


@pytest.mark.threads
def test_exactly_once_nothing_is_lost_or_doubled_on_a_network_that_cuts_again_and_again(
    make_tool, relayed, one
):
    config, between = relayed("1-4", exactly_once="on", operation_timeout="60s")
    with Traffic(make_tool(config, pool_max=16), [1, 2, 3], threads=16) as traffic:
        for turn in range(30):
            between.cut_in(DIRECTIONS[turn % 2], 1 + 97 * turn)
            traffic.flows(20)
            if turn % 5 == 0:
                between.cut()
    traffic.check(one)


# ---- costs ----


def statements(tool, count):
    """Wait until the log has this many statements on shard 3, and return their first words."""

    def seen():
        words = [event.fields["log"].split()[0] for event in tool.log if event.shard == 3]
        return len(words) >= count and words

    return eventually(seen)


def test_exactly_once_a_put_in_the_steady_state_is_one_statement(make_tool, relayed):
    config, between = relayed(exactly_once="on")
    tool = make_tool(config, log=True)
    tool.main.put(3, 1, {"n": "0"}).ok()
    assert statements(tool, 2) == ["SELECT", "INSERT"]

    def steady():
        """Twenty puts, none of them half a second after the one before: then the key is too old."""
        count = len(statements(tool, 2))
        before = dict(between.bytes)
        for number in range(20):
            tool.main.put(3, 1, {"n": str(number)}).ok()
        assert statements(tool, count + 20)[count:] == 20 * ["INSERT"]
        # That is one exchange each, and the answer brings no more than the next key.
        assert between.bytes["to_server"] - before["to_server"] < 20 * 150
        assert between.bytes["to_client"] - before["to_client"] < 20 * 100
        return True

    eventually(steady)


def test_exactly_once_threads_share_the_reserved_keys_of_a_shard(make_tool, relayed):
    config, _ = relayed(exactly_once="on")
    tool = make_tool(config, log=True, pool_max=8, lanes=0)
    threads = tool.threads(*(f"t{i}" for i in range(8)))
    begun = time.monotonic()
    pending = [thread.begin.put(3, 1, {}) for _ in range(50) for thread in threads]
    keys = {one.reply().ok().key for one in pending}
    assert len(keys) == 400
    seconds = time.monotonic() - begun
    # A thread reserves a key only when it finds none, and after that there is one more; for half
    # a second, if no thread takes it.
    assert 1 <= statements(tool, 401).count("SELECT") <= 8 * (1 + int(2 * seconds))
    assert {event.sqlstate for event in tool.log} == {None}


def created(key):
    """Seconds since 1970."""
    return ((key >> 23) + 1379365531352) / 1000


def test_exactly_once_no_key_is_older_than_its_put_by_more_than_half_a_second(make_tool, relayed):
    config, _ = relayed(exactly_once="on")
    tool = make_tool(config, log=True)
    begun = time.time()
    for _ in range(5):
        key = tool.main.put(3, 1, {}).ok().key
        assert begun - 0.51 <= created(key) <= time.time()
        put = time.time()
        while time.time() < put + 0.51:  # nothing happens meanwhile: that is the point
            time.sleep(0.01)
        begun = time.time()
    assert statements(tool, 10) == 5 * ["SELECT", "INSERT"]


def test_exactly_once_parent_and_child_use_keys_of_their_own(make_tool, relayed, one):
    config, _ = relayed(exactly_once="on")
    tool = make_tool(config, log=True)
    ann = tool.main
    begun = time.monotonic()
    ann.put(3, 1, {"n": "0"}).ok()  # leaves a reserved key behind
    fork = ann.fork([step("put", 3, 1, {"n": "1"}), step("put", 3, 1, {"n": "2"})])
    ann.put(3, 1, {"n": "3"}).ok()
    seconds = time.monotonic() - begun
    assert fork.exit_status == 0
    found = keys_by_number(one, [3])
    assert sorted(found) == [0, 1, 2, 3]
    assert len({key for keys in found.values() for key in keys}) == 4
    # No used key was met. Parent 2, child 3, parent 1; but a key that is kept for half a second
    # is, on a slow machine, reserved anew.
    words = statements(tool, 6)
    assert words.count("INSERT") == 4
    assert words.count("SELECT") <= 2 + int(2 * seconds)
    assert words[:3] == ["SELECT", "INSERT", "SELECT"]
    assert {event.sqlstate for event in tool.log} == {None}


# ---- when it cannot be ----


def test_exactly_once_a_server_that_is_gone_before_anything_was_sent_is_unavailable(
    make_tool, relayed, one
):
    config, between = relayed(exactly_once="on", operation_timeout="3s")
    ann = make_tool(config).main
    ann.put(3, 1, {}).ok()
    between.refuse()
    between.cut()

    seen = []
    eventually(lambda: seen.append(ann.put(3, 1, {})) or seen[-1].status == "HV_UNAVAILABLE")
    for gone in seen:
        # Its time may also end while it is about to connect once more.
        assert gone.status in ("HV_UNAVAILABLE", "HV_TIMEOUT")
        assert gone.retriable and not gone.outcome_unknown
        assert 2900 <= gone.ms < 3000 + SLACK
        assert (gone.server, gone.shard) == ("one", 3)
    assert one.value("SELECT count(*) FROM shard0003.entities") == 1


@pytest.mark.parametrize("direction, count, entities", [("to_server", 5, 1), ("to_client", 1, 2)])
def test_exactly_once_a_server_that_is_gone_for_good_leaves_it_unknown(
    make_tool, relayed, one, direction, count, entities
):
    config, between = relayed(exactly_once="on", operation_timeout="3s")
    ann = make_tool(config).main
    ann.put(3, 1, {}).ok()
    between.refuse()
    between.cut_in(direction, count)
    lost = ann.put(3, 1, {"n": "1"}).gives("HV_OUTCOME_UNKNOWN")
    assert lost.outcome_unknown and not lost.retriable
    assert 2900 <= lost.ms < 3000 + SLACK
    assert (lost.server, lost.shard) == ("one", 3)
    # Its time may also end while it is about to connect once more.
    assert re.fullmatch('Last: could not connect to server "one"( in time)?', lost.detail)
    # The message says under which key to look; and to put it again does no harm.
    assert lost.message.startswith("a put under the key ")
    key = int(lost.message.split()[5])
    eventually(lambda: one.value("SELECT count(*) FROM shard0003.entities") == entities)
    between.refuse(False)
    eventually(lambda: ann.put_key(key, 1, {"n": "1"}).status == "HV_OK")
    assert one.value("SELECT id FROM shard0003.entities WHERE body -> 'n' = '1'") == key
    assert one.value("SELECT count(*) FROM shard0003.entities") == 2


def test_exactly_once_a_server_that_falls_silent_is_given_up_at_the_deadline(
    make_tool, relayed, one
):
    config, between = relayed(
        exactly_once="on", operation_timeout="4s", pool_block_timeout="1500ms"
    )
    tool = make_tool(config)
    tool.main.put(3, 1, {}).ok()
    between.stall()
    silent = tool.main.put(3, 1, {}).gives("HV_OUTCOME_UNKNOWN")
    assert 3900 <= silent.ms < 4000 + SLACK
    # Now no connection can be had, and nothing is sent.
    late = tool.main.put(3, 1, {})
    assert late.status in ("HV_TIMEOUT", "HV_UNAVAILABLE") and late.retriable
    assert 3900 <= late.ms < 4000 + SLACK
    between.resume()
    eventually(lambda: tool.main.put(3, 1, {}).status == "HV_OK")


def test_exactly_once_a_reservation_into_the_silence_wrote_nothing(make_tool, relayed, one):
    config, between = relayed(exactly_once="on", operation_timeout="3s")
    tool = make_tool(config)
    tool.main.acquire(3).ok()
    tool.main.release().ok()
    between.stall()
    late = tool.main.put(3, 1, {}).gives("HV_TIMEOUT")
    assert late.retriable and 2900 <= late.ms < 3000 + SLACK
    between.resume()
    assert one.value("SELECT count(*) FROM shard0003.entities") == 0


def test_exactly_once_a_put_that_the_server_refuses_is_not_repeated(make_tool, relayed, one):
    config, _ = relayed(exactly_once="on")
    tool = make_tool(config, log=True)
    tool.main.put(3, 1, {"a": "1"}).ok()
    one.sql("ALTER TABLE shard0003.entities ADD CHECK (body -> 'a' <> '2')")
    refused = tool.main.put(3, 1, {"a": "2"}).gives("HV_REFUSED")
    assert (refused.sqlstate, refused.constraint) == ("23514", "entities_body_check")
    assert refused.ms < SLACK  # it would be repeated for 30 s
    assert statements(tool, 3).count("INSERT") == 2
    tool.main.put(3, 1, {"a": "3"}).ok()


def test_exactly_once_a_refusal_that_passes_is_waited_for(make_tool, relayed, one):
    config, _ = relayed(exactly_once="on")
    tool = make_tool(config)
    tool.main.put(3, 1, {"n": "0"}).ok()
    one.sql(f"ALTER DATABASE {one.dbname} SET lock_timeout TO '100ms'")
    tool.main.disconnect()
    with one.connect() as blocker:
        blocker.autocommit = False
        blocker.cursor().execute("LOCK TABLE shard0003.entities")
        putting = tool.main.begin.put(3, 1, {"n": "1"})
        eventually(lambda: "lock timeout" in one.server.log_text())
        assert not putting.done
    putting.reply().ok()
    assert len(keys_by_number(one, [3])[1]) == 1


def test_exactly_once_an_entity_that_lies_under_the_reserved_key_is_another(
    make_tool, relayed, one
):
    """Though it has the same content: another program chose that key, and put it there."""
    config, _ = relayed(exactly_once="on", keys="portable")
    tool = make_tool(config)
    tool.main.put(3, 1, {"n": "1"}).ok()
    number = one.value("SELECT last_value FROM shard0003.reserved_id_seq")
    reserved = (number // 128) << 23 | 3 << 10 | (896 + number % 128)
    one.sql("INSERT INTO shard0003.entities VALUES (%s, 1, 'n=>2')", reserved)
    key = tool.main.put(3, 1, {"n": "2"}).ok().key
    assert key > reserved
    assert keys_by_number(one, [3])[2] == [reserved, key]


def test_exactly_once_is_an_error_when_the_shard_cannot_reserve_keys(make_tool, relayed, one):
    config, _ = relayed(exactly_once="on")
    one.sql("DROP FUNCTION shard0003.reserve_ids(integer)")
    result = make_tool(config).main.put(3, 1, {}).gives("HV_NOT_INITIALIZED")
    assert result.message == 'shard 3 on server "one" cannot reserve keys'
    assert result.shard == 3 and not result.retriable and result.ms < SLACK
