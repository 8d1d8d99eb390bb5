"""Servers with several hosts: one that does not answer is passed over, as psql does, and in time."""

import contextlib
import os
import socket
import subprocess
import time

import pytest

from harness import eventually, hv, make_shards, python, store_config
from harness.store_tool import make_tool, step  # noqa: F401

pytestmark = pytest.mark.threads

BODY = {"a": "b"}


# ---- hosts that do not answer ----


@contextlib.contextmanager
def deaf_host():
    """A port that accepts connections and never sends anything."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as listener:
        yield listener.getsockname()[1]


@contextlib.contextmanager
def black_hole():
    """A port whose backlog is full: the first packet of a connection is not even answered."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        address = listener.getsockname()
        while True:
            client = stack.enter_context(socket.socket())
            client.settimeout(0.3)
            try:
                client.connect(address)
            except TimeoutError:
                break
        yield address[1]


@contextlib.contextmanager
def frozen_server(make_server):
    server = make_server("frozen", tcp=True)
    with server.frozen():
        yield server.port


@contextlib.contextmanager
def stalled_relay(relay, server):
    between = relay(server)
    between.stall()
    yield between.port


HOSTS = ("deaf", "black hole", "frozen", "stalled")  # the kinds that there are


@pytest.fixture
def silent(request, make_server, relay, servers):
    """A function that returns the port of a host of this kind on 127.0.0.1."""
    with contextlib.ExitStack() as stack:

        def make(kind="deaf"):
            made = {
                "deaf": deaf_host,
                "black hole": black_hole,
                "frozen": lambda: frozen_server(make_server),
                "stalled": lambda: stalled_relay(relay, servers[1].server),
            }
            return stack.enter_context(made[kind]())

        yield make


@pytest.fixture
def live(servers, tmp_path):
    """A database that is reached by TCP, with the shards 1 to 8."""
    make_shards(store_config(tmp_path / "live.conf", {"one": (servers[1], "1-9")}), servers[1])
    return servers[1]


@pytest.fixture
def configure(tmp_path, live):
    """A function that writes a configuration of one server "one" with these ports on 127.0.0.1."""

    def write(*ports, shards="1-9", options=None, **more):
        hosts = ",".join(["127.0.0.1"] * len(ports))
        params = live.params(host=hosts, port=",".join(map(str, ports)))
        params.update(more)
        params = {name: value for name, value in params.items() if value is not None}
        return store_config(tmp_path / "hypervault.conf", {"one": (params, shards)}, **options or {})

    return write


def port_of(tool, shard=3):
    """The port of the server that a borrowed connection is connected to."""
    tool.main.acquire(shard).ok()
    (port,) = tool.main.sql("SHOW port").ok().rows[0]
    tool.main.release().ok()
    return int(port)


# ---- a silent host is passed over ----


@pytest.mark.parametrize("kind", HOSTS)
def test_a_put_goes_on_to_the_next_host_after_connect_timeout(configure, silent, live, kind):
    config = configure(
        silent(kind), live.server.port, connect_timeout=2, options={"pool_block_timeout": "60s"}
    )
    began = time.monotonic()
    hv("put", 3, 1, "a=b", config=config).ok()
    assert 1.9 < time.monotonic() - began < 20
    assert live.value("SELECT count(*) FROM shard0003.entities") == 1


@pytest.mark.parametrize("kind", HOSTS)
def test_without_any_setting_the_hosts_share_the_time_that_there_is(configure, silent, live, kind):
    """A host that is dead at night and a pool_block_timeout of 5 s, the default."""
    hv("put", 3, 1, "a=b", config=configure(silent(kind), live.server.port)).ok()
    assert live.value("SELECT count(*) FROM shard0003.entities") == 1


def test_a_connect_timeout_beyond_the_deadline_does_not_keep_the_next_host_waiting(
    make_tool, configure, silent, live
):
    config = configure(silent(), silent(), live.server.port, connect_timeout=100)
    tool = make_tool(config, pool_block_timeout="8s")
    assert port_of(tool) == live.server.port


def test_each_host_has_connect_timeout_for_itself(make_tool, configure, silent, live):
    config = configure(silent(), silent("black hole"), live.server.port, connect_timeout=2)
    tool = make_tool(config, pool_block_timeout="60s")
    began = time.monotonic()
    assert port_of(tool) == live.server.port
    assert 3.9 < time.monotonic() - began < 30


