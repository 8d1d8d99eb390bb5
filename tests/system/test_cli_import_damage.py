"""hv import of damaged inputs. Whatever is wrong with them, every line is stored or rejected."""

import csv
import io
import json

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from harness import hv
from importing import bodies, clear, import_bytes, import_file, numbers, rejects

generated = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


# ---- CSV ----

fields = st.text('ab ,;\t\n"\'é', max_size=6)


@st.composite
def damaged_csv(draw):
    """A CSV with a header of three names, some of whose bytes were replaced, added or lost."""
    table = draw(st.lists(st.tuples(fields, fields), min_size=1, max_size=12))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator=draw(st.sampled_from(["\n", "\r\n"])))
    writer.writerows([("first", "is", "right")])
    writer.writerows((str(n), *row) for n, row in enumerate(table))
    data = text.getvalue().encode()
    begin = data.index(b"right") + len(b"right\r\n")
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(begin, len(data)))
        lost = draw(st.integers(0, 2))
        new = draw(st.sampled_from([b"", b'"', b'"', b'""', b",", b"\n", b"\r", b"\0", b"\xff", b"x"]))
        data = data[:at] + new + data[at + lost :]
    return b"n,a,b\n0,,\n" + data[begin:]


def without(data, rejected):
    """The input without the lines of the rejected rows, none of which may occur twice."""
    lines = data.split(b"\n")
    taken = set()
    for row in rejected:
        for offset, line in enumerate(row["row"].split(b"\n")):
            number = row["line"] + offset
            assert number not in taken
            assert lines[number - 1] in (line, line + b"\r"), (row, lines[number - 1])
            taken.add(number)
    return b"\n".join(line for number, line in enumerate(lines, 1) if number not in taken)


def as_python_reads_it(data):
    """The rows of a CSV, with an empty field and NULL taken to be the same."""
    text = data.decode().replace("\r\n", "\n")
    header, *rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    assert all(len(row) == len(header) for row in rows if row), rows
    return sorted(tuple(row) for row in rows if row)


@generated
@given(data=damaged_csv())
@example(data=b'n,a,b\n0,,\n1,"never closed,\n2,x,y\n3,"z",\n4,,\n')
@example(data=b'n,a,b\n0,,\n1,x,y\n2,"cut o')
@example(data=b'n,a,b\n0,,\n"1\n1","2\n2,"3\n4,5,6\n')
def test_every_line_of_a_damaged_csv_is_stored_or_rejected(store, servers, tmp_path, data):
    """Without those that were rejected, Python reads the rows that are stored."""
    clear(servers)
    for old in tmp_path.glob("*.rejects*"):
        old.unlink()
    result = import_bytes(store, tmp_path, "x.csv", data, "--again")  # data may come twice
    summary = result.json()
    assert summary["complete"], result.err
    found = rejects(tmp_path / "x.csv.rejects") if summary["rejects"] else []
    assert (result.code == 0) == (not found)
    assert summary["rejected"] == len(found)
    stored = sorted(
        tuple((body[name] or "").replace("\r\n", "\n") for name in ("n", "a", "b"))
        for body in bodies(servers)
    )
    assert len(stored) == summary["stored"]
    assert stored == as_python_reads_it(without(data, found))


def test_a_quote_that_is_never_closed_costs_its_line_alone(store, servers, tmp_path):
    """In a file that is longer than the longest row, too."""
    filler = "x" * 50_000
    path = tmp_path / "x.csv"
    with open(path, "w", encoding="ascii") as file:
        file.write("n,long\n1,\n2,\"two\n")
        file.writelines(f"{n},{filler}\n" for n in range(3, 1500))
        file.write('1500,"a\nb"\n')
    result = import_file(store, path)
    assert result.code == 1
    summary = result.json()
    assert (summary["complete"], summary["stored"], summary["rejected"]) == (True, 1499, 1)
    (row,) = rejects(tmp_path / "x.csv.rejects")
    assert (row["line"], row["row"]) == (3, b'2,"two')
    assert row["reason"] == (
        "line 3, column 3: the quote that opens here is not closed within 64 MiB"
    )
    assert numbers(servers) == [1, *range(3, 1501)]
    # The rejected rows are repaired, and imported by themselves.
    mended = b"n,long\n" + row["row"] + b'"\n'
    import_bytes(store, tmp_path, "mended.csv", mended).ok()
    assert numbers(servers) == list(range(1, 1501))


