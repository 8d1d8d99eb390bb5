"""hv move: what is refused before anything is made, and what ends a move in the middle; afterwards
nothing is left, and nothing differs."""

import contextlib
import os
import re

import pytest
from harness import PgBouncer, command, eventually, hv, make_shards, store_config
from harness.moving import (
    SETTINGS,
    Stepping,
    assert_nothing_left,
    content,
    fill,
    has_shard,
    leftovers,
    move,
    moving_config,
    moving_servers,
    moving_store,
    own_moving_servers,
    reached,
    run_move,
    shared_moving_servers,
)

FIXTURES = (moving_servers, moving_store, own_moving_servers, shared_moving_servers)


def refused(config, *words, code=2, to="two"):
    """The command's error, as text: 2, because nothing was begun."""
    done = hv("move", 3, "--to", to, *words, config=config)
    assert done.code == code, done
    return done.err


def check_untouched(one, two):
    assert has_shard(one, 3) and not has_shard(two, 3)
    assert_nothing_left(one, two)
    locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database ="\
            " (SELECT oid FROM pg_database WHERE datname = current_database())"
    for database in (one, two):
        eventually(lambda: database.value(locks) == 0, what="the locks of the move are gone")


def as_role(path, config, role, **servers):
    """The same configuration for another role, whose password is its name."""
    with open(config, encoding="utf-8") as file:
        text = file.read()
    text = re.sub(r"(?m)^user = .*$", f"user = {role}", text)
    text = re.sub(r"(?m)^password = .*$", f"password = {role}", text)
    text = re.sub(r"(?m)^move_password = .*$", f"move_password = {role}", text)
    path.write_text(text, encoding="utf-8")
    path.chmod(0o600)
    return str(path)


@contextlib.contextmanager
def role(name, *databases, also=""):
    """A role that can log in, on all of these servers."""
    for database in databases:
        database.sql(f"DROP ROLE IF EXISTS {name}; CREATE ROLE {name} LOGIN PASSWORD '{name}'")
    try:
        yield name
    finally:
        for database in databases:
            database.sql(f"REASSIGN OWNED BY {name} TO CURRENT_USER; DROP OWNED BY {name}")
            database.sql(f"DROP ROLE {name}")


# ---- servers, shards, roles ----


def test_one_database_under_two_names(moving_servers, tmp_path):
    one, _ = moving_servers
    servers = {"server 1": (reached(one), "1-4"), "server 2": (reached(one), "")}
    config = store_config(tmp_path / "one.conf", servers)
    hv("init", config=config).ok()
    before = content(one, 3)
    said = refused(config, to="server 2")
    assert 'it is the same database as server "server 1"' in said and "dbname" in said
    assert content(one, 3) == before
    assert_nothing_left(one)


def test_a_role_without_replication(tmp_path, moving_store, moving_servers):
    one, two = moving_servers
    with role("hv_mover", one, two):
        for database in moving_servers:
            database.sql("GRANT pg_read_all_data TO hv_mover")
        config = as_role(tmp_path / "mover.conf", moving_store, "hv_mover")
        said = refused(config)
        assert "the role hv_mover has not got the attribute REPLICATION" in said
        assert 'server "one"' in said and "ALTER ROLE" in said and "password" not in said
        check_untouched(one, two)
        one.sql("ALTER ROLE hv_mover REPLICATION")
        said = refused(config)
        assert "the role hv_mover may not make schemas" in said and "GRANT CREATE" in said
        one.sql(f"GRANT CREATE ON DATABASE {one.dbname} TO hv_mover")
        said = refused(config)
        assert "the role hv_mover may not make subscriptions" in said
        two.sql("ALTER ROLE hv_mover SUPERUSER")
        said = refused(config)
        assert "does not own shard0003" in said and "shard 3" in said
        check_untouched(one, two)


WORDS = "'Grün – 本 – 🐘 ' OPERATOR(pg_catalog.||) n"


