"""Migrations when something goes wrong on the way: locks, kills, two runs at once, lost servers."""

import random
import threading
import time

import psycopg2
import pytest

from harness import eventually, store_config
from migrating import Files, begin, crash, kill, ledger, migrate, outcome_of, states

CONCURRENTLY = "-- hv: no-transaction\nCREATE INDEX CONCURRENTLY by_type ON @shard.entities (type);\n"


@pytest.fixture
def files(tmp_path):
    return Files(tmp_path / "migrations")


def _index(database, shard, name="by_type"):
    """None, or whether the index is valid."""
    return database.value(
        "SELECT bool_or(indisvalid) FROM pg_index WHERE indexrelid = to_regclass(%s)",
        f"shard{shard:04}.{name}",
    )


def _backends(database, like):
    return [
        row[0]
        for row in database.query(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
            " AND state = 'active' AND query LIKE %s AND pid <> pg_backend_pid()",
            like,
        )
    ]


class Holder:
    """A transaction that has a lock on a shard's table."""

    def __init__(self, database, shard, mode="ACCESS SHARE"):
        self._opened = database.connect(application_name="holder")
        self.connection = self._opened.__enter__()
        self.cursor = self.connection.cursor()
        self.cursor.execute("BEGIN")
        self.cursor.execute(f"LOCK TABLE shard{shard:04}.entities IN {mode} MODE")
        self.pid = self.connection.get_backend_pid()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._opened.__exit__(None, None, None)


# ---- locks ----


def test_a_shard_that_is_locked_fails_and_the_others_are_done(store, servers, files):
    files.write("1_a.sql", "SELECT 1;\nALTER TABLE entities ADD COLUMN c int;")
    waits = []
    stop = threading.Event()

    def write():
        with servers[0].connect() as connection, connection.cursor() as cursor:
            while not stop.is_set():
                began = time.monotonic()
                cursor.execute("INSERT INTO shard0003.entities (type, body) VALUES (1, '')")
                waits.append(time.monotonic() - began)

    writer = threading.Thread(target=write)
    with Holder(servers[0], 3) as holder:
        writer.start()
        try:
            outcome = migrate(store, files, events=1, max_wait=1500, max_failures="all")
        finally:
            stop.set()
            writer.join()
    assert outcome.works() == {"done": 15, "failed": 1}
    error = outcome.failed()[3]
    assert error["message"] == "1_a.sql: no lock on shard0003 came free in time"
    assert f"process {holder.pid} (holder, idle in transaction" in error["detail"]
    assert (error["status"], error["sqlstate"]) == ("HV_TIMEOUT", "55P03")
    told = [e["waits_for"] for e in outcome.events if e["work"] == "waiting"]
    assert any(f"process {holder.pid} (holder" in text for text in told)
    assert any("holds a lock on shard0003.entities" in text for text in told)
    # lock_timeout is 100 ms
    assert len(waits) > 10 and max(waits) < 0.3
    assert migrate(store, files).ok().works() == {"done": 1, "unchanged": 15}


def test_a_lock_that_comes_free_is_waited_for(store, servers, files):
    files.write("1_a.sql", "ALTER TABLE entities ADD COLUMN c int;")
    with Holder(servers[0], 3):
        process = begin(store, files, shards="3-4")
        eventually(lambda: b"waiting" in process.stdout.readline(), what="it waits")
    assert outcome_of(process).ok().works() == {"done": 1}


def test_max_failures(store, files):
    files.write("1_a.sql", "SELECT 1 / ('@shard' = 'shard0001')::int;")
    outcome = migrate(store, files, max_failures=2, parallel=1, parallel_total=1)
    assert outcome.works() == {"done": 1, "failed": 3, "not begun": 12}
    assert outcome.error["message"] == "1_a.sql:1: division by zero"
    outcome = migrate(store, files, max_failures="all")
    assert outcome.works() == {"unchanged": 1, "failed": 1, "not begun": 14}
    outcome = migrate(store, files, max_failures="all", canary="off")
    assert outcome.works() == {"unchanged": 1, "failed": 15}