def test_less_than_two_seconds_are_two_as_libpq_has_it(make_tool, configure, silent):
    tool = make_tool(configure(silent(), connect_timeout=1), pool_block_timeout="60s")
    began = time.monotonic()
    tool.main.acquire(3).gives("HV_UNAVAILABLE")
    assert 1.9 < time.monotonic() - began < 20


@pytest.mark.parametrize("never", ["0", "-1", " 0 "])
def test_none_or_less_is_no_time_limit(make_tool, configure, silent, never):
    tool = make_tool(configure(silent(), connect_timeout=never), pool_block_timeout="3s")
    late = tool.main.acquire(3).gives("HV_TIMEOUT")
    assert "no connection within 3000 ms" in late.detail


def test_a_lone_host_that_is_silent_is_unavailable_after_connect_timeout(configure, silent):
    port = silent()
    config = configure(port, connect_timeout=2, options={"pool_block_timeout": "60s"})
    began = time.monotonic()
    result = hv("put", 3, 1, "a=b", "--json", config=config)
    assert result.code == 1 and time.monotonic() - began < 20
    assert '"HV_UNAVAILABLE"' in result.err and "timeout expired" in result.err
    assert f"port {port}" in result.err


def test_all_hosts_that_failed_are_named(configure, silent):
    """One refuses, one is silent, one refuses again."""
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        free = [one.getsockname()[1], two.getsockname()[1]]
    port = silent()
    config = configure(
        free[0], port, free[1], connect_timeout=2, options={"pool_block_timeout": "60s"}
    )
    result = hv("put", 3, 1, "a=b", config=config)
    assert result.code == 1
    for part in (f"port {free[0]} failed", f"port {port} failed", f"port {free[1]} failed"):
        assert result.err.count(part) == 1, result
    assert result.err.count("refused") == 2 and result.err.count("timeout expired") == 1, result


def test_the_host_that_was_waited_for_at_the_deadline_is_named(configure, silent):
    one, two = silent(), silent()
    config = configure(one, two, options={"pool_block_timeout": "1s"})
    result = hv("put", 3, 1, "a=b", config=config)
    assert result.code == 1 and "in time" in result.err
    assert f"port {one} failed: no answer" in result.err, result
    assert f"port {two} failed: no connection within 1000 ms" in result.err, result


def test_a_slow_host_that_answers_is_not_passed_over(make_tool, configure, relay, live):
    """Opening takes longer than the half of the time, but it is never silent for that long."""
    slow = relay(live.server)
    slow.delay = 0.3
    with socket.create_server(("127.0.0.1", 0), backlog=100) as other:
        tool = make_tool(configure(slow.port, other.getsockname()[1]), pool_block_timeout="5s")
        began = time.monotonic()
        tool.main.acquire(3).ok()
        assert time.monotonic() - began > 1.5
        tool.main.release().ok()
        other.setblocking(False)
        with pytest.raises(BlockingIOError):
            other.accept()


# ---- without waiting: what is watched changes from host to host ----


@pytest.mark.parametrize("kind", ["deaf", "black hole"])
@pytest.mark.parametrize("limit", ["2", None])
def test_a_queue_goes_on_to_the_next_host(make_tool, configure, silent, live, kind, limit):
    """As in an event loop, which waits for the queue's descriptor alone."""
    config = configure(silent(kind), silent(), live.server.port, connect_timeout=limit)
    tool = make_tool(config, pool_block_timeout="8s")
    tool.main.queue_new().ok()
    for tag in range(3):
        operation = {"shard": 3, "kind": 1, "dict": {"n": str(tag)}}
        assert tool.main.queue_add([operation]).items[0]["status"] == "HV_OK"
    done = []
    deadline = time.monotonic() + 60
    while len(done) < 3:
        assert time.monotonic() < deadline, done
        if tool.main.queue_poll(1000).ready:
            done += tool.main.queue_advance(0).items
    assert [item["status"] for item in done] == ["HV_OK"] * 3
    assert live.value("SELECT count(*) FROM shard0003.entities") == 3
    tool.main.queue_free()


