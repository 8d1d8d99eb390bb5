"""hv dev: private servers are made, used and removed, wherever and by whichever user."""

import contextlib
import os
import pathlib
import pty
import pwd
import shutil
import socket
import stat
import subprocess

import psycopg2
import pytest

from harness import build_dir, hv, installation, run, scratch, spawn
from harness.server import binaries
from private_servers import (  # noqa: F401
    LITTLE,
    MARKER,
    ROOT,
    config_of,
    connect,
    dev,
    fake_postgres,
    folder,
    listening,
    needs_root,
    place,
    postmasters,
    servers_of,
    standing,
)

# The servers have the extension if the build has it.
KEYS = "strict" if installation.why_not() is None else "portable"


# ---- up ----


def test_up_makes_servers_that_can_be_used_at_once(standing):
    folder, result = standing
    result.ok()
    assert [line.split() for line in result.lines[1:3]] == [
        ["one", "8", "8", "0", KEYS, "ready"],
        ["two", "8", "8", "0", KEYS, "ready"],
    ]
    assert f"  export HYPERVAULT_CONFIG={config_of(folder)}" in result.lines
    for shard, server in ((0, "one"), (7, "one"), (8, "two"), (15, "two")):
        key = hv("put", shard, 1, "beep=boop", config=config_of(folder)).ok().out.strip()
        shown = hv("get", key, config=config_of(folder)).ok().out
        assert f"shard {shard} on {server}" in shown
    status = hv("status", "--json", config=config_of(folder)).ok().json()
    assert [server["shards_ready"] for server in status["servers"]] == [8, 8]


def test_status_shows_what_is_so(standing):
    folder, _ = standing
    one, two = servers_of(folder)
    assert (one["name"], one["shards"], two["name"], two["shards"]) == ("one", "0-8", "two", "8-16")
    for server in (one, two):
        assert server["running"] is True
        command = pathlib.Path(f"/proc/{server['pid']}/cmdline").read_bytes().split(b"\0")
        assert os.path.basename(command[0]) == b"postgres"
        assert stat.S_ISSOCK(os.stat(f"{server['host']}/.s.PGSQL.{server['port']}").st_mode)
        assert "ready to accept connections" in pathlib.Path(server["log"]).read_text()
        assert os.path.isdir(server["data"])
        assert server["bytes"] > 20_000_000
        assert server["version"].split(".")[0] == pathlib.Path(
            server["data"], "PG_VERSION"
        ).read_text().strip()
    rows = [line.split() for line in dev("status", folder).ok().lines]
    assert rows[1][:5] == ["one", "running", str(one["pid"]), one["version"], "5432"]
    assert ["config", config_of(folder)] in rows


def test_only_their_user_gets_at_the_servers(standing):
    folder, _ = standing
    owner = os.stat(folder).st_uid
    assert owner != 0
    for path in (folder, f"{folder}/sockets", f"{folder}/one", f"{folder}/one/data"):
        assert stat.S_IMODE(os.stat(path).st_mode) & 0o077 == 0, path
    for name in ("hypervault.conf", MARKER, "lock"):
        status = os.stat(f"{folder}/{name}")
        assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (owner, 0o600)
    for server in servers_of(folder):
        assert os.stat(f"/proc/{server['pid']}").st_uid == owner
        assert not listening(server["pid"])


def test_the_servers_are_careful_with_data_and_modest_with_memory(standing):
    folder, _ = standing
    with connect(folder) as connection, connection.cursor() as cursor:
        for name, value in (
            ("fsync", "on"),
            ("synchronous_commit", "on"),
            ("shared_buffers", "32MB"),
            ("server_encoding", "UTF8"),
            ("TimeZone", "UTC"),
        ):
            cursor.execute(f"SHOW {name}")
            assert cursor.fetchone() == (value,)
        cursor.execute("SELECT datcollate FROM pg_database WHERE datname = current_database()")
        assert cursor.fetchone()[0] in ("C.UTF-8", "C")