def test_a_role_without_rights(store, servers, files, tmp_path):
    one, _ = servers
    role = f"poor_{one.dbname}"
    one.sql(f"CREATE ROLE {role} LOGIN")
    try:
        one.sql(f"GRANT USAGE ON SCHEMA shard0001, hypervault TO {role}")
        one.sql(f"GRANT ALL ON ALL TABLES IN SCHEMA shard0001, hypervault TO {role}")
        path = tmp_path / "poor.conf"
        config = store_config(path, {"one": ({**one.params(), "user": role}, "1-2")})
        files.write("1_a.sql", "ALTER TABLE entities ADD COLUMN c int;")
        outcome = migrate(config, files)
        assert outcome.error["sqlstate"] == "42501"
        assert outcome.error["message"] == "1_a.sql: permission denied for schema shard0001"
        assert "needs CREATE on the shard's schema" in outcome.error["hint"]
        one.sql(f"GRANT CREATE ON SCHEMA shard0001 TO {role}")
        outcome = migrate(config, files)
        assert outcome.error["message"] == "1_a.sql:1: must be owner of table entities"
        assert states(store, files)[1] == ["pending"]
    finally:
        one.sql(f"DROP OWNED BY {role}")
        one.sql(f"DROP ROLE {role}")


# ---- two runs ----


def test_two_runs_at_once_run_each_file_once(store, servers, files):
    files.write("1_a.sql", "CREATE TABLE a (t int);")
    for number in range(2, 8):
        files.write(f"{number}_b.sql", f"INSERT INTO a VALUES ({number}); SELECT pg_sleep(0.01);")
    files.write("8_c.sql", "-- hv: no-transaction\nINSERT INTO a VALUES (8);VACUUM a;")
    first, second = (begin(store, files, canary="off") for _ in range(2))
    works = [outcome_of(process).ok().works() for process in (first, second)]
    assert sum(w.get("done", 0) for w in works) >= 16
    for shard in (1, 8, 9, 16):
        database = servers[0] if shard < 9 else servers[1]
        rows = database.query(f"SELECT t FROM shard{shard:04}.a ORDER BY t")
        assert [row[0] for row in rows] == [2, 3, 4, 5, 6, 7, 8]


def test_another_run_that_works_on_a_shard_is_named(store, servers, files):
    files.write("1_a.sql", "ALTER TABLE entities ADD COLUMN c int;")
    with servers[0].connect(application_name="other") as other, other.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(26744, 2)")
        outcome = migrate(store, files, max_wait=200, max_failures="all")
        assert outcome.works() == {"done": 15, "failed": 1}
        error = outcome.failed()[2]
        assert error["message"] == "1_a.sql: another run is working on shard0002"
        assert f"process {other.get_backend_pid()} (other" in error["detail"]
        files.write("2_b.sql", CONCURRENTLY)
        outcome = migrate(store, files, max_wait=200, shards="2-3")
        assert outcome.error["message"] == "1_a.sql: another run is working on shard0002"


# ---- interruptions ----


def test_an_interrupted_run_goes_on(store, servers, files):
    files.write("1_a.sql", "CREATE TABLE a (t int);")
    files.write("2_b.sql", "INSERT INTO a VALUES (2); SELECT pg_sleep(0.3);")
    outcome = migrate(store, files, interrupt=9)
    assert outcome.status == "HV_TIMEOUT"
    works = outcome.works()
    assert works["failed"] > 0 and works["not begun"] > 0 and sum(works.values()) == 16
    assert {e["message"] for e in outcome.failed().values()} == {"interrupted"}
    migrate(store, files).ok()
    for shard in range(1, 9):
        assert servers[0].value(f"SELECT count(*) FROM shard{shard:04}.a") == 1


