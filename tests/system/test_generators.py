"""The generators of a shard's keys: portable and strict functions, and changing them while in use.
"""

import concurrent.futures
import contextlib
import re
import time

import pytest

from harness import eventually, hv, store_config
from harness.store_tool import make_tool  # noqa: F401
from traffic import Traffic, keys_by_number

pytestmark = pytest.mark.threads

SHARDS = range(1, 5)


class Init:
    """Run `hv init` on a database with these options, and return the Result."""

    def __init__(self, path):
        self.path = path  # of the configuration

    def __call__(self, database, **options):
        store_config(self.path, {"one": (database, "1-5")}, **options)
        return hv("init", config=self.path)


@pytest.fixture
def init(tmp_path):
    return Init(str(tmp_path / "hypervault.conf"))


@pytest.fixture
def bare(request, shared_extension_server):
    """A database without the extension, on a server that has its files."""
    database = shared_extension_server.create_database()
    yield database
    database.drop()


def make_original(database, shard=3, header="next_id(OUT result bigint)"):
    """A shard as it was made before hypervault."""
    schema = f"shard{shard:04}"
    database.sql(
        "CREATE EXTENSION IF NOT EXISTS hstore;"
        f"CREATE SCHEMA {schema};"
        f"CREATE SEQUENCE {schema}.table_id_seq;"
        f"CREATE FUNCTION {schema}.{header} LANGUAGE plpgsql AS $$"
        "  DECLARE n bigint; ms bigint;"
        "  BEGIN"
        f"    SELECT nextval('{schema}.table_id_seq') % 1024 INTO n;"
        "    SELECT floor(extract(epoch FROM clock_timestamp()) * 1000) INTO ms;"
        f"    {'RETURN' if 'RETURNS' in header else 'result :='}"
        f"      (ms - 1379365531352) << 23 | ({shard} << 10) | n;"
        "  END $$;"
        f"CREATE TABLE {schema}.entities (id bigint PRIMARY KEY DEFAULT {schema}.next_id(),"
        "  type smallint NOT NULL, body hstore NOT NULL, updated timestamp DEFAULT now());"
    )


def kinds(database):
    """{shard: the generator of its keys}, according to the functions' text."""
    found = {}
    for shard, source in database.query(
        "SELECT substr(nspname, 6)::int, prosrc FROM pg_proc p JOIN pg_namespace n"
        " ON n.oid = pronamespace WHERE proname = 'next_id' AND nspname LIKE 'shard%'"
    ):
        strict = "hypervault.next_id(" in source
        portable = "hypervault: portable" in source
        assert not (strict and portable)
        found[shard] = "strict" if strict else "portable" if portable else "original"
    return found


def all_are(kind):
    return dict.fromkeys(SHARDS, kind)


def added_id(key):
    return key & 1023


def reserve(database, count, shard=3):
    rows = database.query(f"SELECT shard{shard:04}.reserve_ids(%s)", count)
    return [row[0] for row in rows]


# ---- which functions a shard gets ----


def test_auto_makes_keys_strict_where_the_extension_can_be_had(init, bare):
    init(bare).ok()
    assert kinds(bare) == all_are("strict")
    assert bare.value("SELECT extversion FROM pg_extension WHERE extname = 'hypervault'")


def test_auto_makes_keys_portable_where_the_extension_cannot_be_had(init, server):
    init(server).ok()
    assert kinds(server) == all_are("portable")


def test_portable_needs_no_extension_and_makes_none(init, bare):
    init(bare, keys="portable").ok()
    assert kinds(bare) == all_are("portable")
    assert bare.value("SELECT count(*) FROM pg_extension WHERE extname = 'hypervault'") == 0


def test_strict_keys_where_the_extension_cannot_be_had_are_an_error_that_says_why(init, server):
    result = init(server, keys="strict")
    assert result.code == 1
    assert 'could not create the extension hypervault on server "one"' in result.err
    assert 'extension "hypervault" is not available' in result.err
    assert "Install hypervault's extension on the server's machine." in result.err
    assert kinds(server) == {}


