"""No text from elsewhere can take over a terminal, in whatever form it is printed."""

import json
import pathlib
import re

import pytest

from harness import hv, store_config
from importing import import_bytes, rejects

# Every character that controls a terminal or turns the direction of writing, one at a time.
ACTING = [
    *map(chr, range(1, 0x20)),
    *map(chr, range(0x7F, 0xA0)),
    "\u061c\u200e\u200f\u2028\u2029",
    "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069",
]
NASTY = "a" + "".join(ACTING) + "é😀\u00a0\u2027\u202f\u2065\u206a"


def is_safe(text):
    """Only line ends, and the colours that hv itself makes, may act."""
    plain = re.sub(r"\x1b\[[0-9;]*[mKJAF]\r?", "", text).replace("\n", "")
    return not any(character in plain for character in "".join(ACTING))


@pytest.fixture
def key(store):
    line = json.dumps({NASTY: NASTY})
    return int(hv("put", 1, 1, "--stdin", config=store, input=line).ok().out)


def test_an_entity_is_shown_with_escapes(store, key, on_terminal):
    for form in ([], ["--json"]):
        shown = hv("get", key, *form, config=store).ok().out
        assert is_safe(shown) and "é😀\u00a0\u2027\u202f\u2065\u206a" in shown
        assert is_safe(on_terminal("get", key, *form, config=store).ok().out)
    assert hv("get", key, "--json", config=store).json()["body"] == {NASTY: NASTY}


def test_an_export_is_safe_as_ndjson_and_exact_as_csv(store, key, tmp_path, on_terminal):
    ndjson = hv("export", "-", config=store).ok().out
    assert is_safe(ndjson)
    assert json.loads(ndjson)["body"] == {NASTY: NASTY}
    csv = hv("export", "-", "--format", "csv", config=store).ok().out
    assert csv.count(NASTY) == 2  # to the byte: it is to be imported again
    shown = on_terminal("export", "-", "--format", "csv", config=store).ok().out
    assert is_safe(shown) and "\\x1b\\x1c" in shown
    shown = on_terminal("export", "/dev/stdout", "--format", "csv", config=store).ok().out
    assert is_safe(shown) and "\\x1b\\x1c" in shown
    hv("export", tmp_path / "x.csv", config=store).ok()
    assert (tmp_path / "x.csv").read_bytes().decode() == csv


def test_a_rejects_file_is_safe(store, tmp_path):
    bad = "{" + NASTY.replace("\n", "") + "}"
    result = import_bytes(store, tmp_path, "x.ndjson", "{}\n" + bad + "\n")
    text = (tmp_path / "x.ndjson.rejects").read_text(encoding="utf-8")
    assert is_safe(text) and is_safe(result.out + result.err)
    assert rejects(tmp_path / "x.ndjson.rejects")[0]["row"] == bad.encode()


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_messages_are_safe(store, servers, tmp_path, form):
    """Text that was typed, that is in a file, and that a server sends."""
    nasty = NASTY.replace("\n", "")
    for args in (
        ["put", nasty, 1],
        [nasty],
        ["get", nasty],
        ["put", 1, 1, f"--{nasty}"],
        ["import", nasty, "--kind", 1, "--format", "csv"],
        ["export", f"none/{nasty}"],
        ["status", "--config", nasty],
        ["dev", "status", "--dir", nasty],
        ["dev", "status", "--dir", f"./{nasty[40:]}"],
    ):
        failed = hv(*args, *form, config=store, cwd=tmp_path)
        assert failed.code != 0
        assert is_safe(failed.out + failed.err), args
    path = tmp_path / "x.csv"
    path.write_text(f'n,{nasty},{nasty}\n1,2,3\n')
    assert is_safe(hv("import", path, "-k", 1, *form, config=store, cwd=tmp_path).err)
    servers[0].sql(
        "CREATE FUNCTION nasty() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$BEGIN RAISE '%', E'{nasty}' USING DETAIL = E'{nasty}', HINT = E'{nasty}'; END$$;"
        "CREATE TRIGGER nasty BEFORE INSERT ON shard0001.entities"
        " FOR EACH ROW EXECUTE FUNCTION public.nasty()"
    )
    failed = hv("put", 1, 1, "a=b", *form, config=store)
    assert failed.code == 1 and "\\u009b" in failed.err
    assert is_safe(failed.err)


def test_a_servers_name_and_a_progress_bar_are_safe(servers, tmp_path, on_terminal):
    name = "x\u009b31m\u202e"
    path = pathlib.Path(store_config(tmp_path / "nasty.conf", {"one": (servers[0], "1-3")}))
    path.write_text(path.read_text().replace("[server one]", f"[server {name}]"))
    for args in (
        ["init"],
        ["status"],
        ["status", "--json"],
        ["status", "--all"],
        ["key", "307821103844175873"],
        ["completion", "servers"],
        ["export", "--dir", "out"],
    ):
        shown = on_terminal(*args, config=path, cwd=tmp_path).out
        assert is_safe(shown), (args, shown)