@pytest.mark.plain
def test_a_run_that_is_killed_at_every_event(store, servers, files):
    """Each file runs exactly once on each shard, in a transaction or without one."""
    files.write("1_a.sql", "CREATE TABLE a (t int);")
    files.write("2_b.sql", "INSERT INTO a VALUES (2); SELECT pg_sleep(0.005);")
    files.write("3_c.sql", CONCURRENTLY + "INSERT INTO a VALUES (3);")
    files.write("4_d.sql", "INSERT INTO a VALUES (4);")
    event = 1
    while crash(store, files, event):
        event += 1
    assert event > 16
    assert migrate(store, files).ok().works() == {"unchanged": 16}
    for shard in range(1, 17):
        database = servers[0] if shard < 9 else servers[1]
        rows = database.query(f"SELECT t FROM shard{shard:04}.a ORDER BY t")
        # an INSERT in a file without a transaction may have been repeated
        assert [row[0] for row in rows if row[0] != 3] == [2, 4]
        assert 3 in [row[0] for row in rows]
        assert _index(database, shard) is True


def test_a_server_that_restarts_in_the_middle(own_store, own_servers, files):
    files.write("1_a.sql", "CREATE TABLE a (t int); SELECT pg_sleep(0.1);")
    files.write("2_b.sql", "INSERT INTO a VALUES (2); SELECT pg_sleep(0.1);")
    process = begin(own_store, files, canary="off", parallel=2)
    sleeping = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
    eventually(lambda: own_servers[0].value(sleeping) == 2, what="it runs")
    own_servers[0].server.restart("immediate")
    outcome_of(process).ok()
    for shard in range(1, 9):
        assert own_servers[0].value(f"SELECT count(*) FROM shard{shard:04}.a") == 1
        assert sorted(ledger(own_servers[0], shard)) == ["1", "2"]


def test_a_server_that_is_down(own_store, own_servers, files):
    files.write("1_a.sql", "CREATE TABLE a ();")
    own_servers[1].server.stop()
    outcome = migrate(own_store, files, max_failures="all")
    assert outcome.works() == {"done": 8, "failed": 8}
    assert {e["status"] for e in outcome.failed().values()} == {"HV_UNAVAILABLE"}
    own_servers[1].server.start()
    assert migrate(own_store, files).ok().works() == {"done": 8, "unchanged": 8}


# ---- files without a transaction ----


def test_statements_are_recorded_one_by_one(store, servers, files):
    files.write(
        "1_a.sql",
        "-- hv: no-transaction\nSET application_name TO 'x';CREATE TABLE a (t int);\nVACUUM a;\n"
        "SELECT 1/0;\nCREATE TABLE b AS SELECT current_setting('application_name') AS name;",
    )
    outcome = migrate(store, files)
    assert outcome.error["message"] == "1_a.sql:4: division by zero"
    assert outcome.works() == {"failed": 1, "not begun": 15}
    assert ledger(servers[0], 1)["1"][2:] == (False, 3, None)
    assert states(store, files)[1] == ["interrupted"]
    # What has run may not be changed, but the rest may.
    text = (files.path / "1_a.sql").read_text()
    files.write("1_a.sql", text.replace("VACUUM a", "ANALYZE a"))
    outcome = migrate(store, files)
    assert outcome.error["message"] == '"1_a.sql" was changed where it had been run already'
    files.write("1_a.sql", text.replace("1/0", "1"))
    assert migrate(store, files).ok().works() == {"done": 16}
    assert ledger(servers[0], 1)["1"][2:] == (True, 5, None)
    # SET is repeated for the statements after it
    assert servers[0].value("SELECT name FROM shard0001.b") == "x"


def test_an_index_that_was_not_finished_is_built_again(store, servers, files):
    """Killed while it waits for an older transaction; the server notices, or a kill ends it."""
    files.write("1_a.sql", CONCURRENTLY)
    with Holder(servers[0], 3, "ROW EXCLUSIVE"):
        process = begin(store, files, shards="3-4")
        eventually(lambda: _backends(servers[0], "CREATE INDEX%"), what="it builds")
        kill(process)
        eventually(lambda: not _backends(servers[0], "CREATE INDEX%"), what="the server notices")
    assert _index(servers[0], 3) is False
    assert ledger(servers[0], 3)["1"][2:] == (False, 0, 1)
    assert migrate(store, files, shards="3-4").ok().works() == {"done": 1}
    assert _index(servers[0], 3) is True


