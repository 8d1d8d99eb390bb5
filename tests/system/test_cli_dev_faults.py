"""hv dev when something goes wrong: kills, crashes, full disks, two at once."""

import contextlib
import fcntl
import os
import pathlib
import pty
import signal

import pytest

from harness import Result, build_dir, eventually, hv, run, spawn
from harness.server import binaries
from private_servers import (  # noqa: F401
    LITTLE,
    MARKER,
    config_of,
    dev,
    fake_postgres,
    folder,
    needs_root,
    place,
    postmasters,
    servers_of,
)


def test_two_commands_at_once_do_not_mix(folder):
    dev("up", folder, *LITTLE, "--no-init").ok()
    with open(f"{folder}/lock", "r+", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        print(os.getpid(), file=lock, flush=True)
        for command in (["up"], ["down"], ["destroy", "--yes"]):
            result = dev(command[0], folder, *command[1:])
            assert (result.code, result.out) == (1, "")
            assert f'another `hv dev` is working in "{folder}"' in result.err
        assert dev("status", folder).code == 0


def reached(folder, stage):
    """Has `hv dev up` got so far?"""
    return {
        "the folder": lambda: os.path.exists(folder),
        "the marker": lambda: os.path.exists(f"{folder}/{MARKER}"),
        "initdb": lambda: os.path.exists(f"{folder}/one/data.new/PG_VERSION"),
        "the data": lambda: os.path.exists(f"{folder}/one/data"),
        "the server": lambda: os.path.exists(f"{folder}/one/data/postmaster.pid"),
        "its socket": lambda: os.path.exists(f"{folder}/sockets/.s.PGSQL.5432"),
    }[stage]()


STAGES = ["the folder", "the marker", "initdb", "the data", "the server", "its socket"]


def up_and_kill(folder, stage):
    child = spawn("hv", "dev", "up", "--dir", folder, "--servers", 2, "--shards", 4)
    eventually(lambda: reached(folder, stage), what=stage, interval=0)
    child.send_signal(signal.SIGKILL)
    child.communicate()


@pytest.mark.parametrize("stage", STAGES)
def test_up_completes_what_a_killed_one_began(folder, stage):
    up_and_kill(folder, stage)
    dev("up", folder, "--shards", 4).ok()
    assert [server["running"] for server in servers_of(folder)] == [True, True]
    hv("status", config=config_of(folder)).ok()
    assert not list(pathlib.Path(folder).glob("*/data.new"))


@pytest.mark.parametrize("stage", STAGES[1:])
def test_destroy_removes_what_a_killed_up_left(folder, stage):
    up_and_kill(folder, stage)
    eventually(lambda: dev("destroy", folder, "--yes").code == 0, what="destroyed")
    assert not os.path.exists(folder)
    eventually(lambda: not postmasters(folder), what="no process is left")


def test_an_initdb_that_fails_is_heard(place, folder):
    complaint = "could not write block 7: No space left on device"
    pg_config = fake_postgres(place, f"echo '{complaint}'; exit 1")
    result = dev("up", folder, *LITTLE, env={"PG_CONFIG": pg_config})
    assert (result.code, result.out) == (1, "")
    assert result.err.splitlines()[-2:] == [
        'hv: initdb failed for server "one"',
        f"    {complaint}",
    ]
    assert not os.path.exists(f"{folder}/one/data")


def test_a_server_that_does_not_start_shows_its_log(folder):
    dev("up", folder, *LITTLE).ok()
    dev("down", folder).ok()
    settings = pathlib.Path(folder, "one/data/postgresql.conf")
    whole = settings.read_text()
    settings.write_text(whole + "no_such_setting = 1\n")
    result = dev("up", folder)
    assert (result.code, result.out) == (1, "")
    assert 'hv: server "one" did not start\n' in result.err
    assert "ready to accept connections" not in result.err  # that was the run before
    assert "pg_ctl" not in result.err and "log output" not in result.err
    assert 'unrecognized configuration parameter "no_such_setting"' in result.err
    assert f'"{folder}/one/log"' in result.err
    settings.write_text(whole)
    dev("up", folder).ok()


def test_a_server_that_crashed_recovers(folder):
    dev("up", folder, *LITTLE).ok()
    key = hv("put", 0, 1, "beep=boop", config=config_of(folder)).ok().out.strip()
    pid = servers_of(folder)[0]["pid"]
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not postmasters(folder), what="all of its processes have ended")
    assert servers_of(folder)[0]["running"] is False
    dev("up", folder).ok()
    assert "boop" in hv("get", key, config=config_of(folder)).ok().out


def test_no_postgresql_says_what_to_install(place, folder):
    wrong = dev("up", folder, env={"PG_CONFIG": "/bin/false"})
    assert (wrong.code, wrong.out) == (1, "")
    assert 'hv: $PG_CONFIG, "/bin/false", finds no PostgreSQL server\n' in wrong.err
    lying = pathlib.Path(place, "pg_config")
    lying.write_text("#!/bin/sh\necho /usr/share\n")
    lying.chmod(0o755)
    assert "without initdb, pg_ctl and postgres" in dev("up", folder, env={"PG_CONFIG": str(lying)}).err
    assert not os.path.exists(folder)