def test_nobody_who_reads_the_servers_log_is_alarmed_by_what_is_not_there(init, server):
    init(server).ok()
    log = server.server.log_text()
    assert not [line for line in log.splitlines() if server.dbname in line and "ERROR" in line]


def test_auto_changes_nothing_that_is_there(init, bare):
    for shard in SHARDS:
        make_original(bare, shard)
    for keys in ("auto", "portable", "auto", "strict", "auto"):
        before = kinds(bare)
        result = init(bare, keys=keys).ok()
        assert kinds(bare) == (all_are(keys) if keys != "auto" else before)
        assert result.lines[1].split()[2] == ("0" if keys == "auto" else "4")  # created
    assert kinds(bare) == all_are("strict")


def test_auto_makes_no_extension_for_shards_that_are_there(init, bare):
    for shard in SHARDS:
        make_original(bare, shard)
    init(bare).ok()
    assert bare.value("SELECT count(*) FROM pg_extension WHERE extname = 'hypervault'") == 0


@pytest.fixture
def old_extension(extension_server):
    extension_server.sql("UPDATE pg_extension SET extversion = '0.9' WHERE extname = 'hypervault'")
    return extension_server


def test_an_extension_that_is_too_old_is_reported(init, old_extension):
    result = init(old_extension, keys="strict")
    assert result.code == 1
    assert 'the extension hypervault on server "one" is too old' in result.err
    assert "It has version 0.9; this library needs 1.0." in result.err
    assert "ALTER EXTENSION hypervault UPDATE" in result.err
    assert kinds(old_extension) == {}


def test_auto_does_without_an_extension_that_is_too_old(init, old_extension):
    init(old_extension).ok()
    assert kinds(old_extension) == all_are("portable")


def test_runs_at_the_same_time_do_not_mix_functions(init, bare, tmp_path):
    paths = [
        store_config(tmp_path / f"{i}.conf", {"one": (bare, "1-5")}, keys=keys)
        for i, keys in enumerate(["strict", "portable", "auto", "strict", "portable", "auto"])
    ]
    with concurrent.futures.ThreadPoolExecutor() as pool:
        for result in pool.map(lambda path: hv("init", config=path), paths):
            result.ok()
    for shard in SHARDS:
        keys = reserve(bare, 300, shard)
        reserved_apart = all(added_id(key) >= 896 for key in keys)
        assert reserved_apart == (kinds(bare)[shard] == "portable")
    assert hv("status", config=paths[0]).code == 0


# ---- portable keys that collide ----


def slow_down(database, tick_ms, modulus, shard=3):
    """Make a portable next_id() repeat keys: its clock ticks slowly, its sequence is short."""
    schema = f"shard{shard:04}"
    source = database.value(f"SELECT pg_get_functiondef('{schema}.next_id()'::regprocedure)")
    clock = r"\((pg_catalog\.floor\(.*?\)::bigint)"
    slow, clocks = re.subn(clock, rf"((\1 / {tick_ms} * {tick_ms})", source)
    slow, moduli = re.subn(r"'896'::bigint", f"'{modulus}'::bigint", slow)
    assert (clocks, moduli) == (1, 1), source
    database.sql(slow)


@pytest.mark.parametrize("tick_ms, modulus", [(100, 8), (1, 1)])
def test_a_key_made_twice_is_met_with_another_one(make_tool, init, server, tick_ms, modulus):
    init(server, keys="portable").ok()
    slow_down(server, tick_ms, modulus)
    tool = make_tool(init.path, pool_max=16, log=True)
    with Traffic(tool, [3], threads=16) as traffic:
        traffic.flows(150)
        eventually(lambda: sum(event.sqlstate == "23505" for event in tool.log) > 10)
    traffic.check(server)
    ann = tool.main
    for number, reply in traffic.replies.items():
        assert ann.get(reply.key).ok().dict == {"n": str(number)}


