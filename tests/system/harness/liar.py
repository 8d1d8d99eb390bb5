"""A proxy before a real server that passes everything on, and falsifies one answer.

    with Liar(server) as liar:
        liar.lie(3, "no_rows")                # the answer to the third statement from now on
        store_config(path, {"one": (liar.params("test"), "1-9")})
        ...
        liar.statements, liar.lied

The falsified answer is well-formed: messages of the protocol as a server sends them, but not the
answer to the question. Everything with a result of its own counts as a statement: each statement of
a simple query, each Execute. Statements are counted over all connections, in the order in which
their answers pass.
"""

import contextlib
import socket
import struct
import threading
import time

INT8, FLOAT8 = 20, 701
FLOODED = b"x" * 200


def message(kind, body=b""):
    return kind + struct.pack("!I", len(body) + 4) + body


def _text(value):
    return value.encode() + b"\0"


def error(severity, sqlstate, text):
    fields = b"".join(
        code + _text(value)
        for code, value in ((b"S", severity), (b"V", severity), (b"C", sqlstate), (b"M", text))
    )
    return message(b"E", fields + b"\0")


READY = message(b"Z", b"I")
EMPTY_QUERY = message(b"I")


# ---- rows ----


class Answer:
    """The messages of one result, whose rows and columns can be changed."""

    def __init__(self, messages):
        self.before = [m for m in messages if m[:1] not in (b"T", b"D")][:-1]
        self.end = messages[-1]
        self.columns = []  # [name, table, number, type, size, modifier, format]
        self.has_columns = any(m[:1] == b"T" for m in messages)
        self.rows = []  # bytes or None
        for one in messages:
            if one[:1] == b"T":
                self.columns = _read_columns(one[5:])
            elif one[:1] == b"D":
                self.rows.append(_read_row(one[5:]))

    def messages(self):
        columns = [message(b"T", _write_columns(self.columns))] if self.has_columns else []
        rows = [message(b"D", _write_row(row)) for row in self.rows]
        return [*self.before, *columns, *rows, self.end]

    def map(self, change):
        """Change every value: change(value, format), value not None."""
        formats = [column[6] for column in self.columns]
        self.rows = [
            [None if v is None else change(v, formats[i] if i < len(formats) else 0)
             for i, v in enumerate(row)]
            for row in self.rows
        ]


def _read_columns(body):
    (count,) = struct.unpack_from("!H", body)
    at, columns = 2, []
    for _ in range(count):
        end = body.index(b"\0", at)
        columns.append([body[at:end], *struct.unpack_from("!IHIhih", body, end + 1)])
        at = end + 19
    return columns


def _write_columns(columns):
    return struct.pack("!H", len(columns)) + b"".join(
        name + b"\0" + struct.pack("!IHIhih", *rest) for name, *rest in columns
    )


def _read_row(body):
    (count,) = struct.unpack_from("!H", body)
    at, row = 2, []
    for _ in range(count):
        (length,) = struct.unpack_from("!i", body, at)
        at += 4
        row.append(None if length < 0 else body[at : at + length])
        at += max(length, 0)
    return row


def _write_row(row):
    return struct.pack("!H", len(row)) + b"".join(
        struct.pack("!i", -1) if value is None else struct.pack("!I", len(value)) + value
        for value in row
    )


# ---- ways to lie: each takes an Answer and returns what is sent in its place ----


def _changed(change):
    def way(answer):
        change(answer)
        return answer.messages()

    return way


def _no_rows(answer):
    answer.rows = []
    answer.end = message(b"C", _text("SELECT 0"))


def _fewer_columns(answer):
    answer.columns = answer.columns[:-1]
    answer.rows = [row[:-1] for row in answer.rows]


def _no_columns(answer):
    answer.columns = []
    answer.rows = [[] for _ in answer.rows]


def _more_columns(answer):
    answer.columns.append([b"more", 0, 0, 25, -1, -1, 0])
    answer.rows = [[*row, b"1"] for row in answer.rows]


