"""Making shards when something goes wrong on the way: cut connections, kills, several at once, a
full disk."""

import contextlib
import json
import os
import signal

import psycopg2
import pytest

from harness import (
    Database,
    PostgresServer,
    eventually,
    hv,
    installation,
    scratch,
    spawn,
    store_config,
)
from harness.server import binaries, own
from migrating import Files, migrate, states

SHARDS = 4


def _config(path, where):
    return store_config(path, {"one": (where, f"1-{SHARDS + 1}")})


def _states(config):
    """The states of the shards."""
    result = hv("status", "--json", config=config)
    (server,) = result.json()["servers"]
    assert "error" not in server, server
    return [shard["state"] for shard in server["shards"]]


def _require_usable(config, shards=SHARDS):
    hv("init", config=config).ok()
    assert _states(config) == ["ready"] * shards
    for shard in range(1, shards + 1):
        key = hv("put", shard, 1, "a=b", config=config).ok().out.strip()
        hv("get", key, config=config).ok()


# ---- cut off ----


@pytest.fixture
def relayed(tmp_path, make_server, relay):
    """A database, a relay in front of it, a configuration through the relay and one without it."""
    server = make_server("one", tcp=True)
    database = server.create_database()
    between = relay(server)
    through = _config(tmp_path / "relayed.conf", between.params(database.dbname))
    return database, between, through, _config(tmp_path / "direct.conf", database)


def _bytes_of_init(database, between, through):
    """The number of bytes that a whole `hv init` sends; undoes its work."""
    before = between.bytes["to_server"]
    hv("init", config=through).ok()
    sent = between.bytes["to_server"] - before
    _unmake(database)
    return sent


def _unmake(database):
    schemas = ", ".join(f"shard{shard:04d}" for shard in range(1, SHARDS + 1))
    database.sql(f"SET client_min_messages TO warning; DROP SCHEMA hypervault, {schemas} CASCADE")
    database.sql("DROP EXTENSION hstore")