def test_an_import_of_a_damaged_csv_is_gone_on_with(store, servers, tmp_path):
    """Rows are numbered in the same way when they are passed over."""
    data = 'n,m\n1,"a\n2,"b"\n3,"c\n' + "".join(f"{n},x\n" for n in range(4, 200))
    path = tmp_path / "x.csv"
    path.write_text(data)
    first = hv("--json", "import", path, "-k", 1, "--limit", 50, config=store, cwd=tmp_path)
    assert (first.json()["stored"], first.json()["rejected"]) == (48, 2)
    rest = hv("--json", "import", path, "-k", 1, "--skip", 50, config=store, cwd=tmp_path).ok()
    assert rest.json()["stored"] == 149
    assert numbers(servers) == [2, *range(4, 200)]


@pytest.mark.parametrize(
    "data, message, hint",
    [
        (b"n,m\r1,2\r3,4\r", "line 1, column 4: a carriage return outside quotes", "tr '\\r'"),
        ("n,m\n1,2\n".encode("utf-16-le"), "line 1, column 2: a NUL byte", "UTF-8"),
        ("n,m\n1,2\n".encode("utf-16"), "the input is UTF-16", "iconv"),
        ("n,ä\n1,2\n".encode("latin-1"), "the byte 0xe4 is not UTF-8", "UTF-8"),
    ],
    ids=["old line ends", "UTF-16 without a mark", "UTF-16", "Latin-1"],
)
def test_a_csv_in_another_form_is_refused_with_a_hint(
    store, servers, tmp_path, data, message, hint
):
    refused = import_bytes(store, tmp_path, "x.csv", data)
    assert refused.code == 1
    error = json.loads(refused.err.splitlines()[0])["error"]
    assert message in error["message"]
    assert hint in error["hint"]
    assert not list(tmp_path.glob("*.rejects*"))


# ---- NDJSON and TSV ----


@pytest.mark.parametrize(
    "name, start, good",
    [
        ("x.ndjson", '{"n": NaN}\n', '{{"n": {}}}\n'),
        ("x.ndjson", '{"n": 1, "m": "cut\n', '{{"n": {}}}\n'),
        ("x.ndjson", "null\n" * 19, '{{"n": {}}}\n'),
        ("x.csv", "n,m\n1\n", "{},x\n"),
        ("x.csv", 'n,m\n1,"\n', "{},x\n"),
        ("x.tsv", "n\tm\n1\n\\\t\n", "{}\tx\n"),
    ],
    ids=["NaN", "cut", "19 rows", "csv", "csv with a quote", "tsv"],
)
def test_bad_first_rows_are_rejected_like_any_others(
    store, servers, tmp_path, name, start, good
):
    data = start + "".join(good.format(n) for n in range(100, 200))
    result = import_bytes(store, tmp_path, name, data)
    bad = start.count("\n") - ("n" == start[0] and name != "x.ndjson")
    assert result.code == 1
    summary = result.json()
    assert (summary["complete"], summary["stored"]) == (True, 100)
    assert summary["rejected"] == len(rejects(tmp_path / f"{name}.rejects")) == bad
    assert numbers(servers) == list(range(100, 200))


def test_a_file_of_one_bad_row_is_one_rejected_row(store, servers, tmp_path):
    result = import_bytes(store, tmp_path, "x.ndjson", '{"n": NaN}\n')
    assert result.code == 1
    assert result.json()["rejected"] == 1
    assert rejects(tmp_path / "x.ndjson.rejects")[0]["row"] == b'{"n": NaN}'


@pytest.mark.parametrize(
    "name, text",
    [
        ("x.ndjson", '{"n": NaN}\n' * 5000),
        ("x.ndjson", "n,m\n" + "1,2\n" * 5000),
        ("x.csv", "n,m\n" + "1,2,3\n" * 5000),
    ],
    ids=["NaN", "other", "csv"],
)
def test_a_file_without_a_good_row_among_the_first_imports_nothing(
    store, servers, tmp_path, name, text
):
    refused = import_bytes(store, tmp_path, name, text)
    assert refused.code == 1
    summary = refused.json()
    assert (summary["complete"], summary["stored"], summary["rejected"]) == (False, 0, 0)
    assert not list(tmp_path.glob("*.rejects*"))