def _nulls(answer):
    answer.rows = [[None] * len(row) for row in answer.rows]


def _first_null(answer):
    answer.rows = [[None, *row[1:]] for row in answer.rows]


def _other_format(answer):
    """Text instead of binary, and binary instead of text."""

    def change(value, binary):
        if binary:
            return str(int.from_bytes(value, "big", signed=True)).encode()
        return struct.pack("!q", int(value)) if value.lstrip(b"-").isdigit() else b"\0\1"

    answer.map(change)
    for column in answer.columns:
        column[6] = 1 - column[6]


def _other_types(answer):
    for column in answer.columns:
        column[3] = FLOAT8 if column[3] != FLOAT8 else INT8


def _twice(answer):
    answer.rows = [row for row in answer.rows for _ in range(2)]


def _many_rows(answer):
    row = answer.rows[0] if answer.rows else [None] * len(answer.columns)
    answer.rows = [row] * 5000


def _number(value):
    def change(_, binary):
        if not binary:
            return str(value).encode()
        return struct.pack("!q", max(-(2**63), min(value, 2**63 - 1)))

    return _changed(lambda answer: answer.map(change))


def _command(tag):
    def change(answer):
        answer.end = message(b"C", _text(tag))

    return _changed(change)


WAYS = {
    "no_rows": _changed(_no_rows),
    "fewer_columns": _changed(_fewer_columns),
    "no_columns": _changed(_no_columns),
    "more_columns": _changed(_more_columns),
    "nulls": _changed(_nulls),
    "first_null": _changed(_first_null),
    "other_format": _changed(_other_format),
    "other_types": _changed(_other_types),
    "empty_values": _changed(lambda answer: answer.map(lambda value, _: b"")),
    "short_values": _changed(lambda answer: answer.map(lambda value, _: value[:-1])),
    "long_values": _changed(lambda answer: answer.map(lambda value, _: value + b"\7" * 7)),
    "twice": _changed(_twice),
    "many_rows": _changed(_many_rows),
    "not_utf8": _changed(lambda answer: answer.map(lambda value, _: b"\xff\xfe\x80\x1b[2J")),
    "huge_numbers": _number(10**30),
    "greatest_numbers": _number(2**63 - 1),
    "negative_numbers": _number(-1),
    "least_numbers": _number(-(2**63)),
    "zeros": _number(0),
    "no_result": lambda answer: [message(b"C", _text("SELECT 0"))],
    "other_command": _command("DROP TABLE"),
    "no_command": _command(""),
    "huge_count": _command("INSERT 0 99999999999999999999"),
    "negative_count": _command("INSERT 0 -1"),
    "empty_query": lambda answer: [EMPTY_QUERY],
    "suspended": lambda answer: [*answer.messages()[:-1], message(b"s")],
    "copy_in": lambda answer: [message(b"G", b"\0\0\0")],
    "copy_out": lambda answer: [message(b"H", b"\0\0\0")],
    "copy_both": lambda answer: [message(b"W", b"\0\0\0")],
    "whole_copy": lambda answer: [
        message(b"H", b"\0\0\1\0\0"), message(b"d", b"1\n"), message(b"c"),
        message(b"C", _text("COPY 1")),
    ],
    "error": lambda answer: [error("ERROR", "XX000", "a lie")],
    "bare_error": lambda answer: [message(b"E", b"\0")],
    "error_after": lambda answer: [*answer.messages(), error("ERROR", "XX000", "a lie")],
    "extra_result": lambda answer: answer.messages() * 2,
    "early_ready": lambda answer: [READY, *answer.messages()],
    "notify": lambda answer: [
        *[message(b"A", struct.pack("!I", 7) + _text("lie") + _text("x"))] * 1000,
        *answer.messages(),
    ],
    "parameters": lambda answer: [
        *[message(b"S", _text("application_name") + _text(str(i))) for i in range(1000)],
        *answer.messages(),
    ],
    "encoding": lambda answer: [
        message(b"S", _text("client_encoding") + _text("LATIN1")), *answer.messages(),
    ],
}

