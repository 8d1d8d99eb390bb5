"""hv import: every format against its own standard, rejected rows, and refused inputs."""

import csv
import io
import json
import os
import pty
import re
import stat
import subprocess

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness import build_dir, hv, spawn, store_config
from importing import (
    SHARDS,
    bodies,
    clear,
    count,
    entities,
    import_bytes,
    import_file,
    numbers,
    rejects,
    write_numbers,
)

ALL_SHARDS = [*SHARDS[0], *SHARDS[1]]
# Keys are in the order of the rows, and a generated file may be the same as an earlier one.
ONE_BY_ONE = ("--shard", 3, "--again")

generated = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

# Any text that PostgreSQL can hold.
texts = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=20)
tricky = st.text("ab ,;\t\n\r\"'\\N.é€😀{}[]:0", max_size=8)
values = st.one_of(texts, tricky)


# ---- formats ----


def test_ndjson_becomes_text_and_null(store, servers, tmp_path):
    lines = (
        '{"s": "é\\n\\u20ac", "n": null, "t": true, "i": 12345678901234567890, "d": 1.10}\n'
        '{"o": {"a": [1, 2.50, null]}, "l": [ ], "twice": 1, "twice": "2"}\n'
        "\n"
        "{}"
    )
    result = import_bytes(store, tmp_path, "x.ndjson", lines, *ONE_BY_ONE).ok().json()
    assert (result["rows"], result["stored"], result["rejected"]) == (3, 3, 0)
    assert (result["complete"], result["rejects"]) == (True, None)
    assert bodies(servers) == [
        {"s": "é\n€", "n": None, "t": "true", "i": "12345678901234567890", "d": "1.10"},
        {"o": '{"a":[1,2.50,null]}', "l": "[]", "twice": "2"},
        {},
    ]
    assert not list(tmp_path.glob("*.rejects*"))


json_scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False)
)
json_nested = st.recursive(
    st.one_of(json_scalars, values),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(values, inner, max_size=3)),
    max_leaves=8,
)


def ndjson_expected(value):
    """The attribute that this value in JSON becomes."""
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, separators=(",", ":"))


@generated
@given(
    rows=st.lists(st.dictionaries(values, json_nested, max_size=5), min_size=1, max_size=8),
    ascii_only=st.booleans(),
    separators=st.sampled_from([(",", ":"), (", ", ": "), (" ,\t", " :\r ")]),
    end=st.sampled_from(["\n", "\r\n", "\n \n"]),
)
def test_ndjson_is_read_as_python_writes_it(
    store, servers, tmp_path, rows, ascii_only, separators, end
):
    clear(servers)
    lines = [json.dumps(row, ensure_ascii=ascii_only, separators=separators) for row in rows]
    import_bytes(store, tmp_path, "x.ndjson", end.join(lines), *ONE_BY_ONE).ok()
    stored = bodies(servers)
    assert len(stored) == len(rows)
    for got, row in zip(stored, rows):
        assert got.keys() == row.keys()
        for name, value in row.items():
            if isinstance(value, (dict, list)):
                assert json.loads(got[name]) == value
            else:
                assert got[name] == ndjson_expected(value)


@generated
@given(
    table=st.integers(1, 4).flatmap(
        lambda width: st.lists(
            st.lists(values, min_size=width, max_size=width), min_size=1, max_size=8
        )
    ),
    quoting=st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]),
    mark=st.sampled_from(["", "\ufeff"]),
)
def test_csv_is_read_as_python_writes_it(store, servers, tmp_path, table, quoting, mark):
    clear(servers)
    header = ["a", "b c", 'ü"', "d,\n"][: len(table[0])]
    text = io.StringIO()
    writer = csv.writer(text, quoting=quoting, lineterminator="\r\n")
    writer.writerow(header)
    writer.writerows(table)
    import_bytes(store, tmp_path, "x.csv", mark + text.getvalue(), *ONE_BY_ONE).ok()
    # Without quotes an empty field is NULL. A row of one empty field Python always quotes.
    unquoted = quoting == csv.QUOTE_MINIMAL and len(header) > 1
    assert bodies(servers) == [
        {name: None if unquoted and value == "" else value for name, value in zip(header, row)}
        for row in table
    ]


