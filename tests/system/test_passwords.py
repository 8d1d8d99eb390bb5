"""A password is in no output, no error, no log event and no list of processes, wherever it comes
from and whatever goes wrong."""

import json
import os
import secrets

import pytest

from harness import eventually, hv, make_shards, spawn, store_config
from harness.store_tool import make_tool  # noqa: F401


class Secret:
    """A password that occurs nowhere else. `mark` is the part of it that no quoting changes."""

    def __init__(self):
        self.mark = secrets.token_hex(12)
        self.text = f"it's \"{self.mark}\" 100%"

    def require_absent(self, *texts):
        for text in texts:
            assert self.mark not in text, text.replace(self.mark, "<THE PASSWORD>")


@pytest.fixture
def secret():
    return Secret()


@pytest.fixture
def database(servers):
    """A database that is reached by TCP, with a password."""
    return servers[1]


@pytest.fixture
def role(database, secret):
    """A role that has this password, and may do anything."""
    name = f"role_{secrets.token_hex(6)}"
    database.sql(f"CREATE ROLE {name} LOGIN SUPERUSER PASSWORD %s", secret.text)
    yield name
    database.sql(f"REASSIGN OWNED BY {name} TO postgres; DROP ROLE {name}")


def _place(database, role):
    """libpq's parameters without a password."""
    params = database.params(user=role)
    del params["password"]
    return params


def _private_file(path, text):
    path.write_text(text)
    os.chmod(path, 0o600)
    return str(path)


def _from_configuration(_, params, secret):
    return {**params, "password": secret.text}, {}


def _from_pgpass(folder, params, secret):
    # In HOME, where libpq looks for it.
    _private_file(folder / ".pgpass", f"{params['host']}:*:*:*:{secret.text}\n")
    return params, {"HOME": str(folder)}


def _from_environment(_, params, secret):
    return params, {"PGPASSWORD": secret.text}


def _from_service_file(folder, params, secret):
    lines = [f"{name}={value}" for name, value in params.items()]
    text = "\n".join(["[vault]", *lines, f"password={secret.text}"]) + "\n"
    path = _private_file(folder / "services.conf", text)
    return {"service": "vault"}, {"PGSERVICEFILE": path}


SOURCES = {
    "configuration": _from_configuration,
    "pgpass": _from_pgpass,
    "environment": _from_environment,
    "service file": _from_service_file,
}


@pytest.fixture(params=SOURCES)
def source(request, tmp_path, secret):
    """A function: source(params) gives a configuration's path and the environment to use it in."""

    def make(params, **options):
        where, env = SOURCES[request.param](tmp_path, params, secret)
        path = store_config(tmp_path / "hypervault.conf", {"one": (where, "1-3")}, **options)
        return path, env

    return make


def _commands(folder):
    rows = folder / "rows.ndjson"
    rows.write_text('{"n": "1"}\n{"n": 2}\nno row\n')
    return [
        ("init",),
        ("status",),
        ("status", "--shards"),
        ("put", 1, 1, "a=b"),
        ("get", "307821103844165633"),
        ("import", rows, "--kind", 1, "--retry-for", "0s", "--rejects", folder / "rejects"),
        ("help", "options"),
    ]


def _say_everything(folder, config, env):
    """The output of all commands, for people and for programs, and the files that they write."""
    said = []
    for command in _commands(folder):
        for more in [], ["--json"]:
            result = hv(*command, *more, config=config, env=env, cwd=folder)
            said += [result.out, result.err]
        if (folder / "rejects").exists():
            said.append((folder / "rejects").read_text())
            (folder / "rejects").unlink()
    return said


def test_no_command_shows_the_password(database, role, source, secret, tmp_path):
    config, env = source(_place(database, role))
    hv("init", config=config, env=env).ok()
    secret.require_absent(*_say_everything(tmp_path, config, env))


WRONG = {
    "password": lambda params: {**params, "user": "postgres"},
    "user": lambda params: {**params, "user": "nobody_at_all"},
    "database": lambda params: {**params, "dbname": "nonesuch"},
    "port": lambda params: {**params, "port": "1"},
    "host": lambda params: {**params, "host": "x" * 64},  # too long to ask a name server
    "sslmode": lambda params: {**params, "sslmode": "bad"},
}


