"""Put and get over connections that break or fall silent: the reported outcome is the true one."""

import contextlib
import fcntl
import os
import pathlib
import signal
import socket
import sys
import termios
import threading

import pytest

from harness import eventually, make_shards, store_config
from harness.store_tool import make_tool, relayed_store  # noqa: F401

pytestmark = pytest.mark.threads

ONE = 0
BODY = {"a": "b"}
# Milliseconds that an operation may end after its deadline, on a busy machine: less than any time-out here,
# so that to wait for one twice is seen.
SLACK = 2500


def stored(database, shard=3):
    return database.value(f"SELECT count(*) FROM shard{shard:04}.entities")


@pytest.fixture
def warm(make_tool, relayed_store, own_servers):
    """A store that has prepared its put and get, its relay and the database behind it."""
    config, between = relayed_store
    tool = make_tool(config, operation_timeout="4s")
    tool.key = tool.main.put(3, 1, BODY).ok().key
    tool.main.get(tool.key).ok()
    return tool, between, own_servers[ONE]


def lost_write(reply):
    reply.gives("HV_OUTCOME_UNKNOWN")
    assert reply.message == 'connection to server "one" lost during a write'
    assert reply.hint == "The write may or may not have happened: check before you repeat it."
    assert reply.outcome_unknown and not reply.retriable
    assert (reply.server, reply.shard) == ("one", 3)


# ---- connections that break ----


@pytest.mark.parametrize("count", [1, 30, 60])
def test_a_put_whose_answer_is_cut_off_has_an_unknown_outcome(warm, count):
    tool, between, database = warm
    between.cut_in("to_client", count)
    lost_write(tool.main.put(3, 1, BODY))
    assert stored(database) == 2  # this time it happened
    assert tool.stats().open == 0
    tool.main.put(3, 1, BODY).ok()
    assert stored(database) == 3


def test_a_put_that_does_not_get_through_has_an_unknown_outcome_too(warm):
    tool, between, database = warm
    between.cut_in("to_server", 20)
    lost_write(tool.main.put(3, 1, BODY))
    assert stored(database) == 1  # the client cannot know


def test_a_result_without_ready_for_query_is_no_success(warm):
    tool, between, database = warm
    before = between.bytes["to_client"]
    tool.main.put(3, 1, BODY).ok()
    answer = between.bytes["to_client"] - before
    between.cut_in("to_client", answer - 6)  # ReadyForQuery has six bytes
    lost_write(tool.main.put(3, 1, BODY))


def test_a_first_put_that_is_cut_off_has_an_unknown_outcome(make_tool, relayed_store, own_servers):
    config, between = relayed_store
    tool = make_tool(config)
    ann = tool.threads("ann")[0]
    ann.acquire(3).ok()
    ann.release().ok()
    between.cut_in("to_client", 10)  # in the middle of Parse, Bind, Execute and Sync's answers
    lost_write(ann.put(3, 1, BODY))
    assert stored(own_servers[ONE]) == 1


@pytest.mark.parametrize("direction, count", [("to_client", 1), ("to_client", 40), ("to_server", 9)])
def test_a_get_that_is_cut_off_is_repeated_unseen(warm, direction, count):
    tool, between, _ = warm
    between.cut_in(direction, count)
    assert tool.main.get(tool.key).ok().dict == BODY
    now = tool.stats()
    assert (now.opened, now.closed, now.open) == (2, 1, 1)


def test_a_get_over_connections_that_break_again_and_again_is_an_error(warm):
    tool, between, _ = warm
    between.refuse()
    between.cut_in("to_client", 1)
    lost = tool.main.get(tool.key).gives("HV_UNAVAILABLE")
    assert lost.retriable and not lost.outcome_unknown
    assert tool.stats().open == 0