def test_up_again_changes_nothing(standing):
    folder, _ = standing
    before = servers_of(folder)
    files = [f"{folder}/{name}" for name in ("hypervault.conf", MARKER)]
    times = [os.stat(path).st_mtime_ns for path in files]
    result = dev("up", folder, "--servers", 2, "--shards", 16).ok()
    assert "All servers were running." in result.err
    after = servers_of(folder)
    assert [server["pid"] for server in after] == [server["pid"] for server in before]
    assert [os.stat(path).st_mtime_ns for path in files] == times


@pytest.mark.parametrize(
    "args, message",
    [
        (["--servers", 1], "were made with --servers 2, not 1"),
        (["--shards", 32], "were made with --shards 16, not 32"),
        (["--port", 7001], "were made without TCP ports"),
    ],
)
def test_up_with_other_wishes_says_what_to_do(standing, args, message):
    folder, _ = standing
    result = dev("up", folder, *args)
    assert (result.code, result.out) == (1, "")
    assert message in result.err.splitlines()[0]
    assert "--dir" in result.err
    assert [server["running"] for server in servers_of(folder)] == [True, True]


def test_servers_and_shards_are_spread_evenly(folder):
    dev("up", folder, "--servers", 3, "--shards", 10, "--no-init").ok()
    assert [(server["name"], server["shards"]) for server in servers_of(folder)] == [
        ("one", "0-3"),
        ("two", "3-6"),
        ("three", "6-10"),
    ]
    status = hv("status", "--json", config=config_of(folder)).json()
    assert [server["shards_missing"] for server in status["servers"]] == [3, 3, 4]
    created = hv("init", "--json", config=config_of(folder)).ok().json()
    assert [server["created"] for server in created] == [3, 3, 4]


def test_values_are_spread_over_the_first_shards_and_over_the_same_ones_when_servers_are_added(folder):
    dev("up", folder, "--servers", 2, "--shards", 10, "--no-init").ok()
    config = pathlib.Path(config_of(folder))
    assert "\nspread = 0-10\n" in config.read_text()
    of = [word for n in range(50) for word in ("--of", f"user{n}")]
    first = hv("key", *of, config=config).ok().lines
    assert len(set(first)) > 5
    dev("up", folder, "--servers", 3, "--no-init").ok()
    text = config.read_text()
    config.write_text(text.replace("#shards =", "shards = 10-20"))
    assert hv("key", *of, config=config).ok().lines == first


def test_up_reports_everything_to_programs(folder):
    report = dev("up", folder, *LITTLE, "--json").ok().json()
    assert report["config"] == config_of(folder)
    assert report["servers"] == servers_of(folder) or report["servers"][0]["running"]
    keys = {"strict": 0, "portable": 0, "original": 0, KEYS: 1}
    assert report["init"] == [
        {"server": "one", "ready": True, "shards": 1, "created": 1, "keys": keys}
    ]


def test_a_configuration_that_was_edited_stays_and_one_that_is_lost_is_made_anew(folder):
    dev("up", folder, *LITTLE).ok()
    config = pathlib.Path(config_of(folder))
    first = config.read_text()
    config.write_text(first.replace("[hypervault]", "[hypervault]\npool_max = 3"))
    dev("up", folder).ok()
    assert "pool_max = 3" in config.read_text()
    config.unlink()
    dev("up", folder).ok()
    assert config.read_text() == first


def test_the_callers_postgresql_variables_change_nothing(folder):
    env = {
        "PGHOST": "nowhere.invalid",
        "PGPORT": "1",
        "PGUSER": "nobody",
        "PGDATA": "/nonexistent",
        "PGOPTIONS": "-c no_such_setting=1",
        "PGSERVICE": "nowhere",
        "PGSSLMODE": "verify-full",
    }
    dev("up", folder, *LITTLE, env=env).ok()
    out = dev("psql", folder, "--", "-AtXc", "SELECT current_user", env=env).ok().out
    assert out == "hypervault\n"