def test_a_shard_that_makes_no_other_key_is_reported_at_the_deadline(make_tool, init, server):
    init(server, keys="portable").ok()
    server.sql(
        "CREATE OR REPLACE FUNCTION shard0003.next_id(OUT result bigint) LANGUAGE sql"
        " AS 'SELECT 1::bigint << 23 | 3 << 10'"
    )
    ann = make_tool(init.path, operation_timeout="3s").main
    ann.put(3, 1, {"n": "1"}).ok()

    def put_refused():
        outcome = ann.put(3, 1, {"n": "2"})
        if outcome.status == "HV_OUTCOME_UNKNOWN":  # sent a moment before the deadline
            return None
        return outcome.gives("HV_REFUSED")

    outcome = eventually(put_refused)
    assert (outcome.sqlstate, outcome.constraint) == ("23505", "entities_pkey")
    assert 2900 < outcome.ms < 5500
    assert outcome.retriable and "clock may have been set back" in outcome.hint
    assert list(keys_by_number(server, [3])) == [1]


def test_portable_keys_of_one_session_do_not_repeat_however_fast_they_are_made(init, server):
    """Reserved keys have a part of their own, so next_id() has 896 for a millisecond."""
    init(server, keys="portable").ok()
    keys = [row[0] for row in server.query("SELECT shard0003.next_id() FROM generate_series(1, 896)")]
    assert len(set(keys)) == 896
    assert max(map(added_id, keys)) < 896
    assert min(map(added_id, reserve(server, 1000))) >= 896


def test_what_others_put_into_the_search_path_does_not_make_keys(make_tool, init, server):
    init(server, keys="portable").ok()
    server.sql(
        "CREATE SCHEMA evil;"
        "CREATE FUNCTION evil.evil(bigint, int) RETURNS bigint LANGUAGE sql AS 'SELECT 666::bigint';"
        "CREATE FUNCTION evil.evil(float8, int) RETURNS float8 LANGUAGE sql AS 'SELECT 666::float8';"
        "CREATE OPERATOR evil.| (LEFTARG = bigint, RIGHTARG = int, FUNCTION = evil.evil);"
        "CREATE OPERATOR evil.% (LEFTARG = bigint, RIGHTARG = int, FUNCTION = evil.evil);"
        "CREATE OPERATOR evil.- (LEFTARG = bigint, RIGHTARG = int, FUNCTION = evil.evil);"
        "CREATE OPERATOR evil.* (LEFTARG = float8, RIGHTARG = int, FUNCTION = evil.evil);"
        "CREATE FUNCTION evil.floor(float8) RETURNS float8 LANGUAGE sql AS 'SELECT 666::float8';"
        "CREATE FUNCTION evil.clock_timestamp() RETURNS timestamptz LANGUAGE sql"
        " AS 'SELECT to_timestamp(0)';"
        "CREATE FUNCTION evil.nextval(regclass) RETURNS bigint LANGUAGE sql AS 'SELECT 666::bigint';"
    )
    with server.connect(options="-c search_path=evil,pg_catalog,public") as connection:
        with connection.cursor() as cursor:
            for function in ("next_id()", "reserve_ids(1)"):
                cursor.execute(f"SELECT shard0003.{function}")
                key = cursor.fetchone()[0]
                assert key >> 10 & 8191 == 3
                assert abs((key >> 23) + 1379365531352 - time.time() * 1000) < 5000
                assert added_id(key) != 666


# ---- changing them while in use ----


def write_time(database, shard):
    """{key: when it was committed}; needs track_commit_timestamp."""
    return database.query(
        f"SELECT id, pg_xact_commit_timestamp(xmin) FROM shard{shard:04}.entities"
    )


def change_time(database, shard):
    """When the functions of a shard were changed."""
    return database.value(
        "SELECT pg_xact_commit_timestamp(xmin) FROM pg_proc"
        f" WHERE oid = 'shard{shard:04}.next_id()'::regprocedure"
    )


