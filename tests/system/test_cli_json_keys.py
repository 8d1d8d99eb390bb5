"""Keys in JSON: strings in all that hv prints, so that no program rounds them; and rounded numbers
are not imported."""

import json
import random
import shutil
import subprocess

import pytest

from harness import eventually, hv, spawn
from importing import SHARDS, clear, count, import_file, rejects, write_numbers

EPOCH = 1379365531352
NOW = 410000000000  # a moment of 2026, in milliseconds since the epoch

needs_jq = pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not installed")


def key_of(created, shard, added_id=0):
    return created << 23 | shard << 10 | added_id


def random_keys(number, seed=1):
    """Keys as a busy store makes them: in ascending order, of some moments in all shards."""
    chosen = random.Random(seed)
    return sorted(
        key_of(NOW + chosen.randrange(10**9), 1 + chosen.randrange(16), chosen.randrange(1024))
        for _ in range(number)
    )


def line_of(key, as_text=str):
    """A row of an export with this text for the key."""
    return f'{{"id":{as_text(key)},"shard_id":{key >> 10 & 8191},"kind":1,"body":{{"n":"{key}"}}}}\n'


def quoted(key):
    return f'"{key}"'


def shortest(key):
    """As JavaScript and jq 1.6 print the double: with the fewest digits that identify it."""
    digits, exponent = f"{float(key)!r}".replace(".", "").split("e+")
    return digits + "0" * (int(exponent) + 1 - len(digits))


def seventeen(key):
    """The same with %.17g's digits."""
    digits, exponent = f"{float(key):.16e}".replace(".", "").split("e+")
    return digits + "0" * (int(exponent) + 1 - len(digits))


def import_exported(store, path, *args):
    return hv("import", "--exported", path, "--json", *args, config=store, cwd=path.parent)


def stored_keys(databases):
    found = []
    for database, shards in zip(databases, SHARDS):
        for shard in shards:
            found += [row[0] for row in database.query(f"SELECT id FROM shard{shard:04}.entities")]
    return sorted(found)


def jq(text, *args):
    done = subprocess.run(["jq", *args], input=text, capture_output=True, check=True)
    return done.stdout


# ---- what is printed ----


def test_keys_are_strings_in_all_json(store, tmp_path):
    put = hv("put", 12, 1, "a=b", "--json", config=store).ok().json()
    key = put["id"]
    assert isinstance(key, str) and hv("get", key, config=store).ok()
    assert hv("get", key, "--json", config=store).ok().json()["id"] == key
    assert hv("key", key, "--json").ok().json()["id"] == key
    bound = str(1416009600000 - EPOCH << 23)
    assert hv("key", "--at", "2014-11-15", "--json").ok().json()["bound"] == bound
    made = hv("key", "--at", "2014-11-15", "--shard", 12, "--json").ok().json()
    assert (made["bound"], made["id"]) == (bound, str(int(bound) + (12 << 10)))
    reserved = hv("reserve", 12, 2, "--json", config=store).ok().json()["keys"]
    assert all(isinstance(each, str) and int(each) > int(key) for each in reserved)
    (row,) = hv("export", "-", config=store).ok().ndjson()
    assert row["id"] == key


def test_csv_has_keys_as_they_were(store, tmp_path):
    key = hv("put", 12, 1, "a=b", config=store).ok().out.strip()
    out = hv("export", "-", "--format", "csv", config=store).ok().out
    assert out.splitlines()[1] == f'{key},12,1,"""a""=>""b"""'


# ---- there and back ----


@needs_jq
def test_an_export_survives_jq(store, servers, tmp_path):
    import_file(store, write_numbers(tmp_path / "x.ndjson", 1, 10000)).ok()
    exported = hv("export", "-", config=store).ok().out_bytes
    through = jq(exported, "-c", ".")
    assert through == exported
    again = hv("import", "-", "--exported", "--json", config=store, input=through).ok().json()
    assert (again["stored"], again["there_before"], again["rejected"]) == (10000, 10000, 0)
    assert count(servers) == 10000
    clear(servers)
    hv("import", "-", "--exported", config=store, input=through).ok()
    assert hv("export", "-", config=store).ok().out_bytes == exported


def test_exports_with_numbers_for_keys_can_be_imported(store, servers, tmp_path):
    keys = random_keys(3000)
    path = tmp_path / "old.ndjson"
    path.write_text("".join(line_of(key, quoted if n % 3 else str) for n, key in enumerate(keys)))
    assert import_exported(store, path).ok().json()["stored"] == len(keys)
    assert stored_keys(servers) == keys