@pytest.mark.parametrize(
    "args, message",
    [
        (["--servers", 0], "--servers is out of range: 0"),
        (["--servers", 17], "--servers is out of range: 17"),
        (["--shards", 8193], "--shards is out of range: 8193"),
        (["--shards", 1], "2 servers cannot share 1 shard"),
        (["--servers", 5, "--shards", 4], "5 servers cannot share 4 shards"),
        (["--port", 65530], "--port is out of range: 65530"),
        (["here"], 'unexpected argument "here"'),
    ],
)
def test_wishes_that_make_no_sense_begin_nothing(folder, args, message):
    result = dev("up", folder, *args)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(f"hv: {message}\n")
    assert not os.path.exists(folder)


# ---- folders ----


@pytest.mark.parametrize(
    "name",
    ["two words, it's", 'say "no" \\ ;-)', "-ünï #$(id)"],
)
def test_a_folder_may_have_any_name(place, name):
    folder = os.path.join(place, name)
    result = dev("up", folder, *LITTLE).ok()
    export = next(line for line in result.lines if "HYPERVAULT_CONFIG" in line)
    shell = f'{export}; {build_dir()}/cli/hv put 0 1 a=b'
    subprocess.run(["bash", "-c", shell], check=True, capture_output=True)
    assert dev("psql", folder, "--", "-AtXc", "SELECT 1").ok().out == "1\n"
    dev("down", folder).ok()
    dev("destroy", folder, "--yes").ok()
    assert os.listdir(place) == []


def test_sockets_move_to_a_shorter_path_if_theirs_is_too_long(place):
    folder = os.path.join(place, "l" * 100)
    dev("up", folder, *LITTLE).ok()
    (server,) = servers_of(folder)
    sockets = server["host"]
    assert sockets.startswith("/tmp/hypervault-")
    assert stat.S_IMODE(os.stat(sockets).st_mode) == 0o700
    dev("down", folder).ok()
    shutil.rmtree(sockets)  # as cleaning of /tmp does
    dev("up", folder).ok()
    assert servers_of(folder)[0]["host"] == sockets
    dev("destroy", folder, "--yes").ok()
    assert not os.path.exists(sockets)


def test_a_folder_is_found_from_the_working_directory(place):
    if not ROOT:
        os.chmod(place, 0o755)
    hv("dev", "up", "--dir", "here", *LITTLE, cwd=place).ok()
    assert dev("status", os.path.join(place, "here")).code == 0


def test_a_folder_with_other_things_in_it_is_left_alone(place):
    folder = pathlib.Path(place, "mine")
    folder.mkdir()
    folder.joinpath("letter").write_text("dear")
    if ROOT:
        shutil.chown(folder, "postgres")
    for command in (["up"], ["down"], ["status"], ["psql"], ["destroy", "--yes"]):
        result = dev(command[0], folder, *command[1:])
        assert (result.code, result.out) == (1, "")
        assert str(folder) in result.err.splitlines()[0]
        assert os.listdir(folder) == ["letter"]


def test_a_folder_that_is_not_there_is_not_made_by_looking(folder):
    for command in (["down"], ["status"], ["psql"], ["destroy", "--yes"]):
        result = dev(command[0], folder, *command[1:])
        assert (result.code, result.out) == (1, "")
        assert result.err.startswith(f'hv: there are no private servers in "{folder}"\n')
        assert "hv dev up" in result.err
        assert not os.path.exists(folder)


@pytest.mark.parametrize("name", ["new\nline", "e\x1bsc", "x" * 900, ""])
def test_a_folder_that_postgresql_could_not_use_is_refused(place, name):
    result = dev("up", os.path.join(place, name) if name else "")
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith("hv: the folder's name ")
    assert "\x1b" not in result.err
    assert os.listdir(place) == []