@generated
@given(
    table=st.lists(
        st.lists(st.one_of(st.none(), values), min_size=3, max_size=3), min_size=1, max_size=8
    ),
    form=st.sampled_from(["csv", "text"]),
)
def test_what_copy_writes_is_read_as_it_was(store, servers, tmp_path, table, form):
    clear(servers)
    header = ["a", "b c", "ü\t,"]
    columns = ", ".join(f'x[{i}] AS "{name}"' for i, name in enumerate(header, 1))
    copied = io.StringIO()
    with servers[0].connect() as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TEMP TABLE rows (n serial, x text[])")
        for row in table:
            cursor.execute("INSERT INTO rows (x) VALUES (%s::text[])", (row,))
        select = f"SELECT {columns} FROM rows ORDER BY n"
        cursor.copy_expert(f"COPY ({select}) TO STDOUT WITH (FORMAT {form}, HEADER)", copied)
    # The server does not escape the header of its text format before version 16.
    text = copied.getvalue()
    if form == "text" and text.startswith("a\tb c\tü\t,\n"):
        text = text.replace("ü\t,", "ü\\t,", 1)
    name = "x.csv" if form == "csv" else "x.tsv"
    import_bytes(store, tmp_path, name, text, *ONE_BY_ONE).ok()
    assert bodies(servers) == [dict(zip(header, row)) for row in table]


@pytest.mark.parametrize("name", ["x.ndjson", "x.csv", "x.tsv"])
@pytest.mark.parametrize("data", ["", "\ufeff"])
def test_an_empty_file_has_no_rows(store, servers, tmp_path, name, data):
    result = import_bytes(store, tmp_path, name, data).ok().json()
    assert (result["complete"], result["rows"]) == (True, 0)
    assert count(servers) == 0


def test_standard_input_needs_a_format_unless_it_starts_with_a_brace(store, servers):
    hv("import", "-", "-k", 1, config=store, input='\ufeff{"n":1}\n').ok()
    hv("import", "-", "-k", 1, "--format", "csv", config=store, input="n\n2\n").ok()
    refused = hv("import", "-", "-k", 1, config=store, input="n\n2\n")
    assert refused.code == 1
    assert "could not read standard input: the format is not known" in refused.err
    assert "--format ndjson, csv or tsv" in refused.err
    assert numbers(servers) == [1, 2]


def test_the_format_can_be_said_for_any_ending(store, servers, tmp_path):
    import_bytes(store, tmp_path, "x.json", "n\n7\n", "--format", "CSV").ok()
    assert numbers(servers) == [7]


# ---- shards ----


def fnv1a(data):
    """The hash, written down from its definition."""
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return value


def test_without_a_choice_all_shards_take_turns(store, servers, tmp_path):
    import_file(store, write_numbers(tmp_path / "x.ndjson", 1, 3 * 16)).ok()
    shards = [shard for shard, _, _ in entities(servers)]
    assert sorted(shards) == sorted(ALL_SHARDS * 3)


def test_a_shard_takes_every_row(store, servers, tmp_path):
    path = write_numbers(tmp_path / "x.ndjson", 1, 20)
    hv("import", path, "--kind", -32768, "--shard", 12, config=store).ok()
    assert {(shard, kind) for shard, kind, _ in entities(servers)} == {(12, -32768)}
    assert numbers(servers) == list(range(1, 21))


def test_by_an_attribute_the_shard_is_the_hash_of_its_value(store, servers, tmp_path):
    names = ["alice", "bob", "", "é€😀", *(f"user{i}" for i in range(100))]
    rows = "".join(json.dumps({"name": name}) + "\n" for name in names)
    import_bytes(store, tmp_path, "x.ndjson", rows, "--by", "name").ok()
    got = {body["name"]: shard for shard, _, body in entities(servers)}
    assert got == {name: ALL_SHARDS[fnv1a(name.encode()) % 16] for name in names}


def test_the_hash_in_the_help_is_right():
    result = re.search(r'(\d+) for\s+"alice"', hv("help", "import").out)
    assert int(result.group(1)) == fnv1a(b"alice")