def test_a_put_on_a_connection_that_the_administrator_ends_has_an_unknown_outcome(
    make_tool, store, servers
):
    tool = make_tool(store)
    ann, bob = tool.threads("ann", "bob")
    with servers[ONE].connect() as blocker:
        blocker.autocommit = False
        blocker.cursor().execute("LOCK TABLE shard0003.entities")
        putting = ann.begin.put(3, 1, BODY)
        getting = bob.begin.get(1 << 23 | 3 << 10)
        eventually(lambda: waiting_for_locks(servers[ONE]) == 2)
        for pid in (row[0] for row in servers[ONE].clients() if row[2] == "hypervault"):
            servers[ONE].sql("SELECT pg_terminate_backend(%s)", pid)
        ended = putting.reply().gives("HV_OUTCOME_UNKNOWN")
        assert ended.detail == "terminating connection due to administrator command"
        assert ended.sqlstate == "57P01"
    getting.reply().gives("HV_NOT_FOUND")  # over another connection
    assert stored(servers[ONE]) == 0


def waiting_for_locks(database):
    return database.value(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND wait_event_type = 'Lock'",
        database.dbname,
    )


def test_a_put_that_the_administrator_cancels_is_refused_and_its_connection_goes_on(
    make_tool, store, servers
):
    tool = make_tool(store)
    ann = tool.threads("ann")[0]
    with servers[ONE].connect() as blocker:
        blocker.autocommit = False
        blocker.cursor().execute("LOCK TABLE shard0003.entities")
        putting = ann.begin.put(3, 1, BODY)
        eventually(lambda: waiting_for_locks(servers[ONE]) == 1)
        servers[ONE].sql(
            "SELECT pg_cancel_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'hypervault'"
        )
        cancelled = putting.reply().gives("HV_REFUSED")
        assert cancelled.sqlstate == "57014"
    ann.put(3, 1, BODY).ok()
    assert stored(servers[ONE]) == 1
    assert tool.stats().opened == 1


# ---- servers that fall silent ----


def test_a_get_without_an_answer_ends_at_its_deadline_and_its_connection_is_closed(warm):
    tool, between, _ = warm
    between.stall()
    late = tool.main.get(tool.key).gives("HV_TIMEOUT")
    assert late.message == 'no answer from server "one" in time'
    assert late.hint == 'The option "operation_timeout" says how long to wait.'
    assert late.retriable
    assert 4000 <= late.ms < 4000 + SLACK
    assert tool.stats().open == 0
    between.resume()
    assert tool.main.get(tool.key).ok().dict == BODY


def test_a_put_without_an_answer_has_an_unknown_outcome_and_its_connection_is_closed(warm):
    tool, between, database = warm
    between.stall_in("to_client", 1)
    late = tool.main.put(3, 1, BODY).gives("HV_OUTCOME_UNKNOWN")
    assert late.message == 'no answer from server "one" to a write in time'
    assert late.outcome_unknown and not late.retriable
    assert 4000 <= late.ms < 4000 + SLACK
    assert tool.stats().open == 0
    assert stored(database) == 2
    between.resume()
    tool.main.put(3, 1, BODY).ok()


def test_a_lent_connection_to_a_silent_server_does_not_hold_its_borrower_up_for_long(
    make_tool, relayed_store
):
    config, between = relayed_store
    tool = make_tool(config)
    ann = tool.threads("ann")[0]
    ann.acquire(3).ok()
    ann.sql("BEGIN").ok()
    between.stall()
    assert ann.release().ok().ms < 7000
    assert tool.stats().open == 0


# ---- puts that are too long for the socket ----

# More than a Unix socket takes at once (its buffer has 208 kB), less than it takes in two goes.
LONG = {"long": "x" * 300_000}


def stop(pid):
    """Stop a process, and wait until all of its threads stand still."""
    os.kill(pid, signal.SIGSTOP)
    threads = pathlib.Path(f"/proc/{pid}/task")

    def still():
        states = [
            (thread / "stat").read_text().rpartition(")")[2].split()[0]
            for thread in threads.iterdir()
        ]
        return set(states) == {"T"}

    eventually(still)


def sleeps(pid):
    """(Is the process asleep, waiting for something? How often was it so far?)"""
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        fields = dict(line.split(":", 1) for line in file)
    return fields["State"].split()[0] == "S", int(fields["voluntary_ctxt_switches"])


