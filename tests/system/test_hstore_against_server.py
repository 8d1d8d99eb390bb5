"""Our hstore, binary and text, does what the server's does: hstore_in, _out, _recv and _send."""

import io
import struct

import psycopg2
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from harness import spawn

examples = settings(
    max_examples=150, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)

# hstore_recv's messages about bytes that are not an hstore.
REFUSALS = (
    psycopg2.DataError,
    psycopg2.errors.ProgramLimitExceeded,
    psycopg2.errors.ProtocolViolation,
)


class Tool:
    """A running tests/unit/hstore_tool."""

    def __init__(self, process):
        self.process = process

    def _ask(self, command, data):
        self.process.stdin.write(f"{command} {data.hex()}\n".encode())
        self.process.stdin.flush()
        answer = self.process.stdout.readline().decode()
        assert answer.endswith("\n"), f"the tool ended: {self.process.communicate()}"
        return answer.rstrip("\n").split(" ")

    def _dict(self, command, data):
        """(text, binary), or None if it was refused."""
        result, *rest = self._ask(command, data)
        if result == "refused":
            return None
        text, binary = rest
        return bytes.fromhex(text).decode(), bytes.fromhex(binary)

    def decode(self, binary):
        return self._dict("binary", binary)

    def parse(self, text):
        return self._dict("text", text.encode())

    def text_prefix(self, data):
        return int(self._ask("utf8", data)[1])


class Server:
    """The server's functions of hstore."""

    def __init__(self, connection):
        self.version = connection.server_version
        self.cursor = connection.cursor()
        self.cursor.execute("CREATE EXTENSION hstore")
        self.cursor.execute("CREATE TEMPORARY TABLE received (h hstore)")

    def _row(self, statement, *args):
        self.cursor.execute(statement, args)
        return self.cursor.fetchone()

    def build(self, attributes):
        """(text, binary) of a dict, made without its text form."""
        text, binary = self._row(
            "SELECT h::text, hstore_send(h) FROM hstore(%s::text[], %s::text[]) AS h",
            list(attributes.keys()),
            list(attributes.values()),
        )
        return text, bytes(binary)

    def parse(self, text):
        """(text, binary, dict), or None if it is refused."""
        try:
            printed, binary, keys, values = self._row(
                "SELECT h::text, hstore_send(h), akeys(h), avals(h)"
                " FROM (SELECT %s::hstore AS h OFFSET 0) AS parsed",
                text,
            )
        except psycopg2.errors.InternalError_ as error:  # hstore gives its errors no SQLSTATE
            assert "Syntax error" in str(error) or "Unexpected end of string" in str(error)
            return None
        except psycopg2.errors.SyntaxError:  # since PostgreSQL 16 it does
            return None
        return printed, bytes(binary), dict(zip(keys, values))

    def receive(self, binary):
        """The dict's text as hstore_recv reads it from COPY, or None if it is refused."""
        row = struct.pack("!hi", 1, len(binary)) + binary
        stream = b"PGCOPY\n\xff\r\n\0" + struct.pack("!ii", 0, 0) + row + struct.pack("!h", -1)
        self.cursor.execute("TRUNCATE received")
        try:
            self.cursor.copy_expert("COPY received FROM STDIN BINARY", io.BytesIO(stream))
        except REFUSALS:
            return None
        return self._row("SELECT h::text FROM received")[0]

    def is_text(self, data):
        try:
            self._row("SELECT convert_from(%s, 'UTF8')", psycopg2.Binary(data))
        except psycopg2.errors.CharacterNotInRepertoire:
            return False
        return True


@pytest.fixture(scope="module")
def tool():
    process = spawn("tests/unit/hstore_tool", stderr=None)
    with process:
        yield Tool(process)
        process.stdin.close()
        assert process.wait() == 0


@pytest.fixture(scope="module")
def postgres(shared_servers):
    database = shared_servers[0].create_database()
    with database.connect() as connection:
        yield Server(connection)
    database.drop()


# All of Unicode but NUL and surrogates, with much of what matters to hstore.
characters = st.one_of(
    st.sampled_from('"\\,=> \t\n\v\f\rnulNUL\u00a0\u0085\u2003'),
    st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"),
)
words = st.text(characters, max_size=12)
dicts = st.dictionaries(words, st.one_of(st.none(), words), max_size=20)