@pytest.mark.parametrize("whose", ["DATABASE {db}", "ROLE {role} IN DATABASE {db}"])
def test_workers_that_would_garble_text(whose, tmp_path, moving_store, moving_servers):
    """PostgreSQL's own take the rows that they copy in the encoding that the role has by default."""
    one, two = moving_servers
    one.sql(
        "INSERT INTO shard0003.entities (type, body) SELECT 7, public.hstore('word', " + WORDS
        + ") FROM generate_series(1, 100) AS n"
    )
    before = content(one, 3)
    whose = whose.format(db=two.dbname, role=two.params()["user"])
    two.sql(f"ALTER {whose} SET client_encoding TO 'LATIN1'")
    said = refused(moving_store)
    assert "its client_encoding is LATIN1 by default, and the database's is UTF8" in said
    assert 'server "two"' in said and "ALTER ROLE" in said
    check_untouched(one, two)
    found = hv("doctor", "--json", config=moving_store)
    assert found.code == 1 and "client_encoding is LATIN1" in found.out
    # It does not matter where rows come from, nor offline.
    move(moving_store, 5, 0).ok("done")
    run_move(moving_store, "move", 3, 1, offline="on").ok("done")
    assert content(two, 3) == before
    two.sql(f"ALTER {whose} RESET client_encoding")
    move(moving_store, 3, 0).ok("done")
    assert content(one, 3) == before
    move(moving_store, 3, 1).ok("done")
    assert content(two, 3) == before
    assert_nothing_left(one, two)


def test_a_program_that_asks_for_another_encoding(moving_store, moving_servers):
    """That has nothing to do with the servers' workers."""
    one, two = moving_servers
    fill(one, 3, 10)
    env = {"PGCLIENTENCODING": "LATIN1"}
    hv("move", 3, "--to", "two", config=moving_store, env=env).ok()
    assert_nothing_left(one, two)


def test_a_role_that_may_make_nothing_on_the_target(tmp_path, moving_store, moving_servers):
    one, two = moving_servers
    with role("hv_owner", one, two):
        one.sql("ALTER ROLE hv_owner SUPERUSER")
        two.sql("GRANT pg_read_all_data TO hv_owner")
        config = as_role(tmp_path / "owner.conf", moving_store, "hv_owner")
        said = refused(config, "--offline", "--yes")
        assert "the role hv_owner may not make schemas" in said and 'server "two"' in said
        check_untouched(one, two)


def test_a_subscriber_that_pg_hba_does_not_let_in(own_moving_servers, tmp_path):
    one, two = own_moving_servers
    place = {**reached(one), "move_user": "hv_stranger", "move_password": "hv_stranger"}
    servers = {"one": (place, "1-4"), "two": (reached(two), "5-8")}
    config = store_config(tmp_path / "hba.conf", servers)
    make_shards(config, one, two)
    one.sql("CREATE ROLE hv_stranger LOGIN REPLICATION PASSWORD 'hv_stranger'")
    path = os.path.join(one.server.data, "pg_hba.conf")
    with open(path, encoding="utf-8") as file:
        rules = file.read()
    with open(path, "w", encoding="utf-8") as file:
        file.write("host all hv_stranger all reject\n" + rules)
    one.sql("SELECT pg_reload_conf()")
    wanted = 'cannot connect to server "one" as a subscriber'
    said = refused(config)
    assert wanted in said and "pg_hba.conf" in said and "move_user" in said
    check_untouched(one, two)
    # With an undo the other direction has to work, too; a password that is wrong there is found.
    servers = {"one": (reached(one), "1-4"), "two": ({**reached(two), "move_password": "?"}, "5-8")}
    config = store_config(tmp_path / "undo.conf", servers)
    said = refused(config, "--keep-undo", "1h")
    assert 'cannot connect to server "two" as a subscriber' in said and "password" in said
    check_untouched(one, two)