@pytest.mark.parametrize("what", WRONG)
def test_no_error_shows_the_password_when_something_is_wrong_with_the(
    database, role, source, secret, tmp_path, what
):
    config, env = source(WRONG[what](_place(database, role)), pool_block_timeout="2s")
    said = _say_everything(tmp_path, config, env)
    assert any("could not connect" in text for text in said)
    secret.require_absent(*said)


def test_no_log_event_shows_the_password(database, role, source, secret, make_tool):  # noqa: F811
    config, env = source(_place(database, role))
    hv("init", config=config, env=env).ok()
    tool = make_tool(config, log=True, env=env, log_parameters="on")
    (ann,) = tool.threads("ann")
    key = ann.put(1, 1, {"a": "b"}).ok().key
    ann.get(key).ok()
    ann.acquire(1).ok()
    ann.sql("BEGIN").ok()
    ann.release().ok()
    database.terminate_clients()
    ann.get(key).ok()
    events = tool.await_log(6)
    secret.require_absent(*(json.dumps(event.fields) for event in events))


def test_the_list_of_processes_does_not_show_the_password(database, role, source, secret, tmp_path):
    config, env = source(_place(database, role))
    make_shards(config, database, env=env)
    args = ["--kind", 1, "--format", "ndjson"]
    process = spawn("hv", "import", "-", *args, config=config, env=env, cwd=tmp_path)
    process.stdin.write(b'{"n": "1"}\n')
    process.stdin.flush()
    eventually(database.clients)
    for name in "cmdline", "comm", "status":
        with open(f"/proc/{process.pid}/{name}", encoding="utf-8") as file:
            secret.require_absent(file.read())
    out, err = process.communicate()
    assert process.returncode == 0
    secret.require_absent(out.decode(), err.decode())


def test_the_server_does_not_log_the_password(database, role, source, secret, tmp_path):
    with database.connect() as connection:
        cursor = connection.cursor()
        cursor.execute(f"ALTER DATABASE {database.dbname} SET log_statement TO 'all'")
    since = database.server.log_size()
    config, env = source(_place(database, role))
    _say_everything(tmp_path, config, env)
    log = database.server.log_text(since)
    assert "INSERT INTO shard0001.entities" in log
    secret.require_absent(log)


# ---- files that are not as they should be ----

# Unit tests of the configuration file have many more of these.
MALFORMED = {
    "a password without its sign": "password {}",
    "a password that ends with a sign": "password {}==",
    "a password alone": "{}",
    "a mistyped name": "pasword = {}",
    "a password on another's line": "host = 127.0.0.1 password={}",
    "a password that goes on a line": "shards = 4-5\n  password = {}",
    "a connection string": "dbname = postgresql://user:{}@127.0.0.1/name",
    "a password that looks like a comment": "password = {} ; x",
}


@pytest.mark.parametrize("what", MALFORMED)
@pytest.mark.parametrize("command", [["status"], ["status", "--json"], ["put", 1, 1]])
def test_a_malformed_configuration_shows_its_place_but_no_password(tmp_path, secret, what, command):
    config = tmp_path / "hypervault.conf"
    config.write_text("[server one]\nshards = 1-3\n" + MALFORMED[what].format(secret.mark) + "\n")
    result = hv(*command, config=config)
    assert result.code == 1
    assert f"{config}:3: " in result.err or f"{config}:4: " in result.err
    secret.require_absent(result.out, result.err)


def test_a_malformed_service_file_shows_no_password(tmp_path, secret):
    path = _private_file(tmp_path / "services.conf", f"[vault]\npassword {secret.text}\n")
    config = store_config(tmp_path / "h.conf", {"one": ({"service": "vault"}, "1-3")})
    for command in ("status",), ("put", 1, 1):
        result = hv(*command, config=config, env={"PGSERVICEFILE": path})
        assert result.code == 1
        assert f'syntax error in service file "{path}", line 2' in result.err
        secret.require_absent(result.out, result.err)


def test_a_password_file_that_others_may_read_is_not_used_and_is_named(
    database, role, tmp_path, secret
):
    params = _place(database, role)
    _, env = _from_pgpass(tmp_path, params, secret)
    os.chmod(tmp_path / ".pgpass", 0o644)
    config = store_config(tmp_path / "h.conf", {"one": (params, "1-3")})
    result = hv("status", config=config, env=env)
    assert result.code == 1
    assert ".pgpass" in result.err  # libpq's warning
    secret.require_absent(result.out, result.err)
