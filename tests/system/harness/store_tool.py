"""A store in another process, with threads that do what a test says, one step at a time.

    tool = StoreTool(config, pool_max=1)
    ann, bob = tool.threads("ann", "bob")
    ann.acquire(3).ok()
    waiting = bob.begin.acquire(3)          # does not wait for the answer
    eventually(lambda: tool.stats().waiting == 1)
    ann.release().ok()
    waiting.reply().ok()

The other half is tests/system/store_tool.c. Commands and their parameters are those of COMMANDS.
"""

import contextlib
import itertools
import json
import pathlib
import subprocess
import threading

import pytest

from . import command
from .command import make_shards
from .config import store_config
from .wait import eventually

COMMANDS = {
    "acquire": ("shard", "server", "conn"),
    "change_many": ("operations",),
    "change_stream": ("operations",),
    "close": ("timeout",),
    "close_trace": (),
    "connector": (),
    "count": ("selection", "by", "unit", "zone", "estimate"),
    "delete": ("key", "condition", "blind"),
    "discard": ("conn",),
    "disconnect": (),
    "each": ("sql", "parameters", "rollout", "events"),
    "each_close": (),
    "each_next": ("count",),
    "each_open": ("sql", "parameters", "rollout"),
    "enter_pipeline": ("conn",),
    "fill": ("conn",),
    "find": ("selection", "reader"),
    "fork": ("commands", "exit"),
    "exists": ("key",),
    "explain": ("selection",),
    "exists_many": ("keys",),
    "exists_stream": ("keys",),
    "get": ("key",),
    "get_many": ("keys",),
    "get_only": ("key", "names"),
    "get_only_many": ("keys", "names"),
    "hold": ("what", "on"),
    "increment": ("key", "attribute", "amount", "condition", "blind"),
    "interrupt": ("target", "quietly"),
    "meet": ("name", "count"),
    "merge": ("key", "dict", "remove", "condition", "blind"),
    "missing": ("reader",),
    "next": ("count", "timeout", "reader", "bare"),
    "notifications": ("conn",),
    "open": ("config", "options", "log", "connector", "interrupts"),
    "put": ("shard", "kind", "dict"),
    "put_key": ("key", "kind", "dict"),
    "put_many": ("operations",),
    "queue_add": ("operations",),
    "queue_advance": ("timeout", "all"),
    "queue_free": (),
    "queue_new": (),
    "queue_poll": ("timeout",),
    "reader_close": ("reader",),
    "reader_poll": ("timeout", "reader"),
    "reinstantiate": (),
    "stop": (),
    "release": ("conn",),
    "release_foreign": ("conninfo",),
    "replace": ("key", "kind", "dict", "condition", "blind"),
    "reserve": ("shard", "count"),
    "send": ("sql", "conn"),
    "shard_of": ("hex",),
    "sql": ("sql", "conn", "unchecked"),
    "stats": ("server",),
    "stream": ("count", "shards", "filler", "get"),
    "trace": ("path", "conn"),
    "transaction": ("shard", "steps", "isolation", "timeout", "then"),
    "try_acquire": ("shard", "conn"),
    "tx_begin": ("shard", "isolation", "timeout"),
    "tx_commit": (),
    "tx_connection": (),
    "tx_failed": ("sqlstate", "message"),
    "tx_rollback": (),
    "where": ("shard",),
}
TIMEOUT = 120  # seconds for any answer


def step(name, *args, **named):
    """A command as it is sent: for the commands of a child process."""
    parameters = COMMANDS[name]
    assert len(args) <= len(parameters), f"{name} takes {parameters}"
    assert set(named) <= set(parameters), f"{name} takes {parameters}"
    return {"do": name, **dict(zip(parameters, args)), **named}


def number_children(fields, number):
    """The answers of a child process carry the number of the command that made it."""
    for child in fields.get("commands", ()):
        child["id"] = number
        number_children(child, number)


class Reply:
    """The result of a command; the fields of its JSON are attributes, absent ones are None."""

    def __init__(self, fields, child_replies=()):
        self.fields = fields
        self.child = list(child_replies)  # of a fork: the results of the child's commands

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return self.fields.get(name)

    def ok(self):
        """Return the reply itself if all went well."""
        good = ("HV_OK", "PGRES_COMMAND_OK", "PGRES_TUPLES_OK", None)
        assert self.status in good, str(self)
        return self

    def gives(self, status):
        """Return the reply itself if the command ended with this status."""
        assert self.status == status, str(self)
        return self

    @property
    def value(self):
        """The first column of the first row."""
        return self.rows[0][0]

    def __repr__(self):
        return f"<{json.dumps(self.fields, ensure_ascii=False)[:2000]}>"


class Pending:
    """A command that was begun."""

    def __init__(self, tool, what):
        self._tool = tool
        self._what = what
        self._arrived = threading.Event()
        self._reply = None
        self.child = []
        self.place = None  # of its answer in the order in which answers came

    def arrive(self, fields, place):
        self._reply = Reply(fields, self.child)
        self.place = place
        self._arrived.set()

    @property
    def done(self):
        return self._arrived.is_set()

    def reply(self, timeout=TIMEOUT):
        if not self._arrived.wait(timeout):
            raise AssertionError(f"no answer within {timeout} s: {self._what}")
        if self._reply is None:
            raise AssertionError(f"the tool ended: {self._what}\n{self._tool.errors()}")
        return self._reply