def change_under_traffic(make_tool, init, database, kinds_in_turn, **options):
    for shard in SHARDS:
        make_original(database, shard)
    init(database).ok()
    changes = {shard: [] for shard in SHARDS}
    tool = make_tool(init.path, pool_max=8, **options)
    with Traffic(tool, list(SHARDS), threads=8) as traffic:
        for keys in kinds_in_turn:
            init(database, keys=keys).ok()
            assert kinds(database) == all_are(keys)
            for shard in SHARDS:
                changes[shard].append(change_time(database, shard))
            traffic.flows()
    traffic.check(database)
    return traffic, changes


def check_order(database, changes):
    """At every change, the keys that were committed before are less than those after it."""
    for shard, moments in changes.items():
        written = write_time(database, shard)
        for moment in moments:
            before = [key for key, committed in written if committed < moment]
            after = [key for key, committed in written if committed > moment]
            assert len(before) + len(after) == len(written)
            assert before and after and max(before) < min(after)


@pytest.fixture
def tracked(make_extension_server):
    """A database with the extension, on a server that records when a row was committed."""
    return make_extension_server(settings={"track_commit_timestamp": "on"})


def test_keys_are_changed_under_traffic_without_a_failure_and_never_go_back(
    make_tool, init, tracked
):
    turns = ["portable", "strict", "portable", "strict", "strict", "portable", "strict"]
    traffic, changes = change_under_traffic(make_tool, init, tracked, turns)
    check_order(tracked, changes)
    assert traffic.slowest() < 5000


def test_keys_are_changed_from_original_to_strict_under_traffic(make_tool, init, tracked):
    _, changes = change_under_traffic(make_tool, init, tracked, ["strict"])
    check_order(tracked, changes)


def test_exactly_once_goes_on_while_keys_are_changed(make_tool, init, extension_server):
    init(extension_server, keys="portable").ok()
    tool = make_tool(init.path, pool_max=8, exactly_once="on", log=True)
    with Traffic(tool, list(SHARDS), threads=8) as traffic:
        for keys in ["strict", "portable"] * 4:
            init(extension_server, keys=keys).ok()
            traffic.flows()
    traffic.check(extension_server)
    assert {event.sqlstate for event in tool.log} == {None}  # no reserved key was met again


def test_a_function_of_another_form_is_changed_too(make_tool, init, extension_server):
    make_original(extension_server, 3, header="next_id() RETURNS bigint")
    for keys in ("strict", "portable"):
        init(extension_server, keys=keys).ok()
        assert kinds(extension_server)[3] == keys
        make_tool(init.path).main.put(3, 1, {}).ok()


# ---- reserving keys while they are changed ----


def change_script(init, database, keys, shard=3):
    """The SQL with which `hv init` changes a shard: it is done, and the server's log has it."""
    database.sql(f"ALTER DATABASE {database.dbname} SET log_statement TO 'all'")
    since = database.server.log_size()
    init(database, keys=keys).ok()
    database.sql(f"ALTER DATABASE {database.dbname} RESET log_statement")
    log = database.server.log_text(since)
    statements = re.findall(r"statement: (.*(?:\n\t.*)*)", log)
    changing = f"LOCK TABLE shard{shard:04}.entities IN SHARE ROW EXCLUSIVE MODE;"
    (script,) = [text.replace("\n\t", "\n") for text in statements if changing in text]
    return script


@pytest.mark.parametrize("old, new", [("portable", "strict"), ("strict", "portable")])
def test_who_is_in_the_old_function_when_it_is_changed_gets_keys_of_the_new_one(
    init, extension_server, old, new
):
    database = extension_server
    init(database, keys=old).ok()
    script = change_script(init, database, new)
    change_script(init, database, old)
    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(concurrent.futures.ThreadPoolExecutor(8))
        changer = stack.enter_context(database.connect())
        changer.autocommit = False
        changing = changer.cursor()
        changing.execute("LOCK TABLE shard0003.entities IN SHARE ROW EXCLUSIVE MODE")
        begun = [pool.submit(reserve, database, 500) for _ in range(8)]
        eventually(
            lambda: database.value(
                "SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'RowExclusiveLock'"
                " AND relation = 'shard0003.entities'::regclass"
            )
            == 8
        )
        assert not any(one.done() for one in begun)
        changing.execute(script)
        changer.commit()
        keys = [key for one in begun for key in one.result(30)]
    assert len(set(keys)) == 8 * 500
    assert all(added_id(key) >= 896 for key in keys) == (new == "portable")
    later = [row[0] for row in database.query("SELECT shard0003.next_id() FROM generate_series(1, 9)")]
    assert set(later).isdisjoint(keys)


