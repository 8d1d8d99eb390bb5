"""A password in the wrong place: no error of hv repeats it.

The values of `host`, `hostaddr`, `user`, `dbname` and `service` are shown all the same if they are
plain words: an error that does not name the host is of no help.
"""

import secrets

import pytest

from harness import hv, python

MARK = secrets.token_hex(8)
SHOWN = ("host", "hostaddr", "user", "dbname", "database", "service")
KEYWORDS = (
    "service user password connect_timeout dbname database host hostaddr port client_encoding"
    " options application_name fallback_application_name keepalives keepalives_idle"
    " keepalives_interval keepalives_count tcp_user_timeout sslmode sslcompression sslcert sslkey"
    " sslpassword sslrootcert sslcrl sslcrldir sslsni requirepeer ssl_min_protocol_version"
    " ssl_max_protocol_version gssencmode krbsrvname gsslib replication target_session_attrs"
    " channel_binding passfile shards pasword passwort unknown"
).split()
OPTIONS = "pool_max pool_block_timeout keys epoch prepare exactly_once lanes nonsense pass".split()
VARIABLES = (
    "PGHOST PGHOSTADDR PGPORT PGDATABASE PGUSER PGPASSWORD PGSERVICE PGOPTIONS PGAPPNAME PGSSLMODE"
    " PGREQUIREPEER PGSSLMINPROTOCOLVERSION PGSSLMAXPROTOCOLVERSION PGGSSENCMODE PGKRBSRVNAME"
    " PGCONNECT_TIMEOUT PGCLIENTENCODING PGTARGETSESSIONATTRS PGCHANNELBINDING"
).split()
WORDS = [MARK, f"'{MARK}'", f"{MARK},5", f"1,{MARK}", f"5-{MARK}"]
SETTINGS = [f"password={MARK}", f"x password={MARK}", f"postgres://u:{MARK}@h/d"]
LINES = [
    "{}",
    "{} x",
    "password {}",
    "password: {}",
    "pasword = {}",
    "{} = x",
    "[{}]",
    "[{}",
    "x={}=y",
    "password = x\n {}",
    "shards = 5\n  {}",
    "[server password={}]",
    "[server one] password={}",
    "password = {} ; x",
]


@pytest.fixture
def run_hv(tmp_path):
    """A function that runs hv with this configuration, and finds the password in nothing it says."""
    path = tmp_path / "hypervault.conf"

    def run(text, *args, env=None, failing=True):
        path.write_text(text)
        path.chmod(0o600)
        for form in ([], ["--json"]):
            result = hv(*args, *form, config=str(path), env=env, cwd=tmp_path)
            assert MARK not in result.out + result.err, (text, args, env)
            assert result.code != 0 or not failing

    return run


def server(*but):
    """A server that refuses connections, without the settings `but`."""
    settings = {"shards": "0-8", "host": "127.0.0.1", "port": "1"}
    return "[server one]\n" + "".join(
        f"{name} = {value}\n" for name, value in settings.items() if name not in but
    )


def is_shown(keyword, value):
    return keyword.lower() in SHOWN and value in WORDS


@pytest.mark.parametrize("keyword", KEYWORDS)
def test_of_a_server(run_hv, keyword):
    for value in WORDS + SETTINGS:
        if not is_shown(keyword, value):
            run_hv(f"{server(keyword)}{keyword} = {value}\n", "get", 1)


def test_of_the_options(run_hv):
    for name in OPTIONS:
        for value in WORDS + SETTINGS:
            run_hv(f"[hypervault]\n{name} = {value}\n{server()}", "get", 1)


def test_in_a_line_that_is_none(run_hv):
    for line in LINES:
        run_hv(f"{server()}{line.format(MARK)}\n", "get", 1)
        run_hv(f"{line.format(MARK)}\n{server()}", "get", 1)


@pytest.mark.parametrize("variable", VARIABLES)
def test_in_the_environment(run_hv, variable):
    name = variable[2:].lower()
    but = ("host",) if variable in ("PGHOST", "PGHOSTADDR", "PGSERVICE") else (name,)
    for value in WORDS[:1] + SETTINGS:
        if not is_shown(name, value):
            run_hv(server(*but), "get", 1, env={variable: value})


@pytest.mark.parametrize(
    "command",
    "put get key reserve import export init status bench help completion".split()
    + ["dev status", "dev psql", "dev down", "dev up"],
)
def test_among_the_arguments(run_hv, command):
    stop = ["--servers", "99"] if command == "dev up" else []
    for words in (
        *([setting] for setting in SETTINGS),
        [f"--password={MARK}"],
        ["--password", MARK],
        ["--server", f"password={MARK}"],
        ["--pasword", f"password={MARK}"],
        *([option, SETTINGS[0]] for option in ("--kind", "--shards", "--jobs", "--since", "--dir")),
        ["--format", SETTINGS[2]],
        ["--config", SETTINGS[0]],
    ):
        run_hv(server(), *command.split(), *words, *stop, failing=False)
        run_hv(server(), *command.split(), "1", "1", *words, *stop, failing=False)


def test_instead_of_a_command(run_hv):
    for word in SETTINGS:
        run_hv(server(), word)
        run_hv(server(), "dev", word)
        run_hv(server(), f"--{word}", "get")


@pytest.mark.skipif(not python.is_usable(), reason="the package is not built")
def test_in_python():
    code = f"""
        import traceback
        from hv.datastore import Datastore
        for name in {KEYWORDS!r} + {OPTIONS!r}:
            for value in {WORDS + SETTINGS!r}:
                if name in {SHOWN!r} and value in {WORDS!r}:
                    continue
                server = dict(shards="0-8", host="127.0.0.1", port="1")
                options = dict()
                (options if name in {OPTIONS!r} else server)[name] = value
                try:
                    db = Datastore([server], pool_block_timeout=1, **options)
                    print(repr(db), str(db))
                    db.put(1, 1, a="b")
                except Exception as error:
                    print(repr(error), error, getattr(error, "hint", ""))
        """
    shown = python.run(code)
    assert shown.code == 0, shown
    assert "could not connect" in shown.out and MARK not in shown.out + shown.err
