"""What can be wrong with a move: clear errors, and nothing is left half done."""

import concurrent.futures
import contextlib
import threading

import psycopg2
from harness.config import store_config
from harness.moving import (
    Stepping,
    assert_nothing_left,
    fill,
    has_shard,
    move,
    moving_servers,
    moving_store,
    reached,
    run_move,
    shared_moving_servers,
)

FIXTURES = (moving_servers, moving_store, shared_moving_servers)


def check_untouched(one, two):
    assert has_shard(one, 3) and not has_shard(two, 3)
    assert_nothing_left(one, two)


def test_to_the_server_that_it_is_on(moving_store, moving_servers):
    moved = move(moving_store, 3, 0)
    assert moved.error == 'shard 3 is on server "one" already'
    check_untouched(*moving_servers)


def test_to_a_server_that_does_not_exist(moving_store, moving_servers):
    moved = move(moving_store, 3, 7)
    assert moved.status == 2, moved
    check_untouched(*moving_servers)


def test_a_shard_that_nobody_has(moving_store, moving_servers):
    moved = move(moving_store, 77, 1)
    assert moved.status == 4, moved
    check_untouched(*moving_servers)


def test_nothing_to_resume_or_to_take_back(moving_store, moving_servers):
    for order in ("resume", "abort"):
        assert run_move(moving_store, order, 3).error == "no move of shard 3 is under way"
    assert run_move(moving_store, "clean", 3).error == "no old copy of shard 3 is kept"


def test_to_a_database_under_another_name(tmp_path, moving_store, moving_servers):
    one, two = moving_servers
    path = store_config(
        tmp_path / "other.conf", {"one": (reached(one), "1-4"), "three": (reached(two), "9")}
    )
    moved = move(path, 3, 1)
    assert moved.status == 10, moved
    assert '"two"' in repr(moved.said), moved.said
    check_untouched(one, two)


def test_to_a_database_that_is_not_initialised(tmp_path, moving_store, moving_servers):
    one, two = moving_servers
    empty = two.server.create_database()
    try:
        path = store_config(
            tmp_path / "other.conf", {"one": (reached(one), "1-4"), "three": (reached(empty), "9")}
        )
        moved = move(path, 3, 1)
        assert moved.error == 'server "three" is not initialised', moved
        check_untouched(one, two)
        assert empty.value("SELECT to_regnamespace('hypervault') IS NULL")
    finally:
        empty.drop()


def test_two_moves_of_one_shard(moving_store, moving_servers):
    one, two = moving_servers
    fill(one, 3, 10)
    with Stepping(moving_store, "move", 3, 1, place="catching_up") as first:
        assert first.came
        second = move(moving_store, 3, 1, max_wait="1s")
        assert second.error == "another run is working on shard 3", second
        assert "hv move" in second.detail
        first.go_on()
        first.end().ok("done")
    assert has_shard(two, 3)
    assert_nothing_left(one, two)


def test_a_long_transaction_is_waited_for_and_named(moving_store, moving_servers):
    one, two = moving_servers
    with one.connect() as connection, connection.cursor() as cursor:
        cursor.execute("BEGIN; INSERT INTO shard0003.entities (type, body) VALUES (1, '')")
        moved = move(moving_store, 3, 1, max_wait="1s")
        assert moved.status == 5, moved
        assert f"process {connection.info.backend_pid} " in moved.detail
        assert "idle in transaction for" in moved.detail
        cursor.execute("ROLLBACK")
    check_untouched(one, two)


def test_a_reader_at_the_switch_is_waited_for_and_named(moving_store, moving_servers):
    one, two = moving_servers
    with Stepping(moving_store, "move", 3, 1, place="ready", max_wait="1s") as stepping:
        with one.connect() as connection, connection.cursor() as cursor:
            cursor.execute("BEGIN; SELECT count(*) FROM shard0003.entities")
            stepping.go_on()
            moved = stepping.end()
            assert moved.status == 5, moved
            assert f"process {connection.info.backend_pid} " in moved.detail
            cursor.execute("ROLLBACK")
    run_move(moving_store, "resume", 3).ok("done")
    assert has_shard(two, 3)
    assert_nothing_left(one, two)


def test_transactions_that_never_leave_a_gap_do_not_keep_a_shard_from_moving(
    moving_store, moving_servers
):
    """Each is short, but there is always one that goes on for longer than the first waits."""
    one, two = moving_servers
    fill(one, 3, 10)
    stop = threading.Event()

    def overlap(number):
        with one.connect() as connection, connection.cursor() as cursor:
            cursor.execute("SELECT pg_sleep(%s)", [number * 0.05])
            while not stop.is_set():
                with contextlib.suppress(psycopg2.errors.UndefinedTable):  # it has gone
                    cursor.execute("SELECT pg_sleep(0.2) FROM shard0003.entities LIMIT 1")

    with concurrent.futures.ThreadPoolExecutor() as pool:
        readers = [pool.submit(overlap, number) for number in range(8)]
        try:
            move(moving_store, 3, 1, max_wait="15s").ok("done")
        finally:
            stop.set()
        for reader in readers:
            reader.result()
    assert has_shard(two, 3)
    assert_nothing_left(one, two)