def test_a_queue_reports_that_the_last_host_is_silent_too(make_tool, configure, silent):
    tool = make_tool(configure(silent(), connect_timeout=2), pool_block_timeout="60s")
    tool.main.queue_new().ok()
    operation = {"shard": 3, "kind": 1, "dict": BODY}
    tool.main.queue_add([operation])
    began = time.monotonic()
    (item,) = tool.main.queue_advance(-1, True).items
    assert item["status"] == "HV_UNAVAILABLE" and time.monotonic() - began < 20
    tool.main.queue_free()


# ---- it means what it means to libpq ----


@pytest.fixture
def other(make_server, live):
    """A server with the same password as `live`: libpq knows no list of them."""
    server = make_server("other", tcp=True)
    server.sql("ALTER ROLE postgres PASSWORD %s", live.server.password)
    server.create_database(live.dbname)
    return server


def test_hosts_of_the_wrong_kind_are_passed_over_as_before(
    make_tool, configure, silent, live, other
):
    other.sql("ALTER SYSTEM SET default_transaction_read_only = on")
    other.sql("SELECT pg_reload_conf()")
    eventually(lambda: other.value("SHOW default_transaction_read_only") == "on")
    config = configure(
        *(silent(), other.port, live.server.port),
        target_session_attrs="read-write",
        connect_timeout=2,
    )
    tool = make_tool(config, pool_block_timeout="60s")
    assert port_of(tool) == live.server.port


@pytest.mark.parametrize("silent_first", [True, False])
def test_prefer_standby_takes_the_primary_if_no_standby_answers(
    make_tool, configure, silent, live, silent_first
):
    ports = [silent(), live.server.port]
    if not silent_first:
        ports.reverse()
    config = configure(*ports, target_session_attrs="prefer-standby", connect_timeout=2)
    tool = make_tool(config, pool_block_timeout="60s")
    assert port_of(tool) == live.server.port


def test_a_standby_behind_a_silent_host_is_preferred(
    make_tool, configure, silent, make_server, tmp_path
):
    """The primary is first in the list, and would do."""
    primary = make_server("primary", tcp=True)
    database = primary.create_database("test")
    make_shards(store_config(tmp_path / "p.conf", {"one": (database, "1-9")}), database)
    standby = make_server("standby", standby_of=primary)
    config = configure(
        *(primary.port, silent(), standby.port),
        host=f"127.0.0.1,127.0.0.1,{standby.socket_dir}",
        target_session_attrs="prefer-standby",
        connect_timeout=2,
        dbname="test",
        password=primary.password,
    )
    assert port_of(make_tool(config, pool_block_timeout="60s")) == standby.port


def test_a_login_that_is_refused_ends_it_as_in_psql(make_tool, configure, silent, live, other):
    """The second host knows no such password: the third is not tried, for psql does not either."""
    other.sql("ALTER ROLE postgres PASSWORD 'another'")
    config = configure(silent(), other.port, live.server.port, connect_timeout=2)
    tool = make_tool(config, pool_block_timeout="60s")
    refused = tool.main.acquire(3).gives("HV_UNAVAILABLE")
    assert refused.sqlstate == "28P01" and "timeout expired" in refused.detail


def test_addresses_ports_and_passwords_may_come_from_where_libpq_takes_them(
    configure, silent, live, tmp_path
):
    """The environment, a service file and a password file in which each host has its line."""
    dead, alive = silent(), live.server.port
    passwords = tmp_path / "pgpass"
    passwords.write_text(
        f"first:*:*:*:wrong\nsecond:{alive}:*:postgres:{live.server.password}\n", "utf-8"
    )
    passwords.chmod(0o600)
    services = tmp_path / "services"
    services.write_text(
        f"[both]\nhost=first,second\nhostaddr=127.0.0.1,127.0.0.1\nport={dead},{alive}\n", "utf-8"
    )
    nothing = {"host": None, "port": None, "password": None}
    common = {"PGPASSFILE": str(passwords), "PGCONNECT_TIMEOUT": "2"}
    long = {"pool_block_timeout": "60s"}
    by_service = configure(**nothing, service="both", options=long)
    env = {**common, "PGSERVICEFILE": str(services)}
    hv("put", 3, 1, "a=b", config=by_service, env=env).ok()
    by_environment = configure(**nothing, options=long)
    env = {
        **common,
        "PGHOST": "first,second",
        "PGHOSTADDR": "127.0.0.1,127.0.0.1",
        "PGPORT": f"{dead},{alive}",
    }
    hv("put", 3, 1, "a=b", config=by_environment, env=env).ok()
    assert live.value("SELECT count(*) FROM shard0003.entities") == 2