def test_by_an_attribute_rows_without_it_are_rejected(store, servers, tmp_path):
    rows = '{"name":"x"}\n{"n":1}\n{"name":null}\n{"name":""}\n'
    result = import_bytes(store, tmp_path, "x.ndjson", rows, "--by", "name")
    assert result.code == 1
    assert [(row["line"], row["reason"]) for row in rejects(tmp_path / "x.ndjson.rejects")] == [
        (2, 'line 2: no attribute "name", which decides the shard'),
        (3, 'line 3: attribute "name", which decides the shard, is NULL'),
    ]
    assert count(servers) == 2


# ---- part of a file ----


def test_skip_and_limit_choose_rows(store, servers, tmp_path):
    path = write_numbers(tmp_path / "x.ndjson", 1, 100)
    result = import_file(store, path, "--skip", 10, "--limit", 5).ok().json()
    assert (result["rows"], result["last_row"], result["last_line"]) == (5, 15, 15)
    assert numbers(servers) == [11, 12, 13, 14, 15]
    assert import_file(store, path, "--skip", 1000).ok().json()["rows"] == 0
    assert import_file(store, path, "--limit", 0).ok().json()["rows"] == 0


# ---- rejected rows ----


def test_rejected_rows_hold_line_reason_and_text_and_the_others_are_stored(
    store, servers, tmp_path
):
    data = b'a,b\n1,2\n"x\ny",3,4\n\xff,"q\xc3\xa9\x00"\n5,6\n'
    result = import_bytes(store, tmp_path, "x.csv", data, *ONE_BY_ONE)
    assert result.code == 1
    summary = result.json()
    assert (summary["rows"], summary["stored"], summary["rejected"]) == (4, 2, 2)
    assert summary["complete"] and summary["rejects"] == "x.csv.rejects"
    assert rejects(tmp_path / "x.csv.rejects") == [
        {
            "line": 3,
            "reason": "line 3: 3 fields, but the header names 2",
            "status": "HV_INVALID",
            "row": b'"x\ny",3,4',
        },
        {
            "line": 5,
            "reason": "line 5, column 6: a NUL byte",
            "status": "HV_INVALID",
            "row": b'\xff,"q\xc3\xa9\x00"',
        },
    ]
    assert bodies(servers) == [{"a": "1", "b": "2"}, {"a": "5", "b": "6"}]


@generated
@given(bad=st.binary(max_size=30).filter(lambda line: b"\n" not in line and line.strip(b" \t\r")))
def test_a_rejected_row_is_kept_to_the_byte(store, servers, tmp_path, bad):
    """The rows are certainly malformed: what precedes the bytes is not JSON."""
    for old in tmp_path.glob("*.rejects*"):
        old.unlink()
    import_bytes(store, tmp_path, "x.ndjson", b"{}\n" + b"?" + bad + b"!\n{}\n", "--again")
    assert [row["row"] for row in rejects(tmp_path / "x.ndjson.rejects")] == [b"?" + bad + b"!"]


def test_rejected_rows_can_be_mended_and_imported(store, servers, tmp_path):
    """As the help says: the header, and what jq -r .row prints."""
    import_bytes(store, tmp_path, "x.csv", 'n,m\n1,"2\n"\n3\n4,"5"6\n')
    mended = b"n,m\n" + b"".join(
        row["row"].replace(b'"', b"") + (b",\n" if b"," not in row["row"] else b"\n")
        for row in rejects(tmp_path / "x.csv.rejects")
    )
    import_bytes(store, tmp_path, "again.csv", mended).ok()
    assert sorted(bodies(servers), key=lambda body: body["n"]) == [
        {"n": "1", "m": "2\n"},
        {"n": "3", "m": None},
        {"n": "4", "m": "56"},
    ]


def test_a_rejects_file_replaces_no_other(store, tmp_path):
    (tmp_path / "x.csv.rejects").write_text("precious")
    first = import_bytes(store, tmp_path, "x.csv", "a,b\n1\n2,3\n")
    second = import_file(store, tmp_path / "x.csv", "--again")
    assert first.json()["rejects"] == "x.csv.rejects.2"
    assert second.json()["rejects"] == "x.csv.rejects.3"
    assert (tmp_path / "x.csv.rejects").read_text() == "precious"
    assert len(rejects(tmp_path / "x.csv.rejects.2")) == 1