@needs_root
def test_without_postgresql_the_error_says_what_to_install(folder):
    # A mount namespace in which PostgreSQL's folder is empty.
    hidden = os.path.dirname(os.path.dirname(os.path.realpath(binaries())))
    if hidden != "/usr/lib/postgresql":
        pytest.skip("PostgreSQL is not installed as Debian does")
    script = f'mount -t tmpfs none {hidden} && exec "$@"'
    command = ["--mount", "bash", "-c", script, "bash", build_dir() / "cli" / "hv"]
    result = run("/usr/bin/unshare", *command, "dev", "up", "--dir", folder)
    if "unshare: " in result.err or "mount:" in result.err:
        pytest.skip("no mount namespaces here")
    assert (result.code, result.out) == (1, "")
    assert "hv: no PostgreSQL server is installed\n" in result.err
    assert "apt install postgresql" in result.err
    assert not os.path.exists(folder)


def test_a_configuration_that_cannot_be_read_is_not_written_anew(folder):
    dev("up", folder, *LITTLE).ok()
    config = config_of(folder)
    with open(config, "a", encoding="utf-8") as file:
        file.write("# a note of one's own\n")
    os.chmod(config, 0)
    result = dev("up", folder)
    assert result.code == 1 and f'could not read "{config}"' in result.err
    os.chmod(config, 0o600)
    assert "# a note of one's own\n" in open(config, encoding="utf-8").read()


def test_nothing_behind_a_nul_byte_in_the_configuration_is_lost(folder):
    dev("up", folder, *LITTLE).ok()
    config = pathlib.Path(config_of(folder))
    text = config.read_bytes() + b"# a\0 note\n# of one's own\n"
    config.write_bytes(text)
    result = dev("up", folder, "--servers", 2)
    assert (result.code, result.out) == (1, "")
    assert f'"{config}" holds a NUL byte' in result.err
    assert config.read_bytes() == text

@needs_root
def test_a_full_disk_is_reported_and_can_be_cleared_up(folder):
    os.mkdir(folder)
    script = (
        f'mount -t tmpfs -o size=12m none "{folder}" && chown postgres "{folder}" && '
        f'"$0" dev up --dir "{folder}" --servers 1 --shards 1; echo "up: $?"; '
        f'"$0" dev destroy --dir "{folder}" --yes; echo "destroy: $?"; ls -A "{folder}"'
    )
    result = run("/usr/bin/unshare", "--mount", "bash", "-c", script, build_dir() / "cli" / "hv")
    if "unshare: " in result.err or "mount:" in result.err:
        pytest.skip("no mount namespaces here")
    assert result.lines[0] == "up: 1"
    assert "No space left on device" in result.err
    assert result.lines[-1] == "destroy: 0"


def test_up_that_is_interrupted_leaves_running_servers_alone(folder):
    dev("up", folder, *LITTLE).ok()
    pid = servers_of(folder)[0]["pid"]
    child = spawn("hv", "dev", "up", "--dir", folder, start_new_session=True)
    eventually(lambda: os.path.exists(f"/proc/{child.pid}"))
    os.killpg(child.pid, signal.SIGINT)
    child.communicate()
    assert servers_of(folder)[0]["pid"] == pid


@pytest.mark.parametrize("target", ["everybody on the terminal", "hv alone"])
def test_up_that_ends_while_it_waits_for_a_server_cancels_the_start(place, folder, target):
    """A PostgreSQL that starts only when it may."""
    pg_config = fake_postgres(place, f"exec '{binaries()}/initdb' \"$@\"")
    postgres = pathlib.Path(place, "bin/postgres")
    postgres.unlink()
    real = f"exec '{binaries()}/postgres' \"$@\""
    postgres.write_text(
        f"#!/bin/sh\n[ \"$1\" = --version ] && {real}\n"
        f"until [ -e '{place}/may' ]; do sleep 0.01; done\n{real}\n"
    )
    postgres.chmod(0o755)
    env = {"PG_CONFIG": pg_config}
    child = spawn("hv", "dev", "up", "--dir", folder, *LITTLE, env=env, start_new_session=True)

    def waiting():
        with contextlib.suppress(OSError):
            return {
                os.readlink(f"/proc/{pid}/exe") for pid in postmasters(folder)
            } >= {os.path.realpath("/bin/sh"), os.path.realpath(f"{binaries()}/pg_ctl")}

    eventually(waiting, what="pg_ctl and what it has started are at work")
    if target == "hv alone":
        child.kill()
    else:
        os.killpg(child.pid, signal.SIGINT)
    output = child.communicate()
    assert child.returncode == (-signal.SIGKILL if target == "hv alone" else -signal.SIGINT), output
    eventually(lambda: not postmasters(folder), what="nothing is left at work")
    assert servers_of(folder)[0]["running"] is False
    pathlib.Path(place, "may").touch()
    dev("up", folder, env=env).ok()
    assert servers_of(folder)[0]["running"] is True


def test_servers_outlive_the_terminal_they_were_started_from(folder):
    ours, theirs = pty.openpty()
    child = spawn(
        "hv", "dev", "up", "--dir", folder, *LITTLE,
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
    )
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):
        while piece := os.read(ours, 65536):
            shown += piece
    os.close(ours)  # the terminal hangs up
    assert child.wait(60) == 0, Result(["up"], child.returncode, shown, b"")
    (server,) = servers_of(folder)
    assert server["running"] and os.getsid(server["pid"]) == server["pid"]
    held = [os.readlink(entry.path) for entry in os.scandir(f"/proc/{server['pid']}/fd")]
    assert not [path for path in held if path == f"{folder}/lock" or "/dev/pts" in path]