def test_a_put_that_the_server_does_not_read_is_not_written_later(make_tool, own_servers, tmp_path):
    """It was reported as HV_TIMEOUT, nothing written: closing the connection must not send the
    rest."""
    database = own_servers[ONE]
    params = {**database.params(), **database.server.socket_params()}
    config = store_config(tmp_path / "socket.conf", {"one": (params, "1-9")})
    make_shards(config, database)
    tool = make_tool(config, log=True, operation_timeout="4s")
    ann = tool.threads("ann")[0]
    ann.put(3, 1, BODY).ok()
    backend = [row[0] for row in database.clients() if row[2] == "hypervault"][0]
    stop(backend)
    tool.main.hold("log", True)
    putting = ann.begin.put(3, 1, LONG)
    eventually(lambda: tool.main.hold("log", True).waiting == 1)  # about to close the connection
    slept = sleeps(backend)[1]
    os.kill(backend, signal.SIGCONT)
    # It reads what the socket held, and waits for more: now there is room for the rest.
    eventually(lambda: sleeps(backend)[0] and sleeps(backend)[1] > slept)
    tool.main.hold("log", False)
    late = putting.reply().gives("HV_TIMEOUT")
    assert late.retriable
    eventually(lambda: database.clients() == [])
    assert stored(database) == 1


class HalfClosing:
    """A relay on a Unix socket that can stop reading from its client, and end its own side towards
    it: what the client still sends arrives, but it sees the connection end."""

    def __init__(self, folder, target):
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(os.path.join(folder, ".s.PGSQL.5432"))
        self.listener.listen()
        self.target = target
        self.reading = threading.Event()
        self.reading.set()
        self.client = None  # the newest
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                self.client, _ = self.listener.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(self.target)
                for ends in ((self.client, server), (server, self.client)):
                    threading.Thread(target=self._carry, args=ends, daemon=True).start()

    def _carry(self, source, target):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
                self.reading.wait()
            target.shutdown(socket.SHUT_WR)

    def waiting(self):
        """The number of bytes that the client sent and that were not read."""
        count = bytearray(4)
        fcntl.ioctl(self.client, termios.FIONREAD, count)
        return int.from_bytes(count, sys.byteorder)


@pytest.fixture
def half_closing(make_tool, own_servers, tmp_path):
    """A HalfClosing relay, a thread that has put over it, and the database behind it."""
    database = own_servers[ONE]
    folder = os.path.dirname(database.server.socket_dir)
    where = database.server.socket_params()
    between = HalfClosing(folder, f"{where['host']}/.s.PGSQL.{where['port']}")
    params = {**database.params(), "host": folder, "port": "5432"}
    config = store_config(tmp_path / "half.conf", {"one": (params, "1-9")})
    make_shards(config, database)
    tool = make_tool(config)
    ann = tool.threads("ann")[0]
    ann.tool = tool
    ann.put(3, 1, BODY).ok()
    return between, ann, database


def begin_long_put(between, ann):
    """Put what is too long for the socket: the client waits until it can send the rest."""
    between.reading.clear()
    putting = ann.begin.put(3, 1, LONG)
    seen = [0]

    def full():
        seen.append(between.waiting())
        return seen[-2] == seen[-1] > 100_000

    eventually(full)
    return putting


def test_a_put_whose_connection_ends_as_its_last_byte_leaves_is_not_repeated(half_closing):
    """It got through whole: reported as lost before, and sent again, it would be stored twice."""
    between, ann, database = half_closing
    putting = begin_long_put(between, ann)
    stop(ann.tool.process.pid)
    between.client.shutdown(socket.SHUT_WR)
    between.reading.set()
    eventually(lambda: between.waiting() == 0)
    os.kill(ann.tool.process.pid, signal.SIGCONT)

    lost_write(putting.reply())
    between.listener.close()
    eventually(lambda: stored(database) == 2)
    eventually(lambda: database.clients() == [])
    assert stored(database) == 2


def test_a_put_whose_connection_ends_before_its_last_byte_leaves_is_repeated_unseen(half_closing):
    """It cannot have got through: the client has more of it to send."""
    between, ann, database = half_closing
    putting = begin_long_put(between, ann)
    between.client.shutdown(socket.SHUT_RDWR)
    between.reading.set()
    putting.reply().ok()
    between.listener.close()
    assert stored(database) == 2
    assert ann.tool.stats().opened == 2