def test_a_file_in_the_way_is_named(place):
    path = pathlib.Path(place, "file")
    path.write_text("")
    assert f'"{path}" is not a folder' in dev("up", path).err
    assert f"{path}/d" in dev("up", path / "d").err
    assert os.listdir(place) == ["file"]


def test_a_folder_that_was_moved_says_where_it_was(place, folder):
    dev("up", folder, *LITTLE, "--no-init").ok()
    dev("down", folder).ok()
    moved = os.path.join(place, "moved")
    os.rename(folder, moved)
    result = dev("up", moved)
    assert result.code == 1
    assert f'hint: Move it back to "{folder}".' in result.err
    os.rename(moved, folder)
    dev("up", folder).ok()


def test_a_damaged_marker_is_no_licence_to_remove_anything(folder):
    dev("up", folder, *LITTLE, "--no-init").ok()
    dev("down", folder).ok()
    marker = pathlib.Path(folder, MARKER)
    whole = marker.read_text()
    for text in (
        "",
        "{",
        "[]",
        whole.replace('"servers": 1', '"servers": 99'),
        whole.replace(f"{folder}/sockets", folder),
    ):
        marker.write_text(text)
        result = dev("destroy", folder, "--yes")
        assert (result.code, result.out) == (1, "")
        assert f'"{marker}" is damaged' in result.err
        assert os.path.isdir(f"{folder}/one/data")
    marker.write_text(whole)


# ---- users ----


@needs_root
@pytest.mark.parametrize("below", ["", "open"])
def test_root_is_where_the_servers_user_may_not_go(folder, tmp_path, below):
    (tmp_path / below).mkdir(exist_ok=True)
    tmp_path.chmod(0o700)
    made = dev("up", folder, *LITTLE, "--json", cwd=tmp_path / below).ok().json()
    assert made["init"][0]["keys"][KEYS] == 1


@needs_root
def test_an_ordinary_user_needs_no_help(place):
    def as_nobody(*args):
        command = ["--reuid", "nobody", "--regid", "nogroup", "--clear-groups", "--"]
        command += [build_dir() / "cli" / "hv", *args]
        return run("/usr/bin/setpriv", *command, env={"HOME": home})

    home = os.path.join(place, "home")
    os.mkdir(home)
    shutil.chown(home, "nobody")
    probe = as_nobody("--version")
    if probe.code != 0:
        pytest.skip("the build folder is closed to other users")
    as_nobody("dev", "up", *LITTLE).ok()
    folder = f"{home}/.local/share/hypervault/dev"
    (server,) = as_nobody("dev", "status", "--json").ok().json()["servers"]
    assert os.stat(f"/proc/{server['pid']}").st_uid == pwd.getpwnam("nobody").pw_uid
    assert as_nobody("-c", config_of(folder), "put", 0, 1, "a=b").code == 0
    assert "only root" in as_nobody("dev", "up", "--user", "postgres").err
    refused = as_nobody("dev", "up", "--dir", "/etc/hypervault-dev-test")
    assert refused.code == 1
    assert 'could not make the folder "/etc/hypervault-dev-test"' in refused.err
    as_nobody("dev", "destroy", "--yes").ok()
    assert not os.path.exists(folder)


def test_a_folder_of_another_user_is_refused(place):
    folder = os.path.join(place, "theirs")
    os.mkdir(folder)
    if not ROOT:
        pytest.skip("only root can make a folder of another user")
    shutil.chown(folder, "postgres")
    command = ["--reuid", "nobody", "--regid", "nogroup", "--clear-groups", "--"]
    command += [build_dir() / "cli" / "hv", "dev", "up", "--dir", folder]
    result = run("/usr/bin/setpriv", *command)
    if result.code in (126, 127):  # not executed, or without its library
        pytest.skip(f"the build folder is closed to other users: {result.err}")
    assert (result.code, result.out) == (1, "")
    assert 'belongs to user "postgres"' in result.err