# ---- obstacles to a change ----


def test_a_long_transaction_keeps_a_shard_as_it_is_and_hardly_holds_up_writers(
    make_tool, init, extension_server
):
    database = extension_server
    init(database, keys="portable").ok()
    tool = make_tool(init.path)
    with contextlib.ExitStack() as stack:
        traffic = stack.enter_context(Traffic(tool, [3], threads=4))
        long = stack.enter_context(database.connect())
        long.autocommit = False
        long.cursor().execute("INSERT INTO shard0003.entities (type, body) VALUES (2, 'n=>0')")
        result = init(database, keys="strict", operation_timeout="8s")
        assert result.code == 1
        assert 'could not change shard 3 on server "one": it is in use' in result.err
        assert "canceling statement due to lock timeout" in result.err
        assert "when no long transaction is writing to it" in result.err
        # The shards before it are changed, this one and those behind are as they were.
        assert kinds(database) == {1: "strict", 2: "strict", 3: "portable", 4: "portable"}
        long.rollback()
        init(database, keys="strict", operation_timeout="30s").ok()
        traffic.flows()
    assert kinds(database) == all_are("strict")
    traffic.check(database)
    assert traffic.slowest() < 7000  # not as long as the change was tried


def test_autovacuum_gives_way_to_a_change(init, make_extension_server):
    """It has a lock that is in the way, and gives it up when others have waited long enough."""
    database = make_extension_server(settings={"autovacuum_naptime": "1s"})
    init(database, keys="portable").ok()
    database.sql(
        "INSERT INTO shard0003.entities (type, body)"
        " SELECT 1, hstore('n', repeat('x', 500)) FROM generate_series(1, 20000);"
        "DELETE FROM shard0003.entities;"
        "ALTER TABLE shard0003.entities SET (autovacuum_vacuum_threshold = 0,"
        " autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_cost_delay = 100,"
        " autovacuum_vacuum_cost_limit = 1)"
    )
    busy = "SELECT count(*) FROM pg_stat_progress_vacuum WHERE relid = 'shard0003.entities'::regclass"
    eventually(lambda: database.value(busy) == 1)
    init(database, keys="strict", operation_timeout="20s").ok()
    assert kinds(database) == all_are("strict")
    assert "canceling autovacuum task" in database.server.log_text()


@pytest.mark.parametrize("ahead", ["an hour", "all the time there is"])
@pytest.mark.parametrize("old, new", [("portable", "strict"), ("strict", "portable")])
def test_a_shard_with_keys_of_the_far_future_is_left_as_it_is(
    init, extension_server, old, new, ahead
):
    database = extension_server
    init(database, keys=old).ok()
    milliseconds = int(time.time() * 1000) - 1379365531352 + 3_600_000
    if ahead != "an hour":
        milliseconds = 2**40 - 1
    key = milliseconds << 23 | 3 << 10
    database.sql("INSERT INTO shard0003.entities VALUES (%s, 1, '')", key)
    begun = time.monotonic()
    result = init(database, keys=new, operation_timeout="60s")
    assert time.monotonic() - begun < 30  # waiting for it would be in vain
    assert result.code == 1
    assert re.search(r"the keys of shard0003 are \d+ ms ahead of the clock", result.err)
    assert "Check the server's clock" in result.err
    assert kinds(database)[3] == old
    assert len(reserve(database, 3)) == 3
    init(database).ok()


