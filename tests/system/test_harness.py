"""Tests of the harness: servers, relay and cleaning up do what the other tests rely on."""

import contextlib
import os
import pathlib
import socket
import subprocess
import sys
import textwrap
import threading
import time

import psycopg2
import pytest

from harness import DelayRelay, TcpRelay, eventually, hv, scratch, store_config

pytestmark = pytest.mark.plain


def test_each_test_gets_empty_databases_on_two_servers(servers):
    one, two = servers
    assert one.server is not two.server
    for database in servers:
        assert database.value("SELECT current_database()") == database.dbname
        assert database.query("SELECT 1 FROM pg_class WHERE relnamespace = 2200") == []


def test_a_server_by_tcp_asks_for_the_password(servers):
    params = servers[1].params()
    assert psycopg2.connect(**params).closed == 0
    with pytest.raises(psycopg2.OperationalError, match="password"):
        psycopg2.connect(**{**params, "password": "wrong"})


def test_a_killed_server_recovers_what_it_had_committed(make_server):
    server = make_server(fsync=True)
    server.sql("CREATE TABLE t AS SELECT 5 AS n")
    with server.connect() as connection:
        server.kill9()
        with pytest.raises(psycopg2.OperationalError):
            connection.cursor().execute("SELECT 1")
    server.start()
    assert server.value("SELECT n FROM t") == 5
    assert "was not properly shut down" in server.log_text()


@pytest.mark.parametrize("mode", ["smart", "fast", "immediate"])
def test_a_server_stops_and_starts_again(make_server, mode):
    server = make_server()
    server.stop(mode)
    assert not server.running
    server.start()
    assert server.value("SELECT 1") == 1


def test_a_frozen_server_answers_when_it_is_thawed(make_server):
    server = make_server()
    answers = []
    with server.connect() as connection:
        thread = threading.Thread(
            target=lambda: (connection.cursor().execute("SELECT 1"), answers.append(1))
        )
        with server.frozen():
            thread.start()
            thread.join(0.2)
            assert not answers
        thread.join()
    assert answers


def test_terminated_clients_are_gone(server):
    with server.connect(application_name="victim") as connection:
        assert [client[2] for client in server.clients()] == ["victim"]
        assert server.terminate_clients() == 1
        assert server.clients() == []
        with pytest.raises(psycopg2.OperationalError):
            connection.cursor().execute("SELECT 1")


def test_a_servers_settings_and_time_zone_are_its_own(make_server):
    server = make_server(settings={"max_connections": "7"})
    assert server.value("SHOW max_connections") == "7"
    assert server.value("SHOW timezone") != "UTC"


def test_nothing_is_left_when_the_tests_are_killed(tmp_path):
    script = tmp_path / "orphan.py"
    script.write_text(
        textwrap.dedent(
            """
            import sys, time
            from harness import PostgresServer
            server = PostgresServer().start()
            print(server.place, *server.processes(), flush=True)
            time.sleep(600)
            """
        )
    )
    env = dict(os.environ, PYTHONPATH=os.path.dirname(__file__))
    child = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True, env=env)
    with child:
        place, *pids = child.stdout.readline().split()
        child.kill()
    assert len(pids) > 1

    def gone():
        return not any(alive(pid) for pid in pids)

    eventually(gone, what="the orphan's server has ended")

    def swept():
        scratch.sweep()  # does nothing while another session is at it
        return not os.path.exists(place)

    eventually(swept)


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_a_configuration_names_servers_shards_and_options(tmp_path, servers):
    path = store_config(tmp_path / "c", {"one": (servers[0], "1-5,9")}, pool_max=3)
    text = pathlib.Path(path).read_text(encoding="utf-8")
    assert "[hypervault]\npool_max = 3\n" in text
    assert "[server one]\nshards = 1-5,9\n" in text
    assert f"dbname = {servers[0].dbname}\n" in text


# ---- relay ----