def test_what_only_other_shards_need_stops_no_move(moving_store, moving_servers):
    one, two = moving_servers
    with role("hv_reader", one):
        one.sql("GRANT SELECT ON shard0002.entities TO hv_reader")
        said = hv("move", 2, "--to", "two", config=moving_store)
        assert said.code == 2 and 'role "hv_reader" does not exist here' in said.err, said
        assert not has_shard(two, 2)
        hv("move", 3, "--to", "two", config=moving_store).ok()
        assert has_shard(two, 3)
        assert_nothing_left(one, two)


def test_slots_that_are_all_taken(moving_store, moving_servers):
    one, two = moving_servers
    free = int(SETTINGS["max_replication_slots"]) - one.value(
        "SELECT count(*) FROM pg_replication_slots"
    )
    names = [f"hv_test_{number}" for number in range(free - 1)]
    try:
        for name in names:
            one.sql(f"SELECT pg_create_physical_replication_slot('{name}')")
        said = refused(moving_store)
        assert "replication slots are taken" in said and "max_replication_slots" in said
        check_untouched(one, two)
        one.sql(f"SELECT pg_drop_replication_slot('{names.pop()}')")
        hv("move", 3, "--to", "two", config=moving_store).ok()
    finally:
        for name in names:
            one.sql(f"SELECT pg_drop_replication_slot('{name}')")
    assert has_shard(two, 3)
    assert_nothing_left(one, two)


def test_a_tablespace_that_the_target_lacks(own_moving_servers, tmp_path):
    one, two = own_moving_servers
    config = moving_config(tmp_path / "spaces.conf", one, two)
    make_shards(config, one, two)
    place = os.path.join(one.server.place, "space")
    os.mkdir(place, 0o700)
    owner = os.stat(one.server.data)
    os.chown(place, owner.st_uid, owner.st_gid)
    one.sql(f"CREATE TABLESPACE fast LOCATION '{place}'")
    one.sql("CREATE INDEX ON shard0003.entities (type) TABLESPACE fast")
    said = refused(config)
    assert 'tablespace "fast" does not exist here' in said and 'server "two"' in said
    check_untouched(one, two)
    hv("move", 2, "--to", "two", config=config).ok()
    one.sql("ALTER INDEX shard0003.entities_type_idx SET TABLESPACE pg_default")
    hv("move", 3, "--to", "two", config=config).ok()
    assert has_shard(two, 3)


@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_through_a_pooler(mode, moving_store, moving_servers, tmp_path):
    """Sessions that share a connection have no locks of their own; others may."""
    one, two = moving_servers
    with PgBouncer(one.server, pool_mode=mode, pool_size=8) as bouncer:
        place = {
            **bouncer.params(one.dbname),
            "move_host": one.params()["host"],
            "move_port": one.params()["port"],
            "move_password": one.params()["password"],
        }
        servers = {"one": (place, "1-4"), "two": (reached(two), "5-8")}
        config = store_config(tmp_path / "bounced.conf", servers, prepare="off")
        found = hv("doctor", "--json", config=config)
        (text,) = {each["text"] for each in found.json()["findings"] if each["server"] == "one"}
        assert text.startswith("it is reached through a connection pooler")
        assert found.json()["ready"] == (mode == "session"), found
        if mode == "session":
            hv("move", 3, "--to", "two", config=config).ok()
            assert has_shard(two, 3)
        else:
            said = refused(config)
            assert "a connection pooler that shares connections" in said and "host" in said
    if mode == "transaction":
        check_untouched(one, two)
    assert_nothing_left(one, two)


# ---- others who are in the way ----


def test_a_long_transaction_is_named(moving_store, moving_servers):
    one, two = moving_servers
    with one.connect(application_name="report") as connection, connection.cursor() as cursor:
        cursor.execute("BEGIN; SELECT pg_current_xact_id()")
        said = refused(moving_store, "--max-wait", "1s", code=1)
        assert f"process {connection.info.backend_pid} (report, idle in transaction)" in said
        assert re.search(r"has had a transaction open for \d+ s", said), said
        cursor.execute("ROLLBACK")
    check_untouched(one, two)