def test_an_unfinished_export_with_numbers_is_gone_on_with(store, servers, tmp_path):
    keys = random_keys(400)
    path, whole = tmp_path / "rows.ndjson", tmp_path / "whole.ndjson"
    path.write_text("".join(line_of(key, quoted) for key in keys))
    import_exported(store, path).ok()
    hv("export", whole, config=store).ok()
    lines = whole.read_text().splitlines(keepends=True)
    with servers[1].connect() as holder:  # so that there is the beginning of an export
        holder.autocommit = False
        holder.cursor().execute("LOCK TABLE shard0016.entities")
        process = spawn("hv", "export", tmp_path / "x.ndjson", config=store)
        eventually(lambda: list(tmp_path.glob("x.ndjson.part-*")))
        process.kill()
        process.wait()
    (part,) = tmp_path.glob("x.ndjson.part-*")
    some = lines[:150]
    part.write_text("".join(line.replace('"id":"', '"id":').replace('","sh', ',"sh') for line in some))
    hv("export", tmp_path / "x.ndjson", "--resume", config=store).ok()
    found = (tmp_path / "x.ndjson").read_text().splitlines(keepends=True)
    assert [int(json.loads(line)["id"]) for line in found] == [
        int(json.loads(line)["id"]) for line in lines
    ]
    assert found[150:] == lines[150:]


# ---- what was rounded ----


@pytest.mark.parametrize("rounded", [shortest, seventeen])
@pytest.mark.parametrize("number", [1, 50, 3000])
def test_keys_that_were_rounded_are_refused_before_anything_is_stored(
    store, servers, tmp_path, rounded, number
):
    path = tmp_path / "x.ndjson"
    keys = random_keys(number)
    path.write_text("\n" + "".join(line_of(key, rounded) for key in keys))
    refused = import_exported(store, path)
    error = json.loads(refused.err)["error"]
    assert refused.code == 1
    assert error["message"] == f'"{path}", line 2: the key {rounded(keys[0])} was rounded'
    assert "jq before 1.7 and JavaScript" in error["detail"] and "quotes" in error["hint"]
    assert count(servers) == 0 and not (tmp_path / "x.ndjson.rejects").exists()
    path.write_text("".join(line_of(key, lambda key: quoted(rounded(key))) for key in keys))
    assert import_exported(store, path).json()["rows"] == number  # strings are taken as they are


@needs_jq
def test_numbers_that_went_through_jq_are_refused_or_right(store, servers, tmp_path):
    """jq 1.7 keeps the digits of numbers that it does not calculate with."""
    keys = random_keys(2000)
    path = tmp_path / "x.ndjson"
    path.write_bytes(jq("".join(map(line_of, keys)).encode(), "-c", "."))
    result = import_exported(store, path)
    if path.read_text() == "".join(map(line_of, keys)):
        assert result.ok().json()["stored"] == len(keys)
    else:
        assert result.code == 1 and "was rounded" in result.err and count(servers) == 0


@pytest.mark.parametrize("text", ["3.4393295e+18", "3439329500000000000.0", "34393295E11"])
@pytest.mark.parametrize("before", [0, 700])
def test_a_key_with_an_exponent_or_a_fraction_is_refused(store, servers, tmp_path, text, before):
    path = tmp_path / "x.ndjson"
    small = "".join(line_of(key_of(n, 3)) for n in range(1, before + 1))
    path.write_text(small + line_of(key_of(NOW, 3), lambda _: text) + line_of(key_of(NOW, 3, 1)))
    refused = import_exported(store, path)
    assert refused.code == 1 and count(servers) == 0
    message = json.loads(refused.err)["error"]["message"]
    assert f"line {before + 1}: the key {text} has an exponent or a fraction" in message


def test_among_good_keys_one_with_a_fraction_is_rejected(store, servers, tmp_path):
    path = tmp_path / "x.ndjson"
    path.write_text(line_of(key_of(NOW, 3, 1)) + line_of(key_of(NOW, 4), lambda _: "3.4e+18"))
    assert import_exported(store, path).json()["stored"] == 1
    (row,) = rejects(tmp_path / "x.ndjson.rejects")
    assert row["line"] == 2 and "the key 3.4e+18 has an exponent or a fraction" in row["reason"]


def test_rounded_keys_behind_many_others_are_found(store, servers, tmp_path):
    """Small numbers and strings are as they were: they prove nothing about the others, and are
    stored."""
    small = [key_of(n, 3) for n in range(1, 2501)]
    path = tmp_path / "x.ndjson"
    path.write_text(
        "".join(line_of(key, str if n % 2 else quoted) for n, key in enumerate(small))
        + "".join(line_of(key, shortest) for key in random_keys(2000))
    )
    refused = import_exported(store, path)
    assert refused.code == 1 and "line 2501: the key" in refused.err
    assert stored_keys(servers) in (small, small[:2000])  # rows 2001 to 2500 may be held back


def test_one_key_that_was_not_rounded_shows_that_none_was(store, servers, tmp_path):
    """Keys whose last bits are zero are common: doubles can hold them, but print others."""
    keys = [key_of(NOW + n, 3) for n in range(900)]
    path = tmp_path / "x.ndjson"
    path.write_text("".join(map(line_of, keys)))
    assert import_exported(store, path).ok().json()["stored"] == len(keys)
    assert stored_keys(servers) == keys
