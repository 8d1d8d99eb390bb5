"""Servers that are not as they should be: one clear error, and nothing is made or changed."""

import contextlib
import json

import psycopg2
import pytest

from harness import PostgresServer, eventually, hv, store_config

COMMANDS = {
    "put": ("put", 1, 1, "a=b"),
    "get": ("get", "307821103844165633"),  # of shard 2
    "init": ("init",),
    "status": ("status",),
}


def error_of(command, config):
    """The error of a command that fails, once as people see it and once as programs do."""
    command = COMMANDS.get(command, command)
    outcome = hv(*command, config=config)
    assert outcome.code == 1, outcome
    assert [line.startswith("hv: ") for line in outcome.err.splitlines()].count(True) == 1, outcome
    result = hv(*command, "--json", config=config)
    assert result.code == 1, result
    if command[0] == "init":
        (error,) = [part["error"] for part in result.json() if not part["ready"]]
    elif command[0] == "status":
        (error,) = [part["error"] for part in result.json()["servers"] if "error" in part]
    else:
        error = json.loads(result.err)["error"]
    for text in error["message"], error.get("detail", ""), error.get("hint", ""):
        assert text in outcome.err.replace("\n    ", "\n")
    assert f'"{error["server"]}"' in outcome.err
    return error


def made(database):
    """Everything that `hv init` may have made."""
    return database.query(
        "SELECT nspname::text FROM pg_namespace WHERE nspname ~ '^(shard|hypervault)'"
        " UNION SELECT 'extension ' || extname FROM pg_extension WHERE extname <> 'plpgsql'"
        " ORDER BY 1"
    )


@pytest.fixture
def configure(tmp_path):
    """A function that writes a configuration whose server "one" has the shards 1 and 2."""

    def write(where, shards="1-3", **options):
        return store_config(tmp_path / "hypervault.conf", {"one": (where, shards)}, **options)

    return write


@pytest.fixture
def plain_role(server):
    """A role on the server of `server` that may log in and nothing else."""
    server.sql(f"CREATE ROLE plain_{server.dbname} LOGIN")
    yield f"plain_{server.dbname}"
    server.sql(f"DROP OWNED BY plain_{server.dbname}; DROP ROLE plain_{server.dbname}")


# ---- connecting ----


@pytest.mark.parametrize("command", COMMANDS)
def test_a_wrong_password_is_refused_with_a_hint(servers, configure, command):
    error = error_of(command, configure(servers[1].params(password="not the one")))
    assert (error["status"], error["sqlstate"]) == ("HV_UNAVAILABLE", "28P01")
    assert error["message"] == 'could not connect to server "one"'
    assert "password authentication failed" in error["detail"]
    assert "user and password" in error["hint"]
    assert not error["retriable"]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_server_that_is_down_is_reported_with_its_address(make_server, configure, command):
    server = make_server(tcp=True)
    config = configure(server)
    server.stop()
    error = error_of(command, config)
    assert error["status"] == "HV_UNAVAILABLE"
    assert error["message"] == 'could not connect to server "one"'
    assert str(server.port) in error["detail"]
    assert error["detail"].endswith(
        "Connection refused (Is the server running on that host and accepting TCP/IP connections?)"
    )
    assert error["retriable"]


@pytest.mark.parametrize("command", COMMANDS)
def test_an_unknown_database_is_reported_by_name(server, configure, command):
    error = error_of(command, configure({**server.params(), "dbname": "nonesuch"}))
    assert (error["status"], error["sqlstate"]) == ("HV_UNAVAILABLE", "3D000")
    assert 'database "nonesuch" does not exist' in error["detail"]
    assert '"dbname"' in error["hint"]
    assert not error["retriable"]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_server_that_has_not_started_yet_is_reported_as_such(make_server, configure, command):
    primary = make_server("primary")
    # A standby without hot standby stays in this state.
    starting = PostgresServer("one", standby_of=primary, settings={"hot_standby": "off"})
    try:
        starting.start(wait=False)
        config = configure(starting)
        _await_refusal(starting)
        error = error_of(command, config)
    finally:
        starting.destroy()
    assert (error["status"], error["sqlstate"]) == ("HV_UNAVAILABLE", "57P03")
    assert "started" in error["hint"]
    assert error["retriable"]


def _await_refusal(server):
    """Wait until the server has recovered; before that it says something else."""

    def refuses():
        with pytest.raises(psycopg2.OperationalError) as refusal:
            psycopg2.connect(**server.params())
        return "not accepting connections" in str(refusal.value)

    eventually(refuses)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_server_without_a_free_connection_is_reported_as_such(make_server, configure, command):
    server = make_server(settings={"max_connections": "3", "superuser_reserved_connections": "0"})
    config = configure(server)
    held = []

    def is_full():
        with contextlib.suppress(psycopg2.OperationalError):  # one that was closed may linger
            held.append(psycopg2.connect(**server.params()))
        return len(held) == 3

    eventually(is_full)
    error = error_of(command, config)
    assert (error["status"], error["sqlstate"]) == ("HV_UNAVAILABLE", "53300")
    assert "max_connections" in error["hint"] and '"pool_max"' in error["hint"]
    assert error["retriable"]
    for connection in held:
        connection.close()