def test_strict_keys_that_are_a_little_ahead_are_waited_for(make_tool, init, extension_server):
    database = extension_server
    init(database, keys="strict").ok()
    ahead = database.value(
        "SELECT hypervault.make_key(clock_timestamp() + interval '12 seconds', 3)"
    )
    database.sql("SELECT hypervault.advance('shard0003.table_id_seq', %s)", ahead)
    result = init(database, keys="portable", operation_timeout="4s")
    assert result.code == 1
    assert "ahead of the clock" in result.err
    assert "when the clock has passed them" in result.err
    assert kinds(database)[3] == "strict"
    init(database, keys="portable", operation_timeout="60s").ok()
    assert kinds(database)[3] == "portable"
    assert make_tool(init.path).main.put(3, 1, {}).ok().key > ahead
    assert reserve(database, 1)[0] > ahead


# ---- missing parts ----


MISSING = {
    "sequence": "DROP SEQUENCE shard0003.table_id_seq",
    "reserved": "DROP SEQUENCE IF EXISTS shard0003.reserved_id_seq, shard0003.retired_id_seq",
    "reserve_ids": "DROP FUNCTION shard0003.reserve_ids(integer)",
    "next_id": "DROP FUNCTION shard0003.next_id() CASCADE",
    "default": "ALTER TABLE shard0003.entities ALTER id DROP DEFAULT",
    "next_id and sequence": "DROP FUNCTION shard0003.next_id() CASCADE;"
    "DROP SEQUENCE shard0003.table_id_seq",
}


@pytest.mark.parametrize("keys", ["portable", "strict"])
@pytest.mark.parametrize("missing", MISSING)
@pytest.mark.parametrize("then", ["the same", "auto"])
def test_what_is_missing_is_made_again_and_no_key_with_it(
    make_tool, init, extension_server, keys, missing, then
):
    database = extension_server
    init(database, keys=keys).ok()
    # These are ahead of the clock.
    with database.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT shard0003.reserve_ids(100000)")
        cursor.execute("SELECT max(i) FROM shard0003.reserve_ids(100000) i")
        last = cursor.fetchone()[0]
    database.sql("INSERT INTO shard0003.entities VALUES (%s, 1, '')", last)
    database.sql(MISSING[missing])
    needed = not (missing == "reserved" and keys == "strict")
    assert hv("status", config=init.path).code == (1 if needed else 0)
    init(database, keys=keys if then == "the same" else "auto").ok()
    assert hv("status", config=init.path).code == 0
    new = "strict" if "next_id" in missing and then == "auto" else keys
    assert kinds(database)[3] == new
    assert reserve(database, 1)[0] > last
    make_tool(init.path).main.put(3, 1, {}).ok()
    made = database.value("SELECT shard0003.next_id()")
    assert made > last or keys == "portable"


def test_a_shard_without_table_gets_all_that_is_missing(make_tool, init, server):
    init(server, keys="portable").ok()
    server.sql("DROP TABLE shard0003.entities; DROP FUNCTION shard0003.reserve_ids(integer)")
    init(server).ok()
    assert hv("status", config=init.path).code == 0
    ann = make_tool(init.path).main
    ann.put_key(ann.reserve(3, 1).ok().keys[0], 1, {}).ok()


def test_original_shards_reserve_nothing_until_they_are_changed(make_tool, init, server):
    make_original(server)
    init(server).ok()
    ann = make_tool(init.path).main
    result = ann.reserve(3, 1).gives("HV_NOT_INITIALIZED")
    assert result.message == 'shard 3 on server "one" cannot reserve keys'
    assert result.hint == "Run `hv init --keys=strict` or `hv init --keys=portable`."
    key = ann.put(3, 1, {"a": "b"}).ok().key
    ann.put_key(key + 1, 1, {"c": "d"}).ok()  # that needs no reservation
    init(server, keys="portable").ok()
    assert ann.reserve(3, 1).ok().keys[0] > key
    ann.put_key(ann.reserve(3, 1).ok().keys[0], 1, {}).ok()