def test_a_file_name_of_any_bytes_can_be_shown(store, tmp_path):
    name = os.fsencode(tmp_path) + b"/x\xff\x1b.csv"
    with open(name, "wb") as file:
        file.write(b"a,b\n1\n2,3\n")
    args = ("import", os.fsdecode(name), "--kind", 1)
    result = hv(*args, "--json", config=store, cwd=tmp_path)
    assert result.json()["complete"] and result.json()["stored"] == 1
    assert result.json()["rejects"] == "x\\xff\\x1b.csv.rejects"
    result = hv(*args, "--again", config=store, cwd=tmp_path)
    assert result.lines[1] == "rejected rows are in x\\xff\\x1b.csv.rejects.2"


def test_a_named_rejects_file_must_not_exist(store, servers, tmp_path):
    (tmp_path / "mine").write_text("precious")
    refused = import_bytes(store, tmp_path, "x.csv", "a,b\n1\n2,3\n", "--rejects", "mine")
    assert refused.code == 1
    assert 'file \\"mine\\" exists already' in refused.err
    assert (tmp_path / "mine").read_text() == "precious"
    assert count(servers) == 0
    missing = import_file(store, tmp_path / "x.csv", "--rejects", "no/such/place")
    assert missing.code == 1 and "--rejects FILE" in missing.err
    assert count(servers) == 0
    result = import_file(store, tmp_path / "x.csv", "--rejects", tmp_path / "other")
    assert result.json()["rejects"] == str(tmp_path / "other")


def test_a_rejects_file_is_as_private_as_the_input(store, tmp_path):
    secret = tmp_path / "x.csv"
    secret.write_text("a,b\n1\n2,3\n")
    secret.chmod(0o600)
    import_file(store, secret)
    assert stat.S_IMODE((tmp_path / "x.csv.rejects").stat().st_mode) == 0o600


def test_rows_that_the_server_refuses_are_rejected_with_its_message(store, servers, tmp_path):
    for database, shards in zip(servers, SHARDS):
        for shard in shards:
            database.sql(
                f"ALTER TABLE shard{shard:04}.entities"
                " ADD CONSTRAINT no_sevens CHECK (body->'n' NOT LIKE '%7')"
            )
    result = import_file(store, write_numbers(tmp_path / "x.ndjson", 1, 100))
    assert result.code == 1
    found = rejects(tmp_path / "x.ndjson.rejects")
    assert sorted(row["line"] for row in found) == list(range(7, 100, 10))
    assert {row["status"] for row in found} == {"HV_REFUSED"}
    assert all(row["shard"] in ALL_SHARDS and "no_sevens" in row["reason"] for row in found)
    assert numbers(servers) == [n for n in range(1, 101) if n % 10 != 7]


def test_a_row_that_is_too_long_is_rejected(store, servers, tmp_path):
    path = tmp_path / "x.ndjson"
    with open(path, "wb") as file:
        file.write(b'{"n":1}\n{"n":2,"long":"' + b"x" * (65 << 20) + b'"}\n{"n":3}\n')
    result = import_file(store, path)
    assert result.code == 1
    (row,) = rejects(tmp_path / "x.ndjson.rejects")
    assert (row["line"], row["truncated"]) == (2, True)
    assert row["reason"] == "line 2: the row is longer than 64 MiB"
    assert row["row"] == (b'{"n":2,"long":"' + b"x" * 1000)[:1000]
    assert numbers(servers) == [1, 3]


def test_a_long_row_is_stored(store, servers, tmp_path):
    long = "0123456789abcdef" * (2 << 20)
    import_bytes(store, tmp_path, "x.csv", f"n,long\n1,{long}\n2,\n").ok()
    assert [body["long"] for body in bodies(servers) if body["n"] == "1"] == [long]


# ---- inputs that are refused as a whole ----