def test_two_commands_move_one_shard(moving_store, moving_servers):
    one, two = moving_servers
    fill(one, 3, 100)
    before = content(one, 3)
    with one.connect() as connection, connection.cursor() as cursor:
        cursor.execute("BEGIN; SELECT pg_current_xact_id()")  # the first one waits for it
        first = command.spawn("hv", "move", 3, "--to", "two", config=moving_store, text=True)
        eventually(lambda: any(name.startswith("slot") for name in leftovers(one)))
        said = refused(moving_store, "--max-wait", "1s", code=1)
        assert "another run is working on shard 3" in said and "hv move" in said
        cursor.execute("ROLLBACK")
    out, err = first.communicate(timeout=60)
    assert first.returncode == 0, (out, err)
    assert content(two, 3) == before
    assert_nothing_left(one, two)


# ---- DDL ----

LATER = "CREATE TABLE shard0003.more (id bigint PRIMARY KEY, note text)"


@pytest.mark.parametrize("place", ["copying", "ready: tried", "fence: arrived"])
@pytest.mark.parametrize(
    "ddl",
    [
        "CREATE INDEX more_note ON shard0003.more (note)",
        "DROP TABLE shard0003.more",
        "CREATE TABLE shard0003.later (id bigint PRIMARY KEY)",
    ],
)
def test_ddl_is_noticed_or_waits(ddl, place, moving_store, moving_servers):
    """It ends the move, or it waits for the switch, and then finds no table any more."""
    one, two = moving_servers
    one.sql(LATER)
    one.sql("INSERT INTO shard0003.more SELECT n, 'x' FROM generate_series(1, 50) AS n")
    fill(one, 3, 50)
    with Stepping(moving_store, "move", 3, 1, place=place) as stepping:
        assert stepping.came
        failed = None
        try:
            one.sql("SET lock_timeout = '200ms';" + ddl)
        except Exception as error:  # pylint: disable=broad-except
            failed = error
        stepping.go_on()
        moved = stepping.end()
    if failed is not None:
        assert "lock timeout" in str(failed) and place.startswith("fence"), failed
        moved.ok("done")
        assert has_shard(two, 3) and not has_shard(one, 3)
        assert two.value("SELECT count(*) FROM shard0003.more") == 50
        assert_nothing_left(one, two)
        return
    assert moved.result.code != 0, moved
    assert "more" in str(moved.result) or "later" in str(moved.result), moved
    assert has_shard(one, 3) and not has_shard(two, 3)
    if leftovers(one):
        run_move(moving_store, "abort", 3).ok("aborted")
    check_untouched(one, two)
    fill(one, 3, 1)
    before = content(one, 3)
    move(moving_store, 3, 1).ok("done")
    assert content(two, 3) == before


@pytest.mark.parametrize(
    "ddl",
    [
        "ALTER TABLE shard0003.more ADD COLUMN extra text",
        "ALTER TABLE shard0003.more DROP COLUMN note",
        "ALTER TABLE shard0003.more ALTER COLUMN note TYPE varchar(10)",
        "ALTER TABLE shard0003.more RENAME COLUMN note TO remark",
    ],
)
def test_columns_cannot_be_altered_meanwhile(ddl, moving_store, moving_servers):
    one, two = moving_servers
    one.sql(LATER + "; INSERT INTO shard0003.more VALUES (1, 'x')")
    with Stepping(moving_store, "move", 3, 1, place="copying") as stepping:
        with pytest.raises(Exception, match="partition|inherited"):
            one.sql(ddl)
        stepping.go_on()
        stepping.end().ok("done")
    assert two.query("SELECT * FROM shard0003.more") == [(1, "x")]
    two.sql(ddl)
    assert_nothing_left(one, two)
