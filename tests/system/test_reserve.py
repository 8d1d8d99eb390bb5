"""Reserved keys, and puts under them."""

import concurrent.futures
import os
import subprocess
import time

import psycopg2
import pytest

from harness import eventually, hv, store_config
from harness.server import SUPERUSER, binaries, environment
from harness.store_tool import make_tool  # noqa: F401

pytestmark = pytest.mark.threads

EPOCH = 1379365531352


def init(path, database, **options):
    config = store_config(path, {"one": (database, "1-9")}, **options)
    hv("init", config=config).ok()
    return config


@pytest.fixture(params=["portable", "strict"])
def keys(request):
    return request.param


@pytest.fixture
def database(request, keys):
    """A database whose shards can have keys of that kind."""
    return request.getfixturevalue("extension_server" if keys == "strict" else "server")


@pytest.fixture
def config(tmp_path, database, keys):
    return init(tmp_path / "hypervault.conf", database, keys=keys)


@pytest.fixture
def ann(make_tool, config):
    return make_tool(config).main


def in_sessions(database, count, work):
    """Run work(cursor, number) in that many sessions at once; return what each returned."""

    def run(number):
        with database.connect() as connection, connection.cursor() as cursor:
            return work(cursor, number)

    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


def shard_of(key):
    return key >> 10 & 8191


def created(key):
    """Milliseconds since 1970."""
    return (key >> 23) + EPOCH


def reserve(cursor, count, shard=3):
    cursor.execute(f"SELECT shard{shard:04}.reserve_ids(%s)", (count,))
    return [row[0] for row in cursor.fetchall()]


# ---- reserving ----


@pytest.mark.parametrize("count", [1, 2, 127, 128, 129, 1000, 1025, 100_000])
def test_reserved_keys_are_new_ascending_of_their_shard_and_of_now(ann, count):
    other = ann.put(3, 1, {}).ok().key
    before = time.time() * 1000
    reserved = ann.reserve(3, count).ok().keys
    after = time.time() * 1000
    assert len(reserved) == count
    assert sorted(set(reserved)) == reserved
    assert {shard_of(key) for key in reserved} == {3}
    assert other not in reserved
    # No millisecond has more keys than fit, and the others borrow from the next.
    assert before - 1 <= created(reserved[0])
    assert created(reserved[-1]) <= after + count / 128 + 1
    again = ann.reserve(3, 1).ok().keys
    assert again[0] > reserved[-1]


@pytest.mark.parametrize("count", [0, -1, 100_001, -(2**31)])
def test_so_many_keys_cannot_be_reserved_at_once(ann, count):
    refused = ann.reserve(3, count).gives("HV_INVALID")
    assert refused.message == f"{count} keys cannot be reserved at once: 1 to 100000"


def test_keys_are_reserved_only_of_shards_that_are_there(ann, database):
    assert ann.reserve(17, 1).gives("HV_NO_SERVER").shard == 17
    ann.reserve(8192, 1).gives("HV_INVALID")
    ann.reserve(-1, 1).gives("HV_INVALID")
    database.sql("DROP SCHEMA shard0004 CASCADE")
    assert ann.reserve(4, 1).gives("HV_NOT_INITIALIZED").shard == 4


@pytest.mark.parametrize("count", ["0", "-1", "-1000", "100001", "NULL"])
def test_the_function_itself_refuses_what_would_make_keys_again(database, config, count):
    with database.connect() as connection, connection.cursor() as cursor:
        first = reserve(cursor, 100_000)
        with pytest.raises(psycopg2.Error) as refused:
            cursor.execute(f"SELECT shard0003.reserve_ids({count})")
        assert refused.value.pgcode == "22023"
        assert reserve(cursor, 1)[0] > first[-1]


def test_no_key_is_reserved_twice_nor_made_by_next_id(database, config):
    """16 sessions make keys as fast as they can, in all ways."""

    def work(cursor, number):
        reserved, made = [], []
        for turn in range(30):
            reserved += reserve(cursor, 1 + (number * 37 + turn * 11) % 300)
            cursor.execute("SELECT shard0003.next_id() FROM generate_series(1, 300)")
            made += [row[0] for row in cursor.fetchall()]
            cursor.execute(
                "INSERT INTO shard0003.entities SELECT i, 1, '' FROM shard0003.reserve_ids(7) i"
                " RETURNING id"
            )
            reserved += [row[0] for row in cursor.fetchall()]
        return reserved, made

    results = in_sessions(database, 16, work)
    reserved = [key for result in results for key in result[0]]
    made = [key for result in results for key in result[1]]
    assert len(reserved) > 16 * 30 * 100
    assert len(set(reserved)) == len(reserved)
    assert set(reserved).isdisjoint(made)


def test_reservations_of_a_session_ascend_whatever_others_do(database, config):
    def work(cursor, _):
        return [reserve(cursor, 1)[0] for _ in range(200)]

    for keys in in_sessions(database, 8, work):
        assert sorted(keys) == keys