@pytest.mark.parametrize(
    "name, data, message, hint",
    [
        ("x.ndjson", '[{"n":1},\n{"n":2}]\n', "line 1, column 1: expected an object", "jq -c"),
        ("x.ndjson", '{\n"n": 1}\n', "line 1, column 2: expected a name in quotes", "jq -c"),
        ("x.ndjson", "n,m\n1,2\n", "line 1, column 1: expected an object", "NDJSON"),
        ("x.ndjson", b"\x89PNG\r\n\x1a\n\0\0\0", "line 1, column 1: the byte 0x89", "NDJSON"),
        ("x.csv", b"\x89PNG\r\n\x1a\n\0\0\0", "line 1, column 1: the byte 0x89", "csv"),
        ("x.csv", b"\x7fELF\1\1\0\0" * 99, "line 1, column 7: a NUL byte", "csv"),
        ("x.csv", b"\x1f\x8b\x08rest of it", "line 1, column 1: the input is gzip", "gzip -dc"),
        ("x.csv", "n,m".encode("utf-16"), "the input is UTF-16", "iconv"),
        ("x.csv", "n,n\n1,2\n", 'line 1, column 3: the header names "n" twice', "Rename"),
        ("x.csv", "n,,m\n1,2,3\n", "line 1, column 3: column 2 has no name", "attributes"),
        ("x.csv", "\nn,m\n", "line 1: the header is empty", "attributes"),
        ("x.csv", "n;m\n1;2\n", 'the header has one name, "n;m"', "look like csv"),
        ("x.csv", 'n,"m\n1,2\n', "line 1, column 3: the quote that opens here", "header"),
        ("x.csv", "n,m\r1,2\r", "line 1, column 4: a carriage return", "convert"),
        ("x.tsv", "n,m\n1,2\n", 'the header has one name, "n,m"', "look like tsv"),
        ("x.tsv", "n\tm\\\n1\t2\n", "line 1, column 4: a backslash at the end", "header"),
        ("x.tsv", "n\tm\n" + "1\t2\t3\n" * 25, "line 2: 3 fields", "look like tsv"),
    ],
)
def test_a_file_that_is_not_in_its_format_is_refused(
    store, servers, tmp_path, name, data, message, hint
):
    refused = import_bytes(store, tmp_path, name, data)
    assert refused.code == 1
    error = json.loads(refused.err.splitlines()[0])["error"]
    assert message in error["message"] and name in error["message"]
    assert hint in error["hint"]
    assert not refused.json()["complete"]
    assert count(servers) == 0


def test_when_no_row_can_be_stored_the_import_ends_soon(store, servers, tmp_path):
    path = write_numbers(tmp_path / "x.ndjson", 1, 5000)
    refused = import_file(store, path, "--by", "m")
    assert refused.code == 1
    assert "none of the first 100 rows could be stored" in refused.err
    assert 'no attribute \\"m\\"' in refused.err
    assert (refused.json()["rejected"], refused.json()["last_row"]) == (100, 100)
    assert len(rejects(tmp_path / "x.ndjson.rejects")) == 100


def test_one_good_row_among_the_first_lets_the_import_go_on(store, servers, tmp_path):
    text = '{"n":1}\n' + "bad\n" * 500 + '{"n":2}\n'
    summary = import_bytes(store, tmp_path, "x.ndjson", text).json()
    assert (summary["complete"], summary["stored"], summary["rejected"]) == (True, 2, 500)
    assert numbers(servers) == [1, 2]


@pytest.mark.parametrize(
    "args, message",
    [
        (["x"], "--kind is missing"),
        (["--kind", "1"], "FILE"),
        (["x", "--kind", "32768"], "32768"),
        (["x", "--kind", "1", "--shard", "8192"], "8192"),
        (["x", "--kind", "1", "--shard", "1", "--by", "a"], "exclude each other"),
        (["x", "--kind", "1", "--format", "xml"], 'unknown format "xml"'),
        (["x", "--kind", "1", "--jobs", "0"], "--jobs"),
        (["x", "--kind", "1", "--retry-for", "3parsecs"], "3parsecs"),
        (["x", "--kind", "1", "--retry-for", "-1"], "-1"),
        (["x", "--kind", "1", "--skip", "many"], "many"),
        (["x", "--kind", "1", "--exported"], "--exported excludes"),
    ],
)
def test_wrong_arguments_are_explained(config, args, message):
    refused = hv("import", *args, config=config)
    assert refused.code == 2
    assert message in refused.err


@pytest.mark.parametrize("name, why", [("none.csv", "No such file"), (".", "Is a directory")])
def test_an_input_that_cannot_be_opened_is_named(store, tmp_path, name, why):
    refused = hv("import", name, "-k", 1, "-f", "csv", config=store, cwd=tmp_path)
    assert refused.code == 1
    assert f'could not open "{name}": {why}' in refused.err


# ---- errors that would hit every row ----