def test_init_that_is_cut_off_anywhere_leaves_whole_shards_and_can_be_repeated(relayed):
    database, between, through, direct = relayed
    whole = _bytes_of_init(database, between, through)
    made = set()
    failures = 0
    step = whole // 15
    cuts = [*range(300, whole, step), *range(300 + step // 2, whole, step)]
    for number, cut in enumerate(cuts):
        if number >= len(cuts) // 2 and made >= set(range(SHARDS)):
            break  # otherwise the cuts must be closer
        between.cut_in("to_server", cut)
        result = hv("init", "--json", config=through)
        if result.code == 0:  # all was done, and only the good-bye was cut
            assert result.json()[0]["created"] == SHARDS
        else:
            error = result.json()[0]["error"]
            assert error["status"] == "HV_UNAVAILABLE", (cut, result)
            failures += 1
        eventually(lambda: database.clients() == [])
        states = _states(direct)
        assert set(states) <= {"ready", "missing"}, cut
        made.add(states.count("ready"))
        # Every shard reported as made is made; one more may be, whose answer was cut off.
        assert states.count("ready") - 1 <= result.json()[0]["created"] <= states.count("ready")
        if cut % 2:  # go on, or begin anew
            _require_usable(direct)
        else:
            hv("init", config=direct).ok()
        _unmake(database)
    assert made >= set(range(SHARDS))
    assert failures > 10


def test_init_that_is_killed_anywhere_leaves_whole_shards_and_can_be_repeated(relayed):
    database, between, through, direct = relayed
    whole = _bytes_of_init(database, between, through)
    between.delay = 0.002
    seen = set()
    for sent in range(300, whole, whole // 12):
        before = between.bytes["to_server"]
        process = spawn("hv", "init", config=through)
        eventually(lambda: between.bytes["to_server"] - before >= sent, interval=0.0005)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        eventually(lambda: database.clients() == [])
        states = _states(direct)
        assert set(states) <= {"ready", "missing"}, sent
        seen.add(states.count("ready"))
        hv("init", config=direct).ok()
        assert _states(direct) == ["ready"] * SHARDS
        _unmake(database)
    assert len(seen) > 1
    _require_usable(direct)


# ---- several at once ----


@pytest.mark.parametrize("isolation", ["read committed", "serializable"])
def test_several_inits_at_once_all_succeed(server, tmp_path, isolation):
    server.sql(f"ALTER DATABASE {server.dbname} SET default_transaction_isolation TO '{isolation}'")
    config = _config(tmp_path / "hypervault.conf", server)
    processes = [spawn("hv", "init", "--json", config=config) for _ in range(6)]
    outputs = [process.communicate() for process in processes]
    for process, (out, err) in zip(processes, outputs):
        assert process.returncode == 0, (out, err)
        assert err == b""
        assert json.loads(out)[0]["ready"]
    _require_usable(config)
    assert server.value("SELECT count(*) FROM hypervault.layout") == 1


def test_init_while_entities_are_put_disturbs_nobody(server, tmp_path):
    config = _config(tmp_path / "hypervault.conf", server)
    hv("init", config=config).ok()
    rows = tmp_path / "rows.ndjson"
    rows.write_text("".join(json.dumps({"n": str(n)}) + "\n" for n in range(3000)))
    importing = spawn("hv", "import", rows, "--kind", 1, config=config, cwd=tmp_path)
    rounds = 0
    while importing.poll() is None or rounds == 0:
        assert hv("init", "--json", config=config).ok().json()[0]["created"] == 0
        rounds += 1
    importing.communicate()
    assert importing.returncode == 0
    (one,) = hv("status", "--json", config=config).ok().json()["servers"]
    assert one["entities"] == 3000


# ---- hstore is not installed ----


def test_a_server_without_the_files_of_hstore_is_reported_to_install_them(make_server, tmp_path):
    server = make_server("one", bindir=installation.bindir_without("hstore"))
    config = _config(tmp_path / "hypervault.conf", server)
    result = hv("init", "--json", config=config)
    assert result.code == 1
    error = result.json()[0]["error"]
    assert (error["status"], error["sqlstate"]) == ("HV_REFUSED", "0A000")
    assert error["message"] == 'could not create the extension hstore on server "one"'
    assert "contrib" in error["hint"]
    assert server.query("SELECT 1 FROM pg_namespace WHERE nspname ~ '^(shard|hypervault)'") == []


# ---- disk full ----

MEBIBYTES = 14

# Started in place of `postgres`, by the servers' user: mounts a small disk that no other process
# sees, and becomes that user again before it starts the server.
SMALL_DISK = """#!/bin/sh
export DISK='{disk}' SIZE={size}m POSTGRES='{postgres}' USER_ID=$(id -u) GROUP_ID=$(id -g)
exec unshare --user --map-root-user --mount sh -c '
    mount -t tmpfs -o size=$SIZE,mode=0700 tmpfs "$DISK" &&
    exec unshare --user --map-user=$USER_ID --map-group=$GROUP_ID \\
        setpriv --pdeathsig QUIT -- "$POSTGRES" "$@"' postgres "$@"
"""


@pytest.fixture
def small_disk(make_server):
    """A database whose tables are on a disk that is nearly full."""
    place = scratch.folder("disk-")
    disk = os.path.join(place, "disk")
    program = os.path.join(place, "postgres")
    os.mkdir(disk)
    own(disk)
    postgres = os.path.join(binaries(), "postgres")
    with open(program, "w", encoding="utf-8") as file:
        file.write(SMALL_DISK.format(disk=disk, size=MEBIBYTES, postgres=postgres))
    os.chmod(program, 0o755)
    server = PostgresServer("one", bindir=place)
    try:
        server.start(wait=False)
        eventually(lambda: not server.running or "ready to accept" in server.log_text())
        if not server.running and "unshare" in server.log_text():
            pytest.skip("no user namespaces here")
        server.wait_ready()
        server.sql(f"CREATE TABLESPACE small LOCATION '{disk}'")
        server.sql("CREATE DATABASE test TABLESPACE small")
        yield DatabaseOnSmallDisk(server, "test")
    finally:
        server.destroy()


class DatabaseOnSmallDisk(Database):
    def fill(self):
        """Until there is no room for a page."""
        self.sql("CREATE TABLE filler (text text)")
        for rows in (1000, 100, 10, 1, 1):
            with contextlib.suppress(psycopg2.errors.DiskFull):
                while True:
                    self.sql(
                        "INSERT INTO filler SELECT repeat(md5(i::text), 60)"
                        f" FROM generate_series(1, {rows}) AS i"
                    )

    def free(self):
        self.sql("DROP TABLE filler")


def _disk_full(result):
    assert result.code == 1, result
    error = result.json()[0]["error"] if result.out else json.loads(result.err)["error"]
    assert (error["status"], error["sqlstate"]) == ("HV_REFUSED", "53100"), result
    assert "No space left on device" in error["message"] + error.get("detail", "")
    assert "disk space" in error["hint"]
    assert error["server"] == "one"
    assert error["retriable"]


def test_init_on_a_full_disk_makes_nothing_by_halves(small_disk, tmp_path):
    config = _config(tmp_path / "hypervault.conf", small_disk)
    small_disk.fill()
    _disk_full(hv("init", "--json", config=config))
    assert set(_states(config)) <= {"ready", "missing"}
    small_disk.free()
    _require_usable(config)


def test_put_on_a_full_disk_stores_nothing_and_works_again_later(small_disk, tmp_path):
    config = _config(tmp_path / "hypervault.conf", small_disk)
    hv("init", config=config).ok()
    small_disk.fill()
    _disk_full(hv("put", 2, 1, "a=b", "--json", config=config))
    assert small_disk.value("SELECT count(*) FROM shard0002.entities") == 0
    small_disk.free()
    key = hv("put", 2, 1, "a=b", config=config).ok().out.strip()
    hv("get", key, config=config).ok()


def test_an_import_that_fills_the_disk_ends_and_goes_on_when_there_is_room(small_disk, tmp_path):
    config = _config(tmp_path / "hypervault.conf", small_disk)
    hv("init", config=config).ok()
    rows = tmp_path / "rows.ndjson"
    rows.write_text("".join(json.dumps({"n": f"{n:0500}"}) + "\n" for n in range(4000)))
    small_disk.sql("CREATE TABLE room AS SELECT repeat('x', 500) FROM generate_series(1, 1500)")
    small_disk.fill()
    small_disk.sql("DROP TABLE room")  # for some of the rows, and not for all
    args = ("import", rows, "--kind", 1, "--json", "--resume")
    full = hv(*args, config=config, cwd=tmp_path)
    assert full.code == 1
    assert "No space left on device" in full.err and "disk space" in full.err
    assert not full.json()["complete"] and full.json()["rejected"] == 0
    small_disk.free()
    assert hv(*args, config=config, cwd=tmp_path).ok().json()["complete"]
    union = " UNION ALL ".join(
        f"SELECT body -> 'n' FROM shard{shard:04}.entities" for shard in range(1, SHARDS + 1)
    )
    stored = sorted(int(n) for (n,) in small_disk.query(union))
    assert stored == list(range(4000))


def test_a_migration_on_a_full_disk_is_done_later(small_disk, tmp_path):
    config = _config(tmp_path / "hypervault.conf", small_disk)
    hv("init", config=config).ok()
    files = Files(tmp_path / "migrations")
    rows = "SELECT repeat('x', 500) AS t FROM generate_series(1, 2000)"
    files.write("1_a.sql", f"CREATE TABLE a AS {rows};")
    files.write("2_b.sql", f"-- hv: no-transaction\nCREATE TABLE b AS {rows};")
    small_disk.fill()
    outcome = migrate(config, files, max_failures="all", canary="off")
    assert outcome.works() == {"failed": SHARDS}
    assert {e["sqlstate"] for e in outcome.failed().values()} == {"53100"}
    assert set(map(tuple, states(config, files).values())) == {("pending", "pending")}
    small_disk.free()
    migrate(config, files).ok()
    assert set(map(tuple, states(config, files).values())) == {("done", "done")}
    assert small_disk.value("SELECT count(*) FROM shard0002.b") == 2000