def test_a_server_still_at_work_for_a_killed_run_is_waited_for(store, servers, files):
    files.write("1_a.sql", CONCURRENTLY)
    with Holder(servers[0], 3, "ROW EXCLUSIVE"):
        first = begin(store, files, shards="3-4")
        eventually(lambda: _backends(servers[0], "CREATE INDEX%"), what="it builds")
        second = begin(store, files, shards="3-4")
        eventually(lambda: b"is working on shard0003" in second.stdout.readline(), what="it waits")
        kill(first)
    assert outcome_of(second).ok().works() == {"done": 1}
    assert _index(servers[0], 3) is True


def test_a_backend_that_is_killed_begins_again(store, servers, files):
    files.write("1_a.sql", CONCURRENTLY)
    with Holder(servers[0], 3, "ROW EXCLUSIVE"):
        process = begin(store, files, shards="3-4")
        (pid,) = eventually(lambda: _backends(servers[0], "CREATE INDEX%"), what="it builds")
        servers[0].sql("SELECT pg_terminate_backend(%s)", pid)
        eventually(lambda: _backends(servers[0], "%INDEX CONC%") not in ([], [pid]), what="again")
    assert outcome_of(process).ok().works() == {"done": 1}
    assert _index(servers[0], 3) is True


@pytest.mark.parametrize("clause", ["", "IF NOT EXISTS "])
def test_a_left_over_of_somebody_else_is_replaced(store, servers, files, clause):
    one, _ = servers
    one.sql("INSERT INTO shard0003.entities (type, body) VALUES (1, ''), (1, '')")
    with one.connect() as connection, connection.cursor() as cursor:
        with pytest.raises(psycopg2.Error, match="could not create unique index"):
            cursor.execute("CREATE UNIQUE INDEX CONCURRENTLY by_type ON shard0003.entities (type)")
    assert _index(one, 3) is False
    files.write("1_a.sql", CONCURRENTLY.replace("by_type", clause + "by_type"))
    assert migrate(store, files).ok().works() == {"done": 16}
    assert _index(one, 3) is True


def test_an_index_that_is_refused_leaves_nothing(store, servers, files):
    servers[0].sql("INSERT INTO shard0003.entities (type, body) VALUES (1, ''), (1, '')")
    files.write("1_a.sql", "-- hv: no-transaction\n\n" + CONCURRENTLY.split("\n")[1].replace(
        "INDEX", "UNIQUE INDEX"))
    outcome = migrate(store, files, max_failures="all")
    assert outcome.works() == {"done": 15, "failed": 1}
    error = outcome.failed()[3]
    assert error["message"].startswith("1_a.sql:3: could not create unique index")
    assert error["sqlstate"] == "23505"
    assert _index(servers[0], 3) is None
    assert ledger(servers[0], 3)["1"][2:] == (False, 0, None)
    servers[0].sql("DELETE FROM shard0003.entities")
    migrate(store, files).ok()
    assert _index(servers[0], 3) is True


def test_dropping_and_rebuilding_an_index(store, servers, files):
    files.write("1_a.sql", CONCURRENTLY)
    files.write(
        "2_b.sql",
        "-- hv: no-transaction\nREINDEX INDEX CONCURRENTLY by_type;\n"
        "DROP INDEX CONCURRENTLY @shard.by_type;",
    )
    migrate(store, files, shards="3-4").ok()
    assert _index(servers[0], 3) is None
    # as if it had been interrupted in the last statement, which was done, and the first, which …
    ledger_table = "shard0003.hypervault_migrations"
    servers[0].sql(f"UPDATE {ledger_table} SET finished = false, done = 1, begun = 2 WHERE id = '2'")
    migrate(store, files, shards="3-4").ok()
    # … has left a copy
    servers[0].sql("CREATE INDEX by_type ON shard0003.entities (type)")
    with Holder(servers[0], 3, "ROW EXCLUSIVE"):
        servers[0].sql(f"DELETE FROM {ledger_table} WHERE id = '2'")
        process = begin(store, files, shards="3-4")
        eventually(lambda: _backends(servers[0], "REINDEX%"), what="it builds")
        kill(process)
        eventually(lambda: not _backends(servers[0], "REINDEX%"), what="the server notices")
    assert _index(servers[0], 3, "by_type_ccnew") is False
    migrate(store, files, shards="3-4").ok()
    assert _index(servers[0], 3, "by_type_ccnew") is None
    assert _index(servers[0], 3) is None