# Other ways are not a matter of the messages alone: see _Connection.
FLOODS = {
    "notify_flood": message(b"A", struct.pack("!I", 7) + _text("lie") + FLOODED + b"\0"),
    "parameter_flood": message(b"S", _text("application_name") + FLOODED + b"\0"),
    "notice_flood": message(b"N", b"SNOTICE\0C00000\0M" + FLOODED + b"\0\0"),
    "row_flood": message(b"D", _write_row([FLOODED])),
}
ENDINGS = (
    *FLOODS,
    "silent",  # the answer, and then nothing more: no "ready for query"
    "stuck",  # not even the answer
    "cut",
    "fatal",
    "in_transaction",  # the transaction status in the next "ready for query"
    "failed_transaction",
    "stuck_in_transaction",  # and nothing more comes
    "ready_twice",
    "answer_after_ready",
    "dribble",  # byte by byte, in time
    "slow_dribble",  # byte by byte, for longer than any caller waits
    "nonsense_length",
)
ALL_WAYS = (*WAYS, *ENDINGS)


class _Connection:
    """One client's connection, and the messages that pass on it."""

    def __init__(self, liar, client, server):
        self.liar, self.client, self.server = liar, client, server
        self.held = []  # of an incomplete answer
        self.started = False  # "ready for query" has passed once
        self.after = None  # an action at the next "ready for query"
        self.out = []  # to be sent

    def run(self):
        upward = threading.Thread(target=self._pass_up, daemon=True)
        upward.start()
        with contextlib.suppress(OSError, EOFError):
            self._pass_down()
        self.close()
        upward.join()

    def close(self):
        for end in (self.client, self.server):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _pass_up(self):
        with contextlib.suppress(OSError):
            while data := self.client.recv(65536):
                self.server.sendall(data)
        self.close()

    def _pass_down(self):
        buffer = b""
        while data := self.server.recv(65536):
            buffer += data
            out = self.out = []
            at = 0
            while len(buffer) - at >= 5:
                length = 1 + struct.unpack_from("!I", buffer, at + 1)[0]
                if len(buffer) - at < length:
                    break
                self._take(buffer[at : at + length], out)
                at += length
            buffer = buffer[at:]
            if out:
                self.client.sendall(b"".join(out))
        if self.held:
            self.client.sendall(b"".join(self.held))

    def _take(self, one, out):
        kind = one[:1]
        if not self.started:
            self.started = kind == b"Z"
            out.append(one)
        elif kind == b"Z":
            out += self.held
            self.held = []
            self._ready(one, out)
        elif kind in b"TDn12":
            self.held.append(one)
        elif kind in b"CIGH":
            self._answer([*self.held, one], out)
            self.held = []
        else:
            out += self.held
            self.held = []
            out.append(one)

    def _ready(self, one, out):
        after, self.after = self.after, None
        out.append(after(one) if after is not None else one)

    def _answer(self, messages, out):
        way = self.liar._count()
        if way is None:
            out += messages
        elif way in WAYS:
            heads = [m for m in messages if m[:1] in b"12n"]
            rest = [m for m in messages if m[:1] not in b"12n"]
            out += heads + WAYS[way](Answer(rest))
        else:
            getattr(self, f"_{way}" if hasattr(self, f"_{way}") else "_flood")(messages, out, way)

    # ---- the other ways ----

    def _send(self, out):
        self.client.sendall(b"".join(out))
        out.clear()

    def _flood(self, messages, out, way):
        if way == "row_flood":
            out.append(message(b"T", _write_columns([[b"x", 0, 0, 25, -1, -1, 0]])))
        self._send(out)
        until = time.monotonic() + self.liar.patience
        while time.monotonic() < until:
            self.client.sendall(FLOODS[way] * 50)
        raise EOFError

    def _wait(self):
        self.liar._ended.wait(self.liar.patience)
        raise EOFError

    def _silent(self, messages, out, _):
        self._send(out + messages)
        self._wait()

    def _stuck(self, messages, out, _):
        self._send(out)
        self._wait()

    def _cut(self, messages, out, _):
        self._send(out + messages[:-1])
        raise EOFError

    def _fatal(self, messages, out, _):
        self._send([*out, *messages[:-1], error("FATAL", "57P01", "a lie")])
        raise EOFError

    def _in_transaction(self, messages, out, _):
        out += messages
        self.after = lambda ready: message(b"Z", b"T")

    def _failed_transaction(self, messages, out, _):
        out += messages
        self.after = lambda ready: message(b"Z", b"E")

    def _stuck_in_transaction(self, messages, out, _):
        out += messages
        self.after = self._ready_and_stuck

    def _ready_and_stuck(self, _):
        self.client.sendall(b"".join(self.out) + message(b"Z", b"T"))
        self._wait()

    def _ready_twice(self, messages, out, _):
        out += messages
        self.after = lambda ready: ready * 2

    def _answer_after_ready(self, messages, out, _):
        out += messages
        self.after = lambda ready: ready + b"".join(messages) + ready

    def _dribble(self, messages, out, _):
        self._dribble_every(0.0005, messages, out)

    def _slow_dribble(self, messages, out, _):
        self._dribble_every(0.15, messages, out)

    def _dribble_every(self, pause, messages, out):
        self._send(out)
        for byte in b"".join(messages):
            self.client.sendall(bytes([byte]))
            time.sleep(pause)

    def _nonsense_length(self, messages, out, _):
        self._send([*out, b"D\x7f\xff\xff\xff"])
        self._wait()