# ---- TCP ----


def test_with_a_port_a_password_is_asked_for_and_shown_to_nobody(place, folder):
    port = scratch.free_port()
    seen = pathlib.Path(place, "seen")
    initdb = f"until [ -e '{seen}' ]; do sleep 0.01; done; exec '{binaries()}/initdb' \"$@\""
    env = {"PG_CONFIG": fake_postgres(place, initdb)}
    child = spawn("hv", "dev", "up", "--dir", folder, *LITTLE, "--port", port, env=env)
    commands = set()
    while child.poll() is None:
        for entry in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                commands.add(entry.read_bytes())
        if any(f"{place}/bin/initdb".encode() in command for command in commands):
            seen.touch()
    output = b"".join(child.communicate())
    assert child.returncode == 0, output
    password = pathlib.Path(folder, "password").read_text()
    assert len(password) == 32
    assert seen.exists()
    assert not any(password.encode() in command for command in commands)
    assert password.encode() not in output
    assert password not in pathlib.Path(folder, "one/log").read_text()

    assert listening(servers_of(folder)[0]["pid"]) == [("0100007F", port)]
    tcp = {"host": "127.0.0.1", "port": port, "user": "hypervault", "dbname": "hypervault"}
    psycopg2.connect(**tcp, password=password).close()
    for wrong in ("", "hypervault"):
        with pytest.raises(psycopg2.OperationalError, match="password"):
            psycopg2.connect(**tcp, password=wrong, passfile="/dev/null")
    hv("put", 0, 1, "a=b", config=config_of(folder)).ok()


def test_a_taken_port_is_named_and_the_next_try_succeeds(folder):
    port = scratch.free_port()
    with socket.socket() as taker:
        taker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taker.bind(("127.0.0.1", port))
        taker.listen()
        result = dev("up", folder, *LITTLE, "--port", port)
        assert (result.code, result.out) == (1, "")
        assert f"hv: port {port} of 127.0.0.1 is taken\n" in result.err
    dev("up", folder).ok()
    assert servers_of(folder)[0]["port"] == port


# ---- down, psql, destroy ----


def test_down_keeps_the_data_and_up_brings_it_back(folder):
    dev("up", folder, *LITTLE).ok()
    key = hv("put", 0, 1, "beep=boop", config=config_of(folder)).ok().out.strip()
    assert servers_of(folder)[0]["pid"] in postmasters(folder)
    assert dev("down", folder).ok().out == "stopped 1 server\n"
    assert not postmasters(folder)
    assert dev("down", folder).ok().out == f"nothing was running in {folder}\n"
    assert dev("down", folder, "--json").ok().json() == {"stopped": 0}
    status = dev("status", folder)
    assert status.code == 1
    assert status.lines[1].split()[:3] == ["one", "stopped", "-"]
    assert "hv dev up" in dev("psql", folder).err
    dev("up", folder).ok()
    assert "boop" in hv("get", key, config=config_of(folder)).ok().out


def test_down_ends_sessions_that_are_open(folder):
    dev("up", folder, *LITTLE, "--no-init").ok()
    with connect(folder) as connection:
        dev("down", folder).ok()
        with pytest.raises(psycopg2.OperationalError):
            connection.cursor().execute("SELECT 1")