def test_a_statement_of_unknown_fate_is_run_again(store, servers, files):
    files.write("1_a.sql", "-- hv: no-transaction\nCREATE TABLE a ();\nVACUUM a;")
    migrate(store, files, shards="3-4").ok()
    table = "shard0003.hypervault_migrations"
    digest = servers[0].value(f"SELECT statements FROM {table}")
    servers[0].sql(f"UPDATE {table} SET finished = false, done = 1, begun = 2")
    assert digest == servers[0].value(f"SELECT statements FROM {table}")
    migrate(store, files, shards="3-4").ok()
    servers[0].sql(f"DELETE FROM {table}")
    outcome = migrate(store, files, shards="3-4")
    assert outcome.error["message"] == '1_a.sql:2: relation "a" already exists'
    assert outcome.error["hint"] is None
    servers[0].sql(f"UPDATE {table} SET begun = 1, statements ="
                   " encode(sha256('CREATE TABLE a ()\\000'::bytea), 'hex')")
    outcome = migrate(store, files, shards="3-4")
    assert "UPDATE shard0003.hypervault_migrations SET done = 1, begun = NULL" in outcome.error[
        "hint"]
    servers[0].sql(outcome.error["hint"].split("say so: ")[1].rstrip("."))
    migrate(store, files, shards="3-4").ok()


def test_a_statement_that_locks_gives_way_without_a_transaction_too(store, servers, files):
    files.write("1_a.sql", "-- hv: no-transaction\nALTER TABLE entities ADD COLUMN c int;")
    with Holder(servers[0], 3):
        outcome = migrate(store, files, shards="3-4", max_wait=300)
    assert outcome.error["sqlstate"] == "55P03"
    assert ledger(servers[0], 3)["1"][2:] == (False, 0, None)
    assert migrate(store, files, shards="3-4").ok().works() == {"done": 1}


@pytest.mark.plain
def test_kills_at_random_moments(store, servers, files):
    """In the end every shard is as if nothing had happened."""
    files.write("1_a.sql", "ALTER TABLE entities ADD COLUMN score int DEFAULT 7; CREATE TABLE a (t int)")
    files.write("2_b.sql", CONCURRENTLY)
    files.write("3_c.sql", "INSERT INTO a VALUES (3)")
    files.write("4_d.sql", "-- hv: no-transaction\nREINDEX INDEX CONCURRENTLY by_type; VACUUM a;")
    files.write("5_e.sql", "INSERT INTO a VALUES (5)")
    seed = random.randrange(10**6)
    chance = random.Random(seed)
    for _ in range(12):
        process = begin(store, files, canary="off")
        time.sleep(chance.uniform(0.01, 0.35))  # a moment in its work, whichever
        kill(process)
    migrate(store, files).ok()
    assert migrate(store, files).ok().works() == {"unchanged": 16}, seed
    for shard in range(1, 17):
        database = servers[0] if shard < 9 else servers[1]
        assert database.query(f"SELECT t FROM shard{shard:04}.a ORDER BY t") == [(3,), (5,)], seed
        indexes = database.query(
            "SELECT c.relname, i.indisvalid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid"
            " WHERE i.indrelid = %s::regclass ORDER BY 1",
            f"shard{shard:04}.entities",
        )
        assert indexes == [("by_type", True), ("entities_pkey", True)], (seed, shard)