def test_a_table_that_appears_meanwhile_ends_the_move(moving_store, moving_servers):
    one, two = moving_servers
    with Stepping(moving_store, "move", 3, 1, place="verifying") as stepping:
        one.sql("CREATE TABLE shard0003.later (id bigint PRIMARY KEY)")
        stepping.go_on()
        moved = stepping.end()
    assert moved.status == 10, moved
    assert "later" in moved.detail
    assert "taken back" in moved.hint
    check_untouched(one, two)


def test_a_row_that_differs_ends_the_move(moving_store, moving_servers):
    one, two = moving_servers
    fill(one, 3, 10)
    with Stepping(moving_store, "move", 3, 1, place="catching_up") as stepping:
        schema = two.value("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'hypervault\\_0003%'")
        two.sql(f"UPDATE {schema}.entities SET type = 2 WHERE id = (SELECT min(id)"
                f" FROM {schema}.entities)")
        stepping.go_on()
        moved = stepping.end()
    assert moved.status == 10, moved
    assert "differs" in moved.error and "entities" in moved.detail
    check_untouched(one, two)


def test_too_much_wal_ends_the_move(moving_store, moving_servers):
    one, two = moving_servers
    with Stepping(moving_store, "move", 3, 1, place="catching_up", max_wal="1MB") as stepping:
        (name,) = two.query("SELECT subname FROM pg_subscription WHERE subname LIKE 'hypervault%'")[0]
        two.sql(f"ALTER SUBSCRIPTION {name} DISABLE")
        one.sql("CREATE TABLE public.noise AS SELECT repeat('x', 1000) FROM generate_series(1, 5000)")
        stepping.go_on()
        moved = stepping.end()
    assert moved.status == 10, moved
    assert "of WAL" in moved.error
    check_untouched(one, two)


def test_a_role_that_the_target_lacks(moving_store, moving_servers):
    one, two = moving_servers
    one.sql("DROP ROLE IF EXISTS only_here")
    one.sql("CREATE ROLE only_here")
    one.sql("GRANT SELECT ON shard0003.entities TO only_here")
    try:
        moved = move(moving_store, 3, 1)
        assert 'role "only_here" does not exist' in moved.error, moved
        check_untouched(one, two)
    finally:
        one.sql("DROP OWNED BY only_here")
        one.sql("DROP ROLE only_here")


def test_a_target_that_cannot_log_in_at_the_source(tmp_path, moving_servers, moving_store):
    one, two = moving_servers
    path = store_config(
        tmp_path / "wrong.conf",
        {
            "one": ({**reached(one), "move_password": "wrong"}, "1-4"),
            "two": (reached(two), "5-8"),
        },
    )
    moved = move(path, 3, 1)
    assert moved.error == 'it cannot connect to server "one" as a subscriber', moved
    assert "password authentication failed" in moved.detail, moved
    assert "move_host" in moved.hint
    assert "wrong" not in repr(moved.said)
    assert "password=" not in two.server.log_text()
    check_untouched(one, two)


def test_options_are_checked(moving_store, moving_servers):
    one, two = moving_servers
    moved = move(moving_store, 3, 1, keep_udno="1h")
    assert moved.hint == 'Perhaps "keep_undo" is meant.'
    assert move(moving_store, 3, 1, keep_undo="soon").status == 2
    assert move(moving_store, 3, 1, offline="on", keep_undo="1h").status == 2
    check_untouched(one, two)


def test_one_that_could_not_be_published_is_not_switched(moving_store, moving_servers):
    """The function runs as its owner, not as the one who moves: after the switch it would be too
    late to find out that the owner may not rename the copy."""
    one, two = moving_servers
    fill(one, 3, 10)
    two.sql("CREATE ROLE weak; ALTER FUNCTION hypervault.publish_shard(int, bigint) OWNER TO weak;"
            "GRANT ALL ON hypervault.shard_locations TO weak; GRANT USAGE ON SCHEMA hypervault TO weak")
    try:
        moved = move(moving_store, 3, 1)
        assert moved.result.code != 0 and "owner of schema" in str(moved.result), moved
        assert has_shard(one, 3) and not has_shard(two, 3)
        fill(one, 3, 1)
        run_move(moving_store, "abort", 3).ok("aborted")
        check_untouched(one, two)
    finally:
        two.sql("REASSIGN OWNED BY weak TO CURRENT_USER; DROP OWNED BY weak; DROP ROLE weak")


def test_a_trigger_with_a_transition_table_cannot_follow_a_stream(moving_store, moving_servers):
    one, two = moving_servers
    one.sql(
        "CREATE FUNCTION shard0003.note() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN RETURN NULL; END';"
        "CREATE TRIGGER note AFTER INSERT ON shard0003.entities REFERENCING NEW TABLE AS fresh"
        " FOR EACH ROW EXECUTE FUNCTION shard0003.note()"
    )
    moved = move(moving_store, 3, 1)
    assert "trigger note, with a transition table" in str(moved.result), moved
    check_untouched(one, two)
    move(moving_store, 3, 1, offline="on").ok("done")