def test_a_reservation_in_a_long_transaction_holds_up_nobody(ann, database):
    with database.connect() as connection, connection.cursor() as cursor:
        connection.autocommit = False
        first = reserve(cursor, 5)
        assert ann.reserve(3, 1).ok().keys[0] > first[-1]
        assert ann.put(3, 1, {}).ok().ms < 5000
        connection.rollback()
        assert reserve(cursor, 1)[0] > first[-1]


def test_a_reservation_that_fails_holds_up_nobody(ann, database, keys):
    """Whatever lock it held must be gone with the error, though the session lives on."""
    sequence = "reserved_id_seq" if keys == "portable" else "table_id_seq"
    with database.connect() as connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT setval('shard0003.{sequence}', {2**63 - 1})")
        with pytest.raises(psycopg2.Error):
            reserve(cursor, 1)
        cursor.execute(f"SELECT setval('shard0003.{sequence}', 1)")
        assert ann.reserve(3, 1).ok().ms < 5000


# ---- reserved keys survive ----


def test_no_key_is_reserved_again_after_a_crash(request, make_server, tmp_path, keys):
    if keys == "strict":
        database = request.getfixturevalue("make_extension_server")(fsync=True)
    else:
        database = make_server(fsync=True).create_database("test")
    init(tmp_path / "c", database, keys=keys)
    seen = set()
    for _ in range(3):
        # Far ahead of the clock: only what the server remembers keeps them from coming again.
        with database.connect() as connection, connection.cursor() as cursor:
            for _ in range(5):
                reserved = reserve(cursor, 100_000)
                assert seen.isdisjoint(reserved)
                seen.update(reserved)
        database.server.kill9()
        database.server.start()