def test_a_standby_takes_no_writes_and_the_hint_names_the_primary(make_server, configure):
    primary = make_server("primary")
    hv("init", config=configure(primary)).ok()
    with PostgresServer("standby", standby_of=primary) as standby:
        config = configure(standby)
        hv("status", config=config).ok()
        for command in ("put", "init"):
            config = configure(standby, shards="1-4")
            error = error_of(command, config)
            assert (error["status"], error["sqlstate"]) == ("HV_REFUSED", "25006")
            assert "primary" in error["hint"]


# ---- rights ----


def test_init_without_the_right_to_create_hstore_makes_nothing(server, configure, plain_role):
    error = error_of("init", configure(server.params(user=plain_role)))
    assert (error["status"], error["sqlstate"]) == ("HV_REFUSED", "42501")
    assert error["message"] == 'could not create the extension hstore on server "one"'
    assert "CREATE EXTENSION hstore" in error["hint"]
    assert made(server) == []


def test_init_without_the_right_to_create_schemas_makes_nothing(server, configure, plain_role):
    server.sql("CREATE EXTENSION hstore")
    error = error_of("init", configure(server.params(user=plain_role)))
    assert (error["status"], error["sqlstate"]) == ("HV_REFUSED", "42501")
    assert error["message"] == f"permission denied for database {server.dbname}"
    assert "GRANT" in error["hint"]
    assert made(server) == [("extension hstore",)]


def test_a_role_that_may_create_makes_shards(server, configure, plain_role):
    server.sql("CREATE EXTENSION hstore")
    server.sql(f"GRANT CREATE ON DATABASE {server.dbname} TO {plain_role}")
    config = configure(server.params(user=plain_role))
    hv("init", config=config).ok()
    hv(*COMMANDS["put"], config=config).ok()


@pytest.mark.parametrize("command", COMMANDS)
def test_a_role_without_rights_is_reported_which_it_needs(server, configure, plain_role, command):
    hv("init", config=configure(server)).ok()
    config = configure(server.params(user=plain_role))
    error = error_of(command, config)
    assert (error["status"], error["sqlstate"]) == ("HV_REFUSED", "42501")
    assert "hypervault.layout" in error["message"]
    assert "GRANT" in error["hint"]


def test_a_server_that_fails_while_shards_are_made_does_not_stop_the_others(
    servers, tmp_path, plain_role
):
    one, two = servers
    poor = one.params(user=plain_role)
    config = store_config(tmp_path / "a.conf", {"poor": (poor, "0-4"), "two": (two, "4-8")})
    result = hv("init", config=config)
    assert result.code == 1
    assert [line.split() for line in result.lines[1:]] == [
        ["poor", "4", "0", "?", "-", "failed"],
        ["two", "4", "4", "0", "portable", "ready"],
    ]
    assert '"poor"' in result.err
    refused, ready = hv("init", "--json", config=config).json()
    assert (refused["ready"], refused["error"]["status"]) == (False, "HV_REFUSED")
    assert ready["ready"]


def test_the_rights_that_the_documents_name_are_enough(server, configure, plain_role):
    hv("init", config=configure(server)).ok()
    config = configure(server.params(user=plain_role))
    server.sql(
        f"GRANT USAGE ON SCHEMA hypervault, shard0001 TO {plain_role};"
        f"GRANT SELECT ON hypervault.layout TO {plain_role};"
        f"GRANT SELECT, INSERT ON shard0001.entities TO {plain_role};"
        f"GRANT USAGE ON SEQUENCE shard0001.table_id_seq TO {plain_role}"
    )
    key = hv("put", 1, 1, "a=b", config=config).ok().out.strip()
    hv("get", key, config=config).ok()
    hv("status", config=config).ok()


# ---- what the database says of itself ----


@pytest.mark.parametrize("command", ["put", "get"])
def test_shards_that_are_not_made_get_the_hint_to_make_them(server, configure, command):
    error = error_of(command, configure(server))
    assert (error["status"], error["sqlstate"]) == ("HV_NOT_INITIALIZED", "42P01")
    assert error["hint"].startswith("Run `hv init`. If another server holds the shard, ")
    assert made(server) == []


@pytest.mark.parametrize("command", COMMANDS)
def test_another_epoch_is_refused_with_both_numbers(server, configure, command):
    hv("init", config=configure(server)).ok()
    error = error_of(command, configure(server, epoch=1000))
    assert error["status"] == "HV_MISMATCH"
    assert "1379365531352" in error["detail"] and "1000" in error["detail"]
    assert "1379365531352" in error["hint"]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_newer_layout_is_refused(server, configure, command):
    config = configure(server)
    hv("init", config=config).ok()
    server.sql("UPDATE hypervault.layout SET version = 1000")
    error = error_of(command, config)
    assert error["status"] == "HV_MISMATCH"
    assert "1000" in error["detail"]
    assert "newer version of hypervault" in error["hint"]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_table_hypervault_layout_of_somebody_else_is_refused(server, configure, command):
    server.sql("CREATE SCHEMA hypervault; CREATE TABLE hypervault.layout (width int)")
    error = error_of(command, configure(server))
    assert error["status"] == "HV_MISMATCH"
    assert "hypervault.layout" in error["message"]
    assert made(server) == [("hypervault",)]