@pytest.fixture
def echo():
    """The address of a server that sends back everything it receives."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(end):
        with end:
            try:
                while data := end.recv(65536):
                    end.sendall(data)
            except OSError:
                pass

    def accept():
        while True:
            try:
                end, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(end,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield listener.getsockname()
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


def connect(relay):
    return socket.create_connection((relay.host, relay.port), timeout=30)


def receive(end, count):
    data = b""
    while len(data) < count and (more := end.recv(count - len(data))):
        data += more
    return data


def test_the_relay_carries_and_counts_bytes_both_ways(echo):
    with TcpRelay(echo) as relay, connect(relay) as end:
        payload = os.urandom(5_000_000)
        threading.Thread(target=end.sendall, args=(payload,)).start()
        assert receive(end, len(payload)) == payload
        assert relay.bytes == {"to_server": len(payload), "to_client": len(payload)}
        assert relay.connections == relay.open == 1
        end.shutdown(socket.SHUT_WR)
        assert end.recv(1) == b""
        eventually(lambda: relay.open == 0)


def test_the_relay_delays_each_direction(echo):
    with TcpRelay(echo) as relay, connect(relay) as end:
        end.sendall(b"x")
        assert receive(end, 1) == b"x"
        relay.delays = {"to_server": 0.1, "to_client": 0.05}
        start = time.monotonic()
        end.sendall(b"ab")
        assert receive(end, 2) == b"ab"
        assert time.monotonic() - start >= 0.149


@pytest.mark.parametrize("direction", ["to_server", "to_client"])
def test_the_relay_cuts_after_a_number_of_bytes_and_only_once(echo, direction):
    with TcpRelay(echo) as relay:
        relay.cut_after(direction, 3)
        with connect(relay) as end:
            end.sendall(b"abcdef")
            if direction == "to_client":
                assert receive(end, 3) == b"abc"
            with pytest.raises(ConnectionResetError):
                while end.recv(100):
                    pass
        with connect(relay) as end:
            end.sendall(b"abcdef")
            assert receive(end, 6) == b"abcdef"


def test_the_relay_cuts_all_connections_at_once(echo):
    with TcpRelay(echo) as relay:
        ends = [connect(relay) for _ in range(3)]
        for end in ends:
            end.sendall(b"x")
            assert receive(end, 1) == b"x"
        assert relay.cut() == 3
        for end in ends:
            with pytest.raises(ConnectionResetError):
                end.recv(1)
            end.close()
        assert relay.open == 0


def test_the_relay_holds_back_while_stalled(echo):
    with TcpRelay(echo) as relay:
        relay.stall()
        with connect(relay) as end:
            end.sendall(b"abc")
            end.settimeout(0.2)
            with pytest.raises(socket.timeout):
                end.recv(1)
            end.settimeout(30)
            relay.resume()
            assert receive(end, 3) == b"abc"


@pytest.mark.parametrize("direction", ["to_server", "to_client"])
def test_the_relay_cuts_in_the_middle_of_what_follows(echo, direction):
    with TcpRelay(echo) as relay, connect(relay) as end:
        end.sendall(b"abc")
        assert receive(end, 3) == b"abc"
        relay.cut_in(direction, 5)
        end.sendall(b"de")
        assert receive(end, 2) == b"de"
        end.sendall(b"fghi")
        if direction == "to_client":
            assert receive(end, 3) == b"fgh"
        with pytest.raises(ConnectionResetError):
            while end.recv(100):
                pass


@pytest.mark.parametrize("direction", ["to_server", "to_client"])
def test_the_relay_stalls_in_the_middle_of_what_follows(echo, direction):
    with TcpRelay(echo) as relay, connect(relay) as end:
        relay.stall_in(direction, 3)
        end.sendall(b"abcdef")
        if direction == "to_client":
            assert receive(end, 3) == b"abc"
        end.settimeout(0.2)
        with pytest.raises(socket.timeout):
            end.recv(1)
        end.settimeout(30)
        relay.resume()
        assert receive(end, 6 if direction == "to_server" else 3).endswith(b"def")


def test_the_relay_refuses_connections(echo):
    with TcpRelay(echo) as relay:
        relay.refuse()
        with pytest.raises(ConnectionResetError), connect(relay) as end:
            end.recv(1)
        relay.refuse(False)
        with connect(relay) as end:
            end.sendall(b"x")
            assert receive(end, 1) == b"x"


def test_a_closed_relay_or_dead_server_behind_it_is_a_reset(echo):
    with TcpRelay(("127.0.0.1", 1)) as relay:
        with pytest.raises(ConnectionResetError), connect(relay) as end:
            end.recv(1)
    with pytest.raises(ConnectionRefusedError):
        connect(relay)


def test_postgresql_answers_through_the_relay(own_servers, relay):
    between = relay(own_servers[0].server)
    with contextlib.closing(psycopg2.connect(**between.params("test"))) as connection:
        connection.cursor().execute("SELECT 1")
        assert between.cut() == 1
        with pytest.raises(psycopg2.OperationalError):
            connection.cursor().execute("SELECT 1")


# ---- failures ----


def inner_pytest(tmp_path, test):
    """Run pytest on one test of its own, with our fixtures; returns what it printed."""
    (tmp_path / "test_inner.py").write_text(textwrap.dedent(test))
    here = os.path.dirname(__file__)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "conftest", "-p", "no:cacheprovider", "."],
        cwd=tmp_path,
        env=dict(os.environ, PYTHONPATH=here),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return done.stdout


def test_a_failing_test_shows_its_servers_logs(tmp_path):
    out = inner_pytest(
        tmp_path,
        """
        def test_it(make_server):
            make_server("mine").sql("SELECT 1/0")
        """,
    )
    assert "1 failed" in out
    assert "log of server mine" in out
    assert "ERROR:  division by zero" in out


def test_a_sanitizers_report_fails_the_test(tmp_path):
    out = inner_pytest(
        tmp_path,
        """
        import subprocess
        from harness import spawn

        def test_it(monkeypatch):
            monkeypatch.setenv("HV_BUILD", "/bin")
            script = 'echo "data race" > "${TSAN_OPTIONS##*log_path=}.1"'
            assert spawn("/bin/sh", "-c", script, stdin=subprocess.DEVNULL).wait() == 0
        """,
    )
    assert "1 error" in out
    assert "data race" in out


# ---- stores ----


def test_a_store_has_its_shards_spread_over_both_servers(store, servers):
    assert hv("init", config=store).ok()  # again, which changes nothing
    for database, shards in zip(servers, (range(1, 9), range(9, 17))):
        names = "SELECT nspname FROM pg_namespace WHERE nspname ~ '^shard' ORDER BY 1"
        assert database.query(names) == [(f"shard{number:04}",) for number in shards]


# ---- the relay that only delays ----


def test_the_delaying_relay_delivers_everything_in_order_and_later(servers):
    delay = 0.02
    with DelayRelay(servers[1].server, delay) as relay:
        with contextlib.closing(psycopg2.connect(**relay.params())) as connection:
            with connection.cursor() as cursor:
                start = time.monotonic()
                cursor.execute("SELECT 1")
                assert time.monotonic() - start >= 2 * delay
                text = "".join(map(str, range(1_000_000)))  # more than the sockets hold
                cursor.execute("SELECT %s", (text,))
                assert cursor.fetchone()[0] == text


def test_the_delaying_relay_passes_on_that_a_side_closes(servers):
    database = servers[1]
    with DelayRelay(database.server, 0.001) as relay:
        params = relay.params(database.dbname)
        with contextlib.closing(psycopg2.connect(**params)) as connection:
            assert database.terminate_clients() == 1
            with pytest.raises(psycopg2.OperationalError):
                connection.cursor().execute("SELECT 1")
        with contextlib.closing(psycopg2.connect(**params)) as connection:
            connection.cursor().execute("SELECT 1")  # others go on
        eventually(lambda: database.clients() == [])