class _Sender:
    """Makes methods of the commands: sender.put(3, 1, {"a": "b"})."""

    def __init__(self, send):
        self._send = send

    def __getattr__(self, name):
        if name not in COMMANDS:
            raise AttributeError(name)
        return lambda *args, **named: self._send(step(name, *args, **named))


class ToolThread(_Sender):
    """A thread of the tool. Its methods are the commands, and wait for the answer; those of `begin`
    do not wait."""

    def __init__(self, tool, name):
        super().__init__(lambda fields: tool.send(name, fields).reply())
        self.name = name
        self.begin = _Sender(lambda fields: tool.send(name, fields))


class StoreTool:
    """The process. `options` are the store's; a `log` of True fills .log with its log events. With
    `interrupts` a SIGINT to a thread interrupts what it is doing: see interrupt()."""

    def __init__(
        self,
        config,
        log=False,
        connector=False,
        interrupts=False,
        opened=True,
        env=None,
        **options,
    ):
        self.log = []  # events, as Replies
        self._ids = itertools.count(1)
        self._lock = threading.Lock()
        self._pending = {}
        self._stderr = b""
        self.process = command.spawn("store_tool", env=env)
        self._readers = [
            threading.Thread(target=target, daemon=True)
            for target in (self._read_answers, self._read_errors)
        ]
        for reader in self._readers:
            reader.start()
        self.main = ToolThread(self, "main")
        if opened:
            self.open(config, log, connector, interrupts, **options).ok()

    def open(self, config, log=False, connector=False, interrupts=False, **options):
        texts = {name: str(value) for name, value in options.items()}
        return self.main.open(config, texts, log, connector, interrupts)

    def threads(self, *names):
        return [ToolThread(self, name) for name in names]

    def stats(self, server=0):
        """The pool's numbers."""
        return self.main.stats(server)

    def await_stats(self, server=0, **numbers):
        """Wait until the pool has these numbers."""

        def as_wanted():
            now = self.stats(server)
            assert {name: getattr(now, name) for name in numbers} == numbers
            return now

        return eventually(as_wanted)

    def await_log(self, count):
        """Wait until the log has `count` events and return them."""
        return eventually(lambda: len(self.log) >= count and self.log)

    def interrupt(self, thread, quietly=False):
        """Interrupt a ToolThread's command: with a signal, or only by its handler's flag."""
        self.main.interrupt(thread.name, quietly)

    def sleepers(self):
        """Threads that sleep on a futex until they are woken or a deadline passes."""
        count = 0
        for task in pathlib.Path(f"/proc/{self.process.pid}/task").iterdir():
            with contextlib.suppress(OSError):
                call = (task / "syscall").read_text().split()
                # FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG by CLOCK_MONOTONIC, and a timeout
                if len(call) > 4 and call[2] == "0x89" and call[4] != "0x0":
                    count += 1
        return count

    def send(self, thread, fields):
        number = next(self._ids)
        pending = Pending(self, {"thread": thread, **fields})
        with self._lock:
            self._pending[number] = pending
            number_children(fields, number)
            line = json.dumps({"id": number, "thread": thread, **fields}) + "\n"
            self.process.stdin.write(line.encode("utf-8"))
            self.process.stdin.flush()
        return pending

    def _read_answers(self):
        for place, line in enumerate(self.process.stdout):
            fields = json.loads(line)
            if "log" in fields:
                self.log.append(Reply(fields))
            elif "child" in fields:
                self._pending[fields["id"]].child.append(Reply(fields))
            else:
                with self._lock:
                    pending = self._pending.pop(fields["id"])
                pending.arrive(fields, place)
        with self._lock:
            for pending in self._pending.values():
                pending._arrived.set()

    def _read_errors(self):
        self._stderr = self.process.stderr.read()

    def errors(self):
        return self._stderr.decode("utf-8", "replace")

    def finish(self):
        """End the tool, which returns its loans and closes the store; it must report no problem."""
        self.process.stdin.close()
        try:
            code = self.process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError("the tool did not end") from None
        for reader in self._readers:
            reader.join()
        self.process.stdout.close()
        self.process.stderr.close()
        problems = self.errors() + command.take_sanitizer_reports()
        assert (code, problems) == (0, ""), f"ended with {code}: {problems}"

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


@pytest.fixture
def make_tool():
    """A function that starts a StoreTool. All tools must end well after the test."""
    tools = []

    def make(config, **how):
        tools.append(StoreTool(config, **how))
        return tools[-1]

    try:
        yield make
        for tool in tools:
            tool.finish()
    finally:
        for tool in tools:
            tool.kill()


@pytest.fixture
def relayed_store(own_servers, relay, tmp_path):
    """Like own_store, with a relay between the store and server one: the configuration's path, and
    the relay."""
    one, two = own_servers
    between = relay(one.server)
    servers = {"one": (between.params(one.dbname), "1-9"), "two": (two, "9-17")}
    path = store_config(tmp_path / "relayed.conf", servers)
    make_shards(path, one, two)
    eventually(lambda: between.open == 0)  # hv has ended, but the relay may not have seen it yet
    return path, between