def test_a_process_id_of_somebody_else_is_not_taken_for_a_server(folder):
    dev("up", folder, *LITTLE, "--no-init").ok()
    dev("down", folder).ok()
    owner = os.stat(folder).st_uid
    with subprocess.Popen(["sleep", "1000"], user=owner if ROOT else None) as bystander:
        try:
            record = pathlib.Path(folder, "one/data/postmaster.pid")
            record.write_text(f"{bystander.pid}\n{folder}/one/data\n")
            lock = pathlib.Path(folder, "sockets/.s.PGSQL.5432.lock")
            lock.write_text(f"{bystander.pid}\n")
            for path in (record, lock):
                path.chmod(0o644)  # whatever our umask is, for the server's user
            assert servers_of(folder)[0]["running"] is False
            assert "nothing was running" in dev("down", folder).ok().out
            dev("up", folder, "--no-init").ok()
            assert servers_of(folder)[0]["pid"] != bystander.pid
            dev("destroy", folder, "--yes").ok()
            assert bystander.poll() is None
        finally:
            bystander.kill()


def test_psql_gets_what_follows_the_two_dashes(standing):
    folder, _ = standing
    query = "SELECT current_setting('cluster_name'), :'x'"
    for server, name in (([], "one"), (["one"], "one"), (["two"], "two")):
        words = ["--", "-AtX", "-v", "x=a b"]
        done = hv("dev", "psql", "--dir", folder, *server, *words, input=query).ok()
        assert done.out == f"hypervault {name}|a b\n"
    failed = hv("dev", "psql", "--dir", folder, "--", "-Xc", "SELECT 1/0")
    assert failed.code == 1 and "division by zero" in failed.err


@needs_root
def test_psql_starts_in_a_folder_that_is_closed_to_the_servers_user(standing, tmp_path):
    folder, _ = standing
    tmp_path.chmod(0o700)
    done = hv("dev", "psql", "--dir", folder, "--", "-AtXc", "SELECT 1", cwd=tmp_path).ok()
    assert (done.out, done.err) == ("1\n", "")


def test_psql_on_a_server_that_is_not_there(standing):
    folder, _ = standing
    result = hv("dev", "psql", "tow", "--dir", folder)
    assert (result.code, result.out) == (2, "")
    assert result.err == 'hv: there is no server "tow"\n    hint: Did you mean "two"?\n'
    result = hv("dev", "psql", "one", "two", "--dir", folder)
    assert result.code == 2
    assert 'Arguments of psql follow "--".' in result.err


def test_destroy_leaves_nothing_of_ours_and_everything_of_others(folder):
    dev("up", folder, *LITTLE).ok()
    assert servers_of(folder)[0]["pid"] in postmasters(folder)
    pathlib.Path(folder, "notes").write_text("mine")
    outside = pathlib.Path(folder).parent / "outside"
    outside.mkdir()
    outside.joinpath("kept").write_text("")
    os.symlink(outside, f"{folder}/one/link")
    result = dev("destroy", folder, "--yes").ok()
    assert result.out == f"destroyed the servers in {folder}\n"
    assert "there are other files in it" in result.err
    assert not postmasters(folder)
    assert os.listdir(folder) == ["notes"]
    assert os.listdir(outside) == ["kept"]


def test_destroy_without_a_terminal_needs_an_option(standing):
    folder, _ = standing
    result = dev("destroy", folder)
    assert (result.code, result.out) == (2, "")
    assert "--yes" in result.err
    assert [server["running"] for server in servers_of(folder)] == [True, True]


def test_destroy_asks_on_a_terminal(folder):
    dev("up", folder, *LITTLE, "--no-init").ok()
    for answer, code in (("n\n", 1), ("\n", 1), ("\x04", 1), ("y\n", 0)):
        ours, theirs = pty.openpty()
        child = spawn("hv", "dev", "destroy", "--dir", folder, stdin=theirs, stderr=theirs)
        os.close(theirs)
        asked = b""
        while b"[y/N]" not in asked:
            asked += os.read(ours, 1000)
        assert f"Destroy 1 server in {folder} with all their data (".encode() in asked
        os.write(ours, answer.encode())
        assert child.wait(60) == code
        child.stdout.close()
        os.close(ours)
        assert os.path.exists(f"{folder}/one/data") == (code != 0)
    assert not os.path.exists(folder)