class Liar:
    """Relays from a free port of 127.0.0.1 to `server`: a PostgresServer with tcp, or a Database.

    statements  how many answers have passed since lie() or listen()
    lied        has the answer that was to be falsified passed?
    """

    def __init__(self, server, patience=30):
        self._server = server
        self.patience = patience  # seconds: how long it floods or is silent
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._connections = set()
        self._number, self._way = None, None
        self.statements, self.lied = 0, False
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.host, self.port = self._listener.getsockname()
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def params(self, *args, **more):
        """libpq's parameters for a connection to the server through the liar."""
        here = {"host": self.host, "port": str(self.port), "sslmode": "disable"}
        return {**self._server.params(*args), "gssencmode": "disable", **here, **more}

    def listen(self):
        """Falsify nothing; count from 0."""
        self.lie(None, None)

    def lie(self, number, way):
        """Falsify the answer to statement `number`, from 1, in this way: one of ALL_WAYS."""
        with self._lock:
            self._number, self._way = number, way
            self.statements, self.lied = 0, False

    def drop(self):
        """Cut all connections and wait until nothing passes on them any more."""
        self._ended.set()
        with self._lock:
            connections = list(self._connections)
        for connection, thread in connections:
            connection.close()
            thread.join()
        self._ended.clear()

    def close(self):
        self._listener.close()
        self.drop()

    def _count(self):
        """An answer passes: return the way to falsify it, or None."""
        with self._lock:
            self.statements += 1
            if self.statements != self._number:
                return None
            self.lied = True
            return self._way

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        params = self._server.params()
        with client, contextlib.suppress(OSError):
            if params["host"].startswith("/"):
                server = socket.socket(socket.AF_UNIX)
                server.connect(f"{params['host']}/.s.PGSQL.{params['port']}")
            else:
                server = socket.create_connection((params["host"], int(params["port"])))
            with server:
                connection = _Connection(self, client, server)
                entry = (connection, threading.current_thread())
                with self._lock:
                    self._connections.add(entry)
                connection.run()
                with self._lock:
                    self._connections.discard(entry)
