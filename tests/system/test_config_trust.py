"""Access to configuration files: others must not write to them, nor read a password in them."""

import json
import os
import pathlib
import shutil
import subprocess
import tempfile

import pytest

from harness import build_dir, hv, program, python

HV = build_dir() / "cli/hv"
PLAIN = "[server one]\nhost = 127.0.0.1\nport = 1\nshards = 0-8\n"
SECRET = PLAIN + "password = Geheim123\n"
CERTIFICATE = PLAIN + "sslpassword = Geheim123\n"
EMPTY = PLAIN + "password =\n"
STRANGER, OTHER_STRANGER = 12345, 12346

only_root = pytest.mark.skipif(os.geteuid() != 0, reason="gives files to other users")


@pytest.fixture
def folder():
    """One that every user may enter: pytest's own may be closed."""
    place = pathlib.Path(tempfile.mkdtemp(prefix="hv-trust-", dir="/tmp"))
    place.chmod(0o755)
    yield place
    shutil.rmtree(place)


@pytest.fixture
def written(folder):
    """A function that writes a configuration of this mode and owner, and returns its path."""

    def write(text, mode, owner=None, group=None):
        path = folder / "hypervault.conf"
        path.write_text(text)
        if owner is not None or group is not None:
            os.chown(path, owner if owner is not None else -1, group if group is not None else -1)
        path.chmod(mode)
        return path

    return write


def read(path=None, user=None, cwd=None):
    """Make hv read a configuration (which completes the names of servers), as this user; None:
    found in the folder `cwd`. The message, or None if all is well."""
    args = ["completion", "servers"] + ([] if path is None else ["--config", str(path)])
    if user is None:
        result = hv(*args, "--json", cwd=cwd)
    else:
        switch = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "--"]
        result = program(shutil.which(switch[0]), *switch[1:], HV, *args, "--json", cwd=cwd)
    assert "Geheim" not in result.out + result.err
    if result.code == 0:
        assert result.out == "one\n" and result.err == ""
        return None
    (line,) = result.err.splitlines()
    error = json.loads(line)["error"]
    assert error["status"] == "HV_BAD_CONFIG"
    assert error["hint"] and str(path if path is not None else "hypervault.conf") in error["message"]
    return f"{error['message']} HINT {error['hint']}"


@pytest.mark.parametrize("text", [PLAIN, SECRET])
@pytest.mark.parametrize("mode", [0o660, 0o606, 0o622, 0o666, 0o777])
def test_a_configuration_that_others_can_write_to_is_refused(written, text, mode):
    path = written(text, mode)
    message = read(path)
    assert "others can write to configuration file" in message
    assert f"HINT chmod {'600' if text == SECRET else 'go-w'} {path}" in message


@pytest.mark.parametrize("text", [SECRET, CERTIFICATE])
@pytest.mark.parametrize("mode", [0o604, 0o644, 0o444])
def test_a_password_that_others_can_read_is_refused(written, text, mode):
    path = written(text, mode)
    message = read(path)
    assert "holds a password, and others can read it" in message
    assert f"HINT chmod 600 {path}" in message


def test_the_hint_is_a_command_for_a_shell(folder):
    path = folder / "it's a configuration; true.conf"
    path.write_text(SECRET)
    path.chmod(0o644)
    command = read(path).split(" HINT ")[1].split(", or ")[0]
    subprocess.run(["sh", "-c", command], check=True)
    assert read(path) is None


@pytest.mark.parametrize(
    "text, mode",
    [(PLAIN, 0o644), (PLAIN, 0o444), (EMPTY, 0o644), (SECRET, 0o600), (SECRET, 0o400)],
)
def test_a_configuration_as_it_should_be_is_taken(written, text, mode):
    assert read(written(text, mode)) is None


@only_root
def test_a_password_of_roots_may_be_read_by_a_group(written):
    """Like a secret of Kubernetes, and as libpq allows it for keys."""
    assert read(written(SECRET, 0o640, owner=0, group=STRANGER)) is None
    assert read(written(SECRET, 0o440, owner=0, group=STRANGER)) is None
    assert "others can read it" in read(written(SECRET, 0o644, owner=0))
    assert "others can read it" in read(written(SECRET, 0o640, owner=STRANGER))


@only_root
def test_a_file_of_another_user_is_not_taken_by_chance(written, folder):
    """Root in another user's folder; but root may name the file, as hv dev up says to do."""
    path = written(PLAIN, 0o644, owner=STRANGER)
    message = read(cwd=folder)
    assert "belongs to another user" in message and "-c" in message
    assert read(path) is None
    assert read(written(SECRET, 0o600, owner=STRANGER)) is None
    written(PLAIN, 0o644, owner=0)
    assert read(cwd=folder) is None


def test_a_pipe_is_read_whatever_it_holds(folder):
    script = f"cat <<'END' | {HV} completion servers --config /dev/stdin\n{SECRET}END\n"
    result = program("/bin/bash", "-c", script)
    assert (result.code, result.out) == (0, "one\n")
    script = f"{HV} completion servers --config <(cat <<'END'\n{SECRET}END\n)\n"
    result = program("/bin/bash", "-c", script)
    assert (result.code, result.out) == (0, "one\n")


@only_root
def test_another_users_file_is_a_users_own_decision(written, folder):
    """Without a password, that is."""
    if not os.access(HV, os.X_OK) or program(
        shutil.which("setpriv"), f"--reuid={STRANGER}", "--clear-groups", "--", HV, "--version"
    ).code:
        pytest.skip("other users cannot run the command that was built")
    path = written(PLAIN, 0o644, owner=OTHER_STRANGER)
    assert read(path, user=STRANGER) is None
    assert "belongs to another user" in read(user=STRANGER, cwd=folder)
    path = written(SECRET, 0o640, owner=OTHER_STRANGER, group=STRANGER)
    message = read(path, user=STRANGER)
    assert "belongs to another user" in message and "a copy of your own" in message
    assert read(written(SECRET, 0o600, owner=STRANGER), user=STRANGER) is None


@pytest.mark.skipif(not python.is_usable(), reason="the package is not built")
def test_python_refuses_the_same(written):
    code = """
        import sys
        from hv.datastore import Datastore
        try:
            Datastore.from_config(PATH).disconnect()
        except Exception as error:
            print(type(error).__name__, error)
        else:
            print("taken")
        """
    for text, mode, answer in (
        (SECRET, 0o644, "holds a password, and others can read it"),
        (PLAIN, 0o666, "others can write to configuration file"),
        (SECRET, 0o600, "taken"),
    ):
        path = written(text, mode)
        shown = python.run(code.replace("PATH", repr(str(path)))).out
        assert answer in shown and "Geheim" not in shown