def client_program(name, database, *args):
    place = database.server.socket_params()
    done = subprocess.run(
        [os.path.join(binaries(), name), "--host", place["host"], "--port", place["port"]]
        + ["--username", SUPERUSER, "--dbname", database.dbname, *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment(),
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_no_key_is_reserved_again_after_a_dump_and_restore(database, config, tmp_path):
    with database.connect() as connection, connection.cursor() as cursor:
        seen = {key for _ in range(5) for key in reserve(cursor, 100_000)}
    file = tmp_path / "dump"
    client_program("pg_dump", database, "--format=custom", f"--file={file}")
    restored = database.server.create_database()
    try:
        client_program("pg_restore", restored, "--exit-on-error", str(file))
        with restored.connect() as connection, connection.cursor() as cursor:
            assert min(reserve(cursor, 1000)) > max(seen)
    finally:
        restored.drop()


# ---- rights ----


def test_the_documented_rights_suffice(make_tool, tmp_path, database, config):
    role = f"app_{database.dbname}"
    database.sql(
        f"CREATE ROLE {role} LOGIN PASSWORD 'app';"
        f"GRANT USAGE ON SCHEMA hypervault, shard0003 TO {role};"
        f"GRANT SELECT ON hypervault.layout TO {role};"
        f"GRANT SELECT, INSERT ON shard0003.entities TO {role};"
        f"GRANT USAGE, UPDATE ON ALL SEQUENCES IN SCHEMA shard0003 TO {role};"
    )
    try:
        params = {**database.params(), "user": role, "password": "app"}
        for exactly_once in ("off", "on"):
            path = store_config(tmp_path / "a", {"one": (params, "1-9")}, exactly_once=exactly_once)
            ann = make_tool(path).main
            key = ann.reserve(3, 2).ok().keys[0]
            ann.put_key(key, 1, {"a": "b"}).ok()
            ann.put_key(key, 1, {"a": "b"}).ok()
            ann.get(ann.put(3, 1, {"a": "c"}).ok().key).ok()
            ann.disconnect()
    finally:
        database.sql(f"DROP OWNED BY {role}; DROP ROLE {role}")


# ---- putting under a key ----


def entities(database, shard=3):
    return database.query(f"SELECT id, type, body::text FROM shard{shard:04}.entities ORDER BY 1")


BODY = {"a": "b", "empty": "", "null": None}


def test_a_put_under_a_key_is_there_and_may_be_repeated(ann, database):
    key = ann.reserve(3, 1).ok().keys[0]
    for _ in range(3):
        ann.put_key(key, 7, BODY).ok()
    got = ann.get(key).ok()
    assert (got.key, got.kind, got.dict) == (key, 7, BODY)
    assert len(entities(database)) == 1


def test_no_attributes_may_be_put_again_too(ann):
    key = ann.reserve(3, 1).ok().keys[0]
    ann.put_key(key, 7, None).ok()
    ann.put_key(key, 7, {}).ok()
    ann.put_key(key, 7, None).ok()
    ann.put_key(key, 7, {"a": None}).gives("HV_CONFLICT")


@pytest.mark.parametrize(
    "kind, body",
    [
        (8, BODY),
        (7, {**BODY, "a": "c"}),
        (7, {**BODY, "a": None}),
        (7, {**BODY, "empty": None}),
        (7, {**BODY, "null": ""}),
        (7, {**BODY, "more": "d"}),
        (7, {"a": "b", "empty": ""}),
        (7, {"A": "b", "empty": "", "null": None}),
        (7, None),
    ],
)
def test_a_put_of_something_else_under_the_same_key_is_a_conflict(ann, database, kind, body):
    key = ann.reserve(3, 1).ok().keys[0]
    ann.put_key(key, 7, BODY).ok()
    before = entities(database)
    conflict = ann.put_key(key, kind, body).gives("HV_CONFLICT")
    assert conflict.message == f"the key {key} has another entity"
    assert (conflict.server, conflict.shard) == ("one", 3)
    assert not conflict.retriable and not conflict.outcome_unknown
    assert conflict.hint == "Use each reserved key for one entity."
    assert entities(database) == before


def test_threads_that_put_the_same_under_one_key_all_succeed(make_tool, config, database):
    tool = make_tool(config)
    threads = tool.threads(*(f"t{i}" for i in range(8)))
    reserved = threads[0].reserve(3, 50).ok().keys
    pending = [thread.begin.put_key(key, 1, BODY) for key in reserved for thread in threads]
    for one in pending:
        one.reply().ok()
    assert [row[0] for row in entities(database)] == reserved


def test_of_threads_that_put_different_things_under_one_key_one_succeeds(
    make_tool, config, database
):
    tool = make_tool(config)
    threads = tool.threads(*(f"t{i}" for i in range(8)))
    reserved = threads[0].reserve(3, 50).ok().keys
    pending = {
        key: {thread.name: thread.begin.put_key(key, 1, {"by": thread.name}) for thread in threads}
        for key in reserved
    }
    for key, puts in pending.items():
        statuses = {name: put.reply().status for name, put in puts.items()}
        winners = [name for name, status in statuses.items() if status == "HV_OK"]
        assert len(winners) == 1
        assert set(statuses.values()) == {"HV_OK", "HV_CONFLICT"}
        assert threads[0].get(key).ok().dict == {"by": winners[0]}
    assert len(entities(database)) == 50


@pytest.mark.parametrize("key", [0, -1, -(2**63)])
def test_what_is_no_key_cannot_be_put_under(ann, key):
    assert ann.put_key(key, 1, {}).gives("HV_INVALID").message == f"{key} is not a key"


def test_a_key_of_a_shard_that_nobody_holds_cannot_be_put_under(ann):
    assert ann.put_key(1 << 23 | 17 << 10, 1, {}).gives("HV_NO_SERVER").shard == 17


def test_a_key_need_not_be_reserved(ann):
    """Keys from elsewhere are taken as they are: the greatest, and one of the first millisecond."""
    for key in (2**63 - 1 - (8191 << 10) + (3 << 10), 3 << 10):
        ann.put_key(key, 1, BODY).ok()
        assert ann.get(key).ok().dict == BODY
        ann.put_key(key, 1, {}).gives("HV_CONFLICT")


def test_a_put_waits_for_another_one_under_its_key_and_takes_its_place_if_it_fails(ann, database):
    key = ann.reserve(3, 1).ok().keys[0]
    with database.connect() as other, other.cursor() as cursor:
        other.autocommit = False
        cursor.execute("INSERT INTO shard0003.entities VALUES (%s, 1, 'a=>x')", (key,))
        putting = ann.begin.put_key(key, 1, BODY)
        eventually(
            lambda: database.value(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = %s"
                " AND wait_event_type = 'Lock'",
                database.dbname,
            )
            == 1
        )
        assert not putting.done
        other.rollback()
    putting.reply().ok()
    assert ann.get(key).ok().dict == BODY


# ---- values that the user wants unique ----


@pytest.fixture
def unique_email(database, config):
    database.sql("CREATE UNIQUE INDEX one_email ON shard0003.entities ((body -> 'email'))")


def refused_email(reply):
    reply.gives("HV_REFUSED")
    assert (reply.sqlstate, reply.constraint) == ("23505", "one_email")
    assert reply.ms < 2000 and not reply.retriable and not reply.outcome_unknown


@pytest.mark.parametrize("exactly_once", ["off", "on"])
def test_a_violated_index_of_the_users_own_is_reported_and_not_tried_again(
    make_tool, tmp_path, database, config, unique_email, exactly_once
):
    path = store_config(tmp_path / "c", {"one": (database, "1-9")}, exactly_once=exactly_once)
    tool = make_tool(path, log=True)
    ann = tool.main
    ann.put(3, 1, {"email": "ada"}).ok()
    before = len(tool.log)
    refused_email(ann.put(3, 1, {"email": "ada"}))
    inserts = [event for event in tool.log[before:] if event.fields["log"].startswith("INSERT")]
    assert len(inserts) <= 1
    ann.put(3, 1, {"email": "bob"}).ok()
    assert len(entities(database)) == 2


def test_a_violated_index_of_the_users_own_is_no_conflict_of_keys(ann, database, unique_email):
    first, second = ann.reserve(3, 2).ok().keys
    ann.put_key(first, 1, {"email": "ada"}).ok()
    refused_email(ann.put_key(second, 1, {"email": "ada"}))
    ann.put_key(first, 1, {"email": "ada"}).ok()  # the key's own
    ann.put_key(first, 1, {"email": "bob"}).gives("HV_CONFLICT")
    ann.put_key(second, 1, {"email": "bob"}).ok()
    assert len(entities(database)) == 2