# The text form: pairs that are mostly well-formed, and pieces of it in any order.
pieces = st.sampled_from(
    ["a", "b", "é", "\u00a0", "\u0085", "NULL", "nUll", '"', '""', '"x"', '"a, b"', "\\", "\\\\", '\\"']
    + [",", "=", ">", "=>", " ", "\t", "\v", "\f", "\r\n"]
)
blanks = st.sampled_from(["", "", " ", "\n\t"])
pairs = st.tuples(
    st.lists(pieces, min_size=1, max_size=3).map("".join),
    blanks,
    st.sampled_from(["=>", "=>", "=>", "=>", "=", "= >", "=>>"]),
    blanks,
    st.one_of(st.just("NULL"), st.lists(pieces, max_size=3).map("".join)),
    st.sampled_from([",", ",", ", ", " ,", "", " ", ",,"]),
).map("".join)
texts = st.one_of(st.lists(pairs, max_size=4).map("".join), st.lists(pieces, max_size=10).map("".join))


@examples
@given(attributes=dicts)
def test_what_the_server_sends_is_read_and_printed_as_the_server_prints_it(
    tool, postgres, attributes
):
    text, binary = postgres.build(attributes)
    assert tool.decode(binary) == (text, binary)


@examples
@given(attributes=dicts)
def test_what_the_server_prints_is_parsed_to_what_it_sends(tool, postgres, attributes):
    text, binary = postgres.build(attributes)
    assert tool.parse(text) == (text, binary)


@examples
@given(attributes=dicts, data=st.data())
def test_what_we_send_in_any_order_is_what_the_server_receives(tool, postgres, attributes, data):
    expected, _ = postgres.build(attributes)
    shuffled = data.draw(st.permutations(list(attributes.items())))

    def quoted(word):
        escaped = word.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'

    text, binary = tool.parse(
        ",".join(
            f"{quoted(key)}=>{'NULL' if value is None else quoted(value)}"
            for key, value in shuffled
        )
    )
    assert text == expected
    assert postgres.receive(binary) == expected


@settings(examples, max_examples=2000)
@given(text=texts)
def test_any_text_is_taken_or_refused_as_by_the_server(tool, postgres, text):
    assume("\v" not in text or postgres.version < 160000)  # white space since then
    ours, theirs = tool.parse(text), postgres.parse(text)
    assert (ours is None) == (theirs is None)
    if ours is None or ours[0] == theirs[0]:
        return
    # Of a key given twice, the server takes the first value and we the last.
    ours_again, theirs_again = postgres.parse(ours[0])[2], theirs[2]
    assert ours_again.keys() == theirs_again.keys()
    for key, value in ours_again.items():
        if value != theirs_again[key]:
            assert all(text.count(character) >= 2 for character in key or '"')


@settings(examples, max_examples=500)
@given(attributes=dicts, data=st.data())
def test_damaged_bytes_that_we_take_mean_the_same_to_the_server(tool, postgres, attributes, data):
    binary = bytearray(postgres.build(attributes)[1])
    places = st.integers(0, len(binary) - 1)
    for place in data.draw(st.lists(places, min_size=1, max_size=3)):
        binary[place] = data.draw(st.integers(0, 255))
    ours = tool.decode(bytes(binary))
    theirs = postgres.receive(bytes(binary))
    if ours is not None:
        assert theirs == ours[0]
        assert ours[1] == binary


@examples
@given(attributes=dicts, data=st.data())
def test_what_is_cut_off_is_refused_by_both(tool, postgres, attributes, data):
    binary = postgres.build(attributes)[1]
    part = binary[: data.draw(st.integers(0, len(binary) - 1))]
    assert tool.decode(part) is None
    assert postgres.receive(part) is None


@settings(examples, max_examples=500)
@given(
    data=st.lists(
        st.one_of(
            st.sampled_from([b"\x7f", b"\x80", b"\xc0\x80", b"\xc2", b"\xe0\x9f", b"\xe0\xa0\x80"]),
            st.sampled_from([b"\xed\x9f\xbf", b"\xed\xa0\x80", b"\xf0\x8f\xbf\xbf", b"\xf0\x90"]),
            st.sampled_from([b"\xf4\x8f\xbf\xbf", b"\xf4\x90\x80\x80", b"\xf5", b"\xff", b"\0"]),
            words.map(str.encode),
            st.binary(max_size=4),
        ),
        max_size=6,
    ).map(b"".join)
)
def test_what_is_text_to_the_server_is_text_to_us(tool, postgres, data):
    assert (tool.text_prefix(data) == len(data)) == postgres.is_text(data)


def test_a_megabyte_and_many_attributes_go_both_ways(tool, postgres):
    attributes = {"big": "\U0001f600" * 262144}
    attributes.update((f"key {i}", None if i % 7 == 0 else f"{i}\\") for i in range(20000))
    text, binary = postgres.build(attributes)
    assert tool.decode(binary) == (text, binary)
    assert tool.parse(text) == (text, binary)
    assert postgres.receive(binary) == text
