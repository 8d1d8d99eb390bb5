"""The shard of a value: the same in C, in Python, in `hv key --of` and `hv import --by`, and for ever."""

import json
import os
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness import hv, source_dir, store_config
from harness.store_tool import make_tool  # noqa: F401
from importing import clear, entities, import_bytes, write_numbers

NOWHERE = {"host": "/nonexistent", "user": "nobody"}  # a server that is never asked
PAGE = (source_dir() / "docs" / "operations.md").read_text("utf-8")
SETS = {  # the columns of the page's table
    "of 0-16": list(range(16)),
    "of 0-256": list(range(256)),
    "of 1-4,9,100": [1, 2, 3, 9, 100],
    "of 0-8192": list(range(8192)),
}

generated = settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def documented():
    """The function that the page shows."""
    (text,) = re.findall(r"^```python\n(def shard_of.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    names = {}
    exec(text, names)
    return names["shard_of"]


def vectors():
    """The page's table: (value, {column: shard})."""
    (table,) = re.findall(r"^\| value, in hex.*\n\|---.*\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    found = []
    for line in table.splitlines():
        value, _, _, *shards = (cell.strip().strip("`") for cell in line.strip("|").split("|"))
        found.append((bytes.fromhex(value), dict(zip(SETS, map(int, shards), strict=True))))
    return found


shard_of = documented()


def nowhere(tmp_path, shards, name="spread.conf", **options):
    """A configuration whose server is never asked."""
    return store_config(tmp_path / name, {"one": (NOWHERE, shards)}, **options)


def shards_by_hv(config, *values):
    of = [word for value in values for word in ("--of", os.fsdecode(value))]
    return [int(line) for line in hv("key", *of, config=config).ok().lines]


# ---- the rule ----


def test_the_page_has_vectors_and_its_function_agrees_with_them():
    assert len(vectors()) == 9
    for value, shards in vectors():
        assert shards == {column: shard_of(value, of) for column, of in SETS.items()}


@pytest.mark.parametrize("column", SETS)
def test_c_and_the_command_agree_with_the_pages_vectors(make_tool, tmp_path, column):  # noqa: F811
    config = nowhere(tmp_path, "0-8192", spread=column.removeprefix("of "))
    tool = make_tool(config).main
    expected = {value: shards[column] for value, shards in vectors()}
    assert {value: tool.shard_of(value.hex()).ok().shard for value in expected} == expected
    words = [value for value in expected if b"\0" not in value]
    assert shards_by_hv(config, *words) == [expected[value] for value in words]


value_bytes = st.binary(max_size=40) | st.binary(min_size=1000, max_size=5000)
value_texts = st.text(st.characters(blacklist_categories=["Cs"]), max_size=60)


@generated
@given(
    values=st.lists(value_bytes | value_texts.map(str.encode), min_size=1, max_size=20),
    shards=st.sets(st.integers(0, 8191), min_size=1, max_size=12),
)
def test_c_and_the_command_agree_on_any_value_and_set(make_tool, tmp_path, values, shards):  # noqa: F811
    config = nowhere(tmp_path, "0-8192", spread=",".join(map(str, shards)))
    tool = make_tool(config)
    for value in values:
        assert tool.main.shard_of(value.hex()).ok().shard == shard_of(value, list(shards))
    words = [value for value in values if b"\0" not in value]
    if words:
        assert shards_by_hv(config, *words) == [shard_of(value, list(shards)) for value in words]


@generated
@given(names=st.lists(value_texts.filter(lambda text: "\0" not in text), min_size=1, max_size=30))
def test_an_import_goes_where_the_rule_says(config, store, servers, tmp_path, names):
    clear(servers)
    spread = [1, 2, 3, 11, 16]
    chosen = store_config(tmp_path / "chosen.conf", places(servers), spread="1-4,16,11")
    rows = "".join(json.dumps({"name": name}) + "\n" for name in names)
    report = import_bytes(chosen, tmp_path, "x.ndjson", rows, "--by", "name", "--again").ok().json()
    assert report["spread"] == "1-4,11,16"
    got = {(body["name"], shard) for shard, _, body in entities(servers)}
    assert got == {(name, shard_of(name.encode(), spread)) for name in names}
    assert shards_by_hv(chosen, *names) == [shard_of(name.encode(), spread) for name in names]


# ---- what changes nothing, and what is refused ----


def places(servers, one="1-9", two="9-17", **more):
    return {"one": (servers[0], one), "two": (servers[1], two), **more}


NAMES = [f"user{n}@example.org" for n in range(200)]


def test_other_servers_and_moved_shards_change_nothing(tmp_path):
    def config(**servers):
        placed = {name: (NOWHERE, shards) for name, shards in servers.items()}
        return store_config(tmp_path / "c.conf", placed, spread="0-16")

    first = shards_by_hv(config(one="0-8", two="8-16"), *NAMES)
    assert len(set(first)) == 16
    for servers in (
        {"one": "0-8", "two": "8-16", "three": "16-24"},  # one is added with shards
        {"three": "", "two": "8-16", "one": "0-8"},
        {"one": "0-7", "two": "7-16"},  # a shard has moved
        {"two": "0-16"},
    ):
        assert shards_by_hv(config(**servers), *NAMES) == first


def test_another_set_changes_where_values_belong(tmp_path):
    """As the page warns."""
    first = shards_by_hv(nowhere(tmp_path, "0-24", spread="0-16"), *NAMES)
    second = shards_by_hv(nowhere(tmp_path, "0-24", spread="0-24"), *NAMES)
    assert sum(a != b for a, b in zip(first, second)) > len(NAMES) / 2


def error_of(result, code=1):
    assert (result.code, result.out) == (code, "")
    return json.loads(result.err)["error"]


def test_without_the_option_the_hint_is_the_line_that_helps(tmp_path, make_tool):  # noqa: F811
    config = nowhere(tmp_path, "0-4,9")
    error = error_of(hv("key", "--of", "a", "--json", config=config))
    assert error["status"] == "HV_BAD_CONFIG"
    line = re.search(r"write into \[hypervault\]: (.*)", error["hint"]).group(1)
    assert line == "spread = 0-4,9"
    reply = make_tool(config).main.shard_of("61").gives("HV_BAD_CONFIG")
    assert reply.hint == error["hint"]
    with open(config, "a", encoding="utf-8") as file:
        file.write(f"[hypervault]\n{line}\n")
    assert shards_by_hv(config, "a") == [shard_of(b"a", [0, 1, 2, 3, 9])]


def test_a_long_line_that_the_hint_shows_can_be_read_too(tmp_path):
    shards = list(range(1, 8000, 2))
    config = nowhere(tmp_path, f'"{",".join(map(str, shards))}"')
    error = error_of(hv("key", "--of", "a", "--json", config=config))
    with open(config, "a", encoding="utf-8") as file:
        file.write("[hypervault]\n" + error["hint"].split("]: ")[1] + "\n")
    assert shards_by_hv(config, *NAMES) == [shard_of(name.encode(), shards) for name in NAMES]


def test_a_store_is_not_opened_without_all_shards_of_the_set(tmp_path):
    config = nowhere(tmp_path, "0-8", spread="0-16")
    for command in (["key", "--of", "a"], ["get", "307821103844175873"], ["status"]):
        error = error_of(hv(*command, "--json", config=config))
        assert error["status"] == "HV_BAD_CONFIG"
        assert error["message"] == 'no server holds the shards 8-16, which "spread" names'
        assert '"shards"' in error["hint"]


@pytest.mark.parametrize(
    "text, message",
    [
        ("0-16,3", 'shard 3 is given twice in the option "spread"'),
        ("16-0", 'reversed range: "16-0" in the option "spread"'),
        ("0-8193", 'shard out of range: "0-8193" in the option "spread"'),
        ("1,", 'empty item: "1," in the option "spread"'),
        ("s3cret", 'not a shard or a range of shards, at character 1 of the option "spread"'),
    ],
)
def test_a_set_that_is_none_is_refused_with_its_line(tmp_path, text, message):
    error = error_of(hv("status", "--json", config=nowhere(tmp_path, "0-16", spread=text)))
    assert error["status"] == "HV_BAD_CONFIG" and message in error["message"]
    assert "s3cret" not in json.dumps(error)


@pytest.mark.parametrize(
    "args, message",
    [
        (["--of", "a", "307821103844175873"], "--of excludes"),
        (["--of", "a", "--at", "now"], "--of excludes"),
        (["--of", "a", "--shard", "1"], "--of excludes"),
        (["--of", "a", "--epoch", "1"], "--of excludes"),
        (["--of"], "--of needs an argument"),
    ],
)
def test_of_excludes_what_makes_no_sense_with_it(tmp_path, args, message):
    result = hv("key", *args, config=nowhere(tmp_path, "0-16", spread="0-16"))
    assert result.code == 2 and message in result.err


def test_of_needs_a_configuration(tmp_path):
    result = hv("key", "--of", "a", cwd=tmp_path, env={"HOME": str(tmp_path)})
    assert result.code == 1 and "no configuration file found" in result.err


def test_programs_get_value_shard_and_server(tmp_path):
    config = nowhere(tmp_path, "0-16", spread="0-16")
    lines = hv("key", "--json", "--of", "a", "--of", "", config=config).ok().ndjson()
    assert lines == [
        {"value": "a", "shard_id": 12, "server": "one"},
        {"value": "", "shard_id": 5, "server": "one"},
    ]


# ---- imports ----


def imported(config, path, *args):
    return hv("import", path, "--kind", 1, "--by", "n", *args, config=config, cwd=path.parent)


def shards_of(servers):
    return {body["n"]: shard for shard, _, body in entities(servers)}


def test_an_import_without_the_option_takes_all_shards_and_says_which_line_keeps_them(
    store, servers, tmp_path
):
    path = write_numbers(tmp_path / "x.ndjson", 1, 100)
    result = imported(store, path).ok()
    assert "write into [hypervault]: spread = 1-17" in result.err
    expected = {str(n): shard_of(str(n).encode(), list(range(1, 17))) for n in range(1, 101)}
    assert shards_of(servers) == expected
    with_line = store_config(tmp_path / "line.conf", places(servers), spread="1-17")
    result = imported(with_line, path, "--again").ok()
    assert "spread" not in result.err  # the same, and now it is said
    assert shards_of(servers) == expected


def with_less(servers, tmp_path, **options):
    """The store without shard 16."""
    return store_config(tmp_path / "less.conf", places(servers, two="9-16"), **options)


def test_an_import_that_would_silently_take_other_shards_than_an_earlier_one_is_refused(
    store, servers, tmp_path
):
    less = with_less(servers, tmp_path)
    imported(less, write_numbers(tmp_path / "x.ndjson", 1, 50)).ok()
    before = shards_of(servers)
    path = write_numbers(tmp_path / "y.ndjson", 1, 50)
    refused = imported(store, path)
    assert refused.code == 1
    assert "earlier imports spread rows over other shards" in refused.err
    assert "over the shards 1-16; the configuration has 1-17 now" in refused.err
    assert "write into [hypervault]: spread = 1-16" in refused.err
    assert shards_of(servers) == before and not list(tmp_path.glob("*.rejects*"))
    kept = store_config(tmp_path / "kept.conf", places(servers), spread="1-16")
    imported(kept, path).ok()
    assert shards_of(servers) == before  # equal values are in the same shards


def test_the_option_decides_and_another_set_than_before_is_noted(store, servers, tmp_path):
    imported(store, write_numbers(tmp_path / "x.ndjson", 1, 50)).ok()
    path = write_numbers(tmp_path / "y.ndjson", 51, 100)
    chosen = store_config(tmp_path / "chosen.conf", places(servers), spread="1-3")
    result = imported(chosen, path).ok()
    assert "earlier imports spread rows over the shards 1-17, this one over 1-3" in result.err
    assert {shards_of(servers)[str(n)] for n in range(51, 101)} == {1, 2}
    result = imported(chosen, write_numbers(tmp_path / "z.ndjson", 101, 110)).ok()
    assert "earlier imports" not in result.err
    refused = imported(store, write_numbers(tmp_path / "w.ndjson", 111, 120))
    assert refused.code == 1 and "spread = 1-3" in refused.err


def test_the_record_stays_when_old_imports_are_removed_as_the_page_says(store, servers, tmp_path):
    imported(with_less(servers, tmp_path), write_numbers(tmp_path / "x.ndjson", 1, 50)).ok()
    (statement,) = re.findall(r"^DELETE FROM hypervault.imports.*;$", PAGE, re.MULTILINE)
    for server in servers:
        server.sql("UPDATE hypervault.imports SET changed = now() - interval '1 year'")
        server.sql(statement)
        assert server.query("SELECT name, note FROM hypervault.imports") == [
            ("import/spread", "1-16")
        ]
    assert imported(store, write_numbers(tmp_path / "y.ndjson", 1, 50)).code == 1


def test_other_imports_do_not_care(store, servers, tmp_path):
    imported(with_less(servers, tmp_path), write_numbers(tmp_path / "x.ndjson", 1, 50)).ok()
    path = write_numbers(tmp_path / "y.ndjson", 1, 50)
    hv("import", path, "--kind", 1, config=store, cwd=tmp_path).ok()
    hv("import", path, "--kind", 1, "--shard", 3, "--again", config=store, cwd=tmp_path).ok()


def test_an_import_is_resumed_with_the_set_that_it_was_begun_with(store, servers, tmp_path):
    """The line that the note asked for may be written in between; another one may not."""
    path = write_numbers(tmp_path / "x.ndjson", 1, 300)
    imported(store, path).ok()
    for server in servers:
        server.sql(
            "UPDATE hypervault.imports SET note = replace(note, 'complete', 'running')"
            " WHERE name LIKE 'import/%'"
        )
    other = store_config(tmp_path / "other.conf", places(servers), spread="1-3")
    refused = imported(other, path, "--resume")
    assert refused.code == 1 and "begun with other options or other shards" in refused.err
    same = store_config(tmp_path / "same.conf", places(servers), spread="1-9,9-17")
    report = imported(same, path, "--resume", "--json").ok().json()
    assert (report["stored"], report["earlier_rows"]) == (0, 300)


def test_a_server_that_cannot_be_asked_ends_the_import(store, servers, tmp_path):
    path = write_numbers(tmp_path / "x.ndjson", 1, 10)
    placed = {"one": (servers[0], "1-9"), "two": (NOWHERE, "9-17")}
    result = imported(store_config(tmp_path / "half.conf", placed), path)
    assert result.code == 1 and "two" in result.err
    assert shards_of(servers) == {}


def test_a_server_without_shards_is_not_asked(store, servers, tmp_path):
    path = write_numbers(tmp_path / "x.ndjson", 1, 10)
    placed = places(servers, three=(NOWHERE, ""))
    imported(store_config(tmp_path / "three.conf", placed), path).ok()
    assert len(shards_of(servers)) == 10