def test_two_servers_that_changed_places_are_noticed(servers, tmp_path):
    one, two = servers
    path = tmp_path / "hypervault.conf"
    config = store_config(path, {"one": (one, "1-3"), "two": (two, "3-5")})
    hv("init", config=config).ok()
    key = hv("put", 1, 1, "a=b", config=config).ok().out.strip()
    before = made(one), made(two)

    swapped = store_config(path, {"one": (two, "1-3"), "two": (one, "3-5")})
    for command in ("put", 1, 1, "a=b"), ("get", key):
        error = error_of(command, swapped)
        assert (error["status"], error["server"]) == ("HV_MISMATCH", "one")
        assert 'is known as "two"' in error["message"]
    result = hv("init", "--json", config=swapped)
    assert result.code == 1
    for part, known in zip(result.json(), ("two", "one")):
        assert part["error"]["status"] == "HV_MISMATCH"
        assert f'is known as "{known}"' in part["error"]["message"]
        assert "changed places" in part["error"]["hint"]
    assert (made(one), made(two)) == before


def test_two_servers_that_are_the_same_database_are_noticed(server, tmp_path):
    servers = {"one": (server, "1-3"), "two": (server, "3-5")}
    config = store_config(tmp_path / "hypervault.conf", servers)
    result = hv("init", "--json", config=config)
    assert result.code == 1
    (refused,) = [part for part in result.json() if not part["ready"]]
    assert refused["error"]["status"] == "HV_MISMATCH"
    assert refused["created"] == 0
    assert len(made(server)) == 4  # hstore, hypervault, two shards


# ---- shards of another form ----

KEY = "id bigint PRIMARY KEY DEFAULT 5"
REST = "type smallint NOT NULL, body hstore NOT NULL"

IN_THE_WAY = {
    "an id that is too small": f"TABLE entities (id int PRIMARY KEY DEFAULT 5, {REST})",
    "a body that is json": f"TABLE entities ({KEY}, type smallint NOT NULL, body jsonb NOT NULL)",
    "a type that is text": f"TABLE entities ({KEY}, type text NOT NULL, body hstore NOT NULL)",
    "a column that is missing": f"TABLE entities ({KEY}, body hstore NOT NULL)",
    "an id that is not the key": f"TABLE entities (id bigint NOT NULL DEFAULT 5, {REST})",
    "a key of two columns": f"TABLE entities (id bigint DEFAULT 5, {REST}, PRIMARY KEY (id, type))",
    "a column that has to be given": f"TABLE entities ({KEY}, {REST}, owner text NOT NULL)",
    "a view": "VIEW entities AS SELECT 1::bigint AS id, 1::smallint AS type, ''::hstore AS body",
    "a table for a sequence": "TABLE table_id_seq (last_value bigint)",
    "a function of another type": "FUNCTION next_id() RETURNS int LANGUAGE sql AS 'SELECT 1'",
}


@pytest.mark.parametrize("what", IN_THE_WAY)
def test_init_leaves_what_is_in_the_way_alone(server, configure, what):
    definition = IN_THE_WAY[what]
    name = definition.split()[1]
    server.sql(
        "CREATE EXTENSION hstore; CREATE SCHEMA shard0002;"
        f"CREATE {definition.replace(name, f'shard0002.{name}', 1)}"
    )
    before = made(server)
    config = configure(server)
    error = error_of("init", config)
    assert error["status"] == "HV_MISMATCH"
    assert error["shard"] == 2
    assert f"shard0002.{name}" in error["message"]
    assert error["hint"]
    assert made(server) == before
    status = hv("status", "--json", config=config)
    assert status.code == 1
    assert [shard["state"] for shard in status.json()["servers"][0]["shards"]] == [
        "missing",
        "incomplete",
    ]


def test_columns_of_ones_own_do_no_harm(server, configure):
    server.sql(
        "CREATE EXTENSION hstore; CREATE SCHEMA shard0002; CREATE SEQUENCE shard0002.table_id_seq"
    )
    config = configure(server)
    hv("init", config=config).ok()
    server.sql(
        "ALTER TABLE shard0002.entities ADD updated timestamp, ADD made timestamptz NOT NULL"
        " DEFAULT now(), ADD size int GENERATED ALWAYS AS (type * 2) STORED,"
        " ADD number bigint NOT NULL GENERATED ALWAYS AS IDENTITY"
    )
    assert hv("init", "--json", config=config).ok().json()[0]["created"] == 0
    hv("status", config=config).ok()
    hv("put", 2, 1, "a=b", config=config).ok()