@pytest.mark.parametrize("rest", ["address", "name", "socket"])
def test_what_is_left_of_mixed_lists_is_what_was_said(make_tool, configure, silent, live, rest):
    """The last of several hosts has no address of its own, or no port of its own."""
    dead, server = silent(), live.server
    last = {
        "address": {"host": "one,two", "hostaddr": "127.0.0.1,127.0.0.1"},
        "name": {"host": "one,localhost", "hostaddr": "127.0.0.1,"},
        "socket": {"host": f"127.0.0.1,{server.socket_dir}"},
    }
    config = configure(dead, server.port, connect_timeout=2, **last[rest])
    assert port_of(make_tool(config, pool_block_timeout="60s")) == server.port


def test_a_certificate_is_checked_against_the_name_of_its_host(
    make_tool, make_server, configure, silent, tmp_path
):
    server = make_server("tls", tcp=True)
    key, certificate = (os.path.join(server.data, name) for name in ("server.key", "server.crt"))
    subprocess.run(
        ["openssl", "req", "-new", "-x509", "-nodes", "-newkey", "rsa:2048", "-days", "2"]
        + ["-subj", "/CN=db.example", "-addext", "subjectAltName=DNS:db.example"]
        + ["-keyout", key, "-out", certificate],
        check=True,
        capture_output=True,
    )
    owner = os.stat(server.data)
    for path in (key, certificate):
        os.chown(path, owner.st_uid, owner.st_gid)
        os.chmod(path, 0o600)
    root = tmp_path / "root.crt"
    with open(certificate, "rb") as file:
        root.write_bytes(file.read())
    server.sql("ALTER SYSTEM SET ssl = on")
    server.restart()
    database = server.create_database("test")
    encrypted = {
        "hostaddr": "127.0.0.1,127.0.0.1",
        "dbname": "test",
        "password": server.password,
        "sslmode": "verify-full",
        "sslrootcert": root,
        "connect_timeout": 2,
    }
    config = store_config(tmp_path / "tls.conf", {"one": (database, "1-9")})
    make_shards(config, database)
    ports = silent(), server.port
    good = make_tool(
        configure(*ports, host="other.example,db.example", **encrypted), pool_block_timeout="60s"
    )
    good.main.put(3, 1, BODY).ok()
    bad = make_tool(
        configure(*ports, host="db.example,other.example", **encrypted), pool_block_timeout="60s"
    )
    refused = bad.main.acquire(3).gives("HV_UNAVAILABLE")
    assert 'does not match host name "other.example"' in refused.detail


# ---- nonsense is refused ----


@pytest.mark.parametrize("value", ["abc", "1.5", "999999999999", "2 s", "0x10"])
@pytest.mark.parametrize("option", ["connect_timeout", "keepalives_idle", "tcp_user_timeout"])
def test_a_number_that_is_none_is_refused_when_the_configuration_is_read(configure, live, value, option):
    result = hv("put", 3, 1, "a=b", config=configure(live.server.port, **{option: value}))
    assert result.code == 1
    assert f'server "one": "{option}" is not a whole number' in result.err
    assert "hypervault.conf" in result.err


def test_nonsense_from_the_environment_is_refused_as_psql_does(configure, live):
    env = {"PGCONNECT_TIMEOUT": "soon"}
    result = hv("put", 3, 1, "a=b", config=configure(live.server.port), env=env)
    assert result.code == 1
    assert 'for connection option "connect_timeout"' in result.err
    assert "invalid integer value" in result.err
    assert 'server "one"' in result.err


# ---- Python ----


@pytest.mark.parametrize("kind", ["deaf", "black hole"])
@pytest.mark.parametrize("limit", ["2", None])
def test_python_goes_on_to_the_next_host(silent, live, kind, limit):
    python.provide()
    where = live.params(host="127.0.0.1,127.0.0.1", port=f"{silent(kind)},{live.server.port}")
    if limit is not None:
        where["connect_timeout"] = limit
    connections = [{"shards": "1-9", **where}]
    code = "key = Datastore(connections).put(3, 1, a='b'); say(key)"
    python.run(code, connections).ok()
    assert live.value("SELECT count(*) FROM shard0003.entities") == 1