def refused_at_once(store, servers, tmp_path, *args):
    """The one error of an import that stores and rejects nothing."""
    refused = import_file(store, write_numbers(tmp_path / "x.ndjson", 1, 2000), *args)
    assert refused.code == 1
    errors = [json.loads(line)["error"] for line in refused.err.splitlines()]
    assert len(errors) == 1
    assert not list(tmp_path.glob("*.rejects*"))
    if refused.out:
        summary = refused.json()
        assert (summary["complete"], summary["rows"], summary["last_row"]) == (False, 0, 0)
    return errors[0]


def test_shards_that_were_not_made_are_one_error(config, servers, tmp_path):
    error = refused_at_once(config, servers, tmp_path)
    assert error["status"] == "HV_NOT_INITIALIZED"
    assert "hv init" in error["hint"]


def test_a_shard_that_no_server_has_is_one_error(store, servers, tmp_path):
    assert refused_at_once(store, servers, tmp_path, "--shard", 99)["status"] == "HV_NO_SERVER"


def test_a_wrong_password_is_one_error(store, servers, tmp_path):
    one, two = servers
    path = store_config(
        tmp_path / "wrong.conf",
        {"one": (one, "1-9"), "two": ({**two.params(), "password": "wrong"}, "9-17")},
    )
    error = refused_at_once(path, servers, tmp_path)
    assert error["sqlstate"] == "28P01" and error["server"] == "two"


def test_a_server_that_is_down_at_the_start_is_one_error(store, servers, tmp_path):
    one, two = servers
    path = store_config(
        tmp_path / "down.conf", {"one": (one, "1-9"), "two": ({"host": "/none"}, "9-17")}
    )
    assert refused_at_once(path, servers, tmp_path)["status"] == "HV_UNAVAILABLE"
    # It does not matter to an import that does not use it.
    import_file(path, tmp_path / "x.ndjson", "--shard", 3, "--limit", 1).ok()


def test_a_missing_privilege_is_one_error(store, servers, tmp_path):
    one, _ = servers
    role = f"reader_{one.dbname}"
    one.sql(f'CREATE ROLE "{role}" LOGIN')
    try:
        one.sql(f'GRANT USAGE ON SCHEMA hypervault, shard0003 TO "{role}"')
        one.sql(f'GRANT SELECT ON ALL TABLES IN SCHEMA hypervault, shard0003 TO "{role}"')
        path = store_config(tmp_path / "r.conf", {"one": ({**one.params(), "user": role}, "1-9")})
        error = refused_at_once(path, servers, tmp_path, "--shard", 3)
        assert (error["status"], error["sqlstate"]) == ("HV_REFUSED", "42501")
    finally:
        one.sql(f'DROP OWNED BY "{role}"; DROP ROLE "{role}"')


# ---- what people see ----


def test_the_summary_is_for_people_unless_json_is_asked_for(store, tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("n,m\n" + "1,2\n" * 1500 + "3\n")
    result = hv("import", path, "--kind", 1, config=store, cwd=tmp_path)
    assert result.code == 1
    assert re.fullmatch(r"1,501 rows: 1,500 stored, 1 rejected; .*, [\d,]+ rows/s", result.lines[0])
    assert result.lines[1] == "rejected rows are in x.csv.rejects"
    assert result.err == ""  # no progress in a pipe


def test_a_progress_bar_is_drawn_on_a_terminal(store, servers, tmp_path):
    path = write_numbers(tmp_path / "x.ndjson", 1, 200_000)
    ours, theirs = pty.openpty()
    process = spawn(
        "hv", "import", path, "--kind", 1, config=store, env={"TERM": "xterm"}, stderr=theirs
    )
    os.close(theirs)
    seen = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # the terminal's other side was closed
            break
        if not piece:
            break
        seen += piece
    os.close(ours)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert b"200,000 rows: 200,000 stored" in out
    text = seen.decode("utf-8")
    assert "x.ndjson" in text and re.search(r"[\d,]+/~?[\d,]+ rows +[\d,]+/s", text)
    assert count(servers) == 200_000


def test_the_built_command_needs_nothing_but_the_librarys_interface():
    """It uses no symbols of the library except the public ones."""
    undefined = subprocess.run(
        ["nm", "--dynamic", "--undefined-only", build_dir() / "cli/hv"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "hv_put" in undefined and "hvi_" not in undefined
