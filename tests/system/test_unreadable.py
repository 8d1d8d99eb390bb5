"""Rows that are not entities, in tables that lack NOT NULL: the errors, and what goes on."""

import json

import pytest

from harness import hv, make_shards, python, store_config

python.provide()

from hv.datastore import Datastore, DatastoreError
from hv.entity import Key


@pytest.fixture
def broken(tmp_path, server):
    """(database, configuration, keys): nine entities in shard 3; the second has no body, the fifth
    no type, the ninth neither."""
    config = store_config(tmp_path / "hypervault.conf", {"one": (server, "1-5")})
    make_shards(config, server)
    keys = [
        int(hv("put", 3, 1, f"n={n}", config=config).ok().out.strip()) for n in range(1, 10)
    ]
    server.sql("ALTER TABLE shard0003.entities ALTER type DROP NOT NULL, ALTER body DROP NOT NULL")
    server.sql(f"UPDATE shard0003.entities SET body = NULL WHERE id IN ({keys[1]}, {keys[8]})")
    server.sql(f"UPDATE shard0003.entities SET type = NULL WHERE id IN ({keys[4]}, {keys[8]})")
    return server, config, keys


WHAT = {1: "body", 4: "type", 8: "type"}


def _message(keys, n):
    return f"the entity {keys[n]} of shard 3 has no {WHAT[n]}"


@pytest.mark.parametrize("n", WHAT)
@pytest.mark.parametrize("lanes", [0, 1])
def test_a_get_says_which_entity_lacks_what(broken, n, lanes, tmp_path):
    server, _, keys = broken
    config = store_config(tmp_path / "lanes.conf", {"one": (server, "1-5")}, lanes=lanes)
    error = json.loads(hv("get", keys[n], "--json", config=config).err)["error"]
    assert error["status"] == "HV_CORRUPT"
    assert error["message"] == _message(keys, n)
    assert (error["server"], error["shard"]) == ("one", 3)
    assert "SET NOT NULL" in error["hint"]


def test_many_gets_fail_for_that_key_alone(broken):
    server, _, keys = broken
    with Datastore([dict(shards="1-5", **server.params())]) as db:
        results = db.get_many([Key(key) for key in keys], return_errors=True)
    for n, result in enumerate(results):
        if n in WHAT:
            assert (result.status, str(result).splitlines()[0]) == (
                "HV_CORRUPT",
                _message(keys, n),
            )
        else:
            assert result["body"] == {"n": str(n + 1)}


@pytest.mark.parametrize("where", ["file", "folder", "standard output"])
def test_an_export_goes_on_and_says_what_is_not_there(broken, tmp_path, where):
    _, config, keys = broken
    path = tmp_path / "all.ndjson"
    place = {"file": [path], "folder": ["--dir", tmp_path / "all"], "standard output": ["-"]}[where]
    result = hv("export", *place, config=config)
    assert result.code == 1
    for n in WHAT:
        assert _message(keys, n) in result.err
    if where == "standard output":
        lines = result.out.splitlines()
    elif where == "folder":
        lines = (tmp_path / "all" / "shard0003.ndjson").read_text().splitlines()
    else:
        lines = path.read_text().splitlines()
    there = [int(json.loads(line)["id"]) for line in lines]
    assert there == [key for n, key in enumerate(keys) if n not in WHAT]
    assert "3 rows could not be read" in result.err + result.out


def test_an_export_counts_what_is_not_there_and_names_the_first(broken, tmp_path):
    server, config, keys = broken
    result = hv("export", tmp_path / "some.ndjson", "--json", config=config)
    assert result.code == 1
    summary = result.json()
    assert (summary["complete"], summary["entities"], summary["unreadable"]) == (True, 6, 3)
    assert summary["unreadable_keys"] == [str(keys[n]) for n in WHAT]
    server.sql("UPDATE shard0003.entities SET body = NULL")
    result = hv("export", tmp_path / "none.ndjson", "--json", config=config)
    assert (result.code, result.json()["entities"], result.json()["unreadable"]) == (1, 0, 9)
    assert result.json()["unreadable_keys"] == [str(key) for key in keys[:5]]
    assert result.err.count("HV_CORRUPT") == 5


def test_a_scan_in_python_goes_on_behind_what_it_cannot_read(broken):
    server, _, keys = broken
    seen, refused = [], []
    with Datastore([dict(shards="1-5", **server.params())]) as db:
        scan = db.scan(3)
        while True:
            try:
                seen.append(next(scan)["id"])
            except DatastoreError as error:
                assert error.status == "HV_CORRUPT"
                refused.append(str(error).splitlines()[0])
            except StopIteration:
                break
    assert seen == [key for n, key in enumerate(keys) if n not in WHAT]
    assert refused == [_message(keys, n) for n in WHAT]


def test_a_key_under_which_such_a_row_lies_is_not_free(broken, tmp_path):
    server, config, keys = broken
    rows = tmp_path / "rows.ndjson"
    rows.write_text(f'{{"id":{keys[1]},"shard_id":3,"kind":1,"body":{{"n":"2"}}}}\n')
    result = hv("import", rows, "--exported", "--json", config=config, cwd=tmp_path)
    assert result.code == 1
    assert result.json()["rejected"] == 1
    assert server.value(f"SELECT body FROM shard0003.entities WHERE id = {keys[1]}") is None
    with Datastore([dict(shards="1-5", **server.params())]) as db:
        with pytest.raises(DatastoreError, match="has no body"):
            db.put_key(Key(keys[1]), 1, n="2")
