"""Shards that look ready and are not: what is missing or may go wrong, and the remedy."""

import json
import os

import pytest

from harness import hv, installation, make_shards, store_config


def _shards(config):
    """By number: the status of each shard of server "one" in `hv status`."""
    result = hv("status", "--json", config=config)
    (server,) = result.json()["servers"]
    assert "error" not in server, server
    assert server["ready"] == (result.code == 0), result
    return {shard["shard_id"]: shard for shard in server["shards"]}


@pytest.fixture
def one(tmp_path, server):
    """A database with the shards 1 to 4 ready, and its configuration."""
    config = store_config(tmp_path / "hypervault.conf", {"one": (server, "1-5")})
    make_shards(config, server)
    return server, config


# ---- a table without NOT NULL ----


@pytest.mark.parametrize("column", ["type", "body"])
def test_a_column_that_may_be_null_is_not_ready_and_status_says_where(one, column):
    server, config = one
    server.sql(f"ALTER TABLE shard0002.entities ALTER {column} DROP NOT NULL")
    server.sql(f"ALTER TABLE shard0003.entities ALTER {column} DROP NOT NULL")
    shards = _shards(config)
    assert [shard["state"] for shard in shards.values()] == [
        "ready",
        "incomplete",
        "incomplete",
        "ready",
    ]
    assert "detail" not in shards[1]
    assert f"the column {column} of entities may be NULL" in shards[2]["detail"]
    assert f"ALTER COLUMN {column} SET NOT NULL" in shards[2]["hint"]
    shown = hv("status", config=config)
    assert shown.code == 1
    (line,) = [line for line in shown.lines if line.startswith("one: ")]
    assert line.startswith(
        f"one: 2 shards incomplete (2 to 3): the column {column} of entities may be NULL. "
    )


@pytest.mark.parametrize(
    "columns, change",
    [
        (["type"], "ALTER COLUMN type SET NOT NULL"),
        (["body"], "ALTER COLUMN body SET NOT NULL"),
        (["type", "body"], "ALTER COLUMN type SET NOT NULL, ALTER COLUMN body SET NOT NULL"),
    ],
)
def test_init_refuses_a_column_that_may_be_null_and_names_the_statement_that_helps(
    one, columns, change
):
    server, config = one
    for column in columns:
        server.sql(f"ALTER TABLE shard0002.entities ALTER {column} DROP NOT NULL")
    server.sql("DROP SCHEMA shard0004 CASCADE")
    result = hv("init", "--json", config=config)
    assert result.code == 1
    error = result.json()[0]["error"]
    assert (error["status"], error["shard"]) == ("HV_MISMATCH", 2)
    assert error["message"].startswith(" and ".join(columns))
    statement = f"ALTER TABLE shard0002.entities {change};"
    assert error["hint"].startswith(statement)
    assert _shards(config)[4]["state"] == "missing"  # nothing was made
    server.sql(statement)
    hv("init", config=config).ok()
    hv("status", config=config).ok()


# ---- strict keys without their generator ----

WAYS_OUT = ("Install hypervault's extension", "hv init --keys portable")


def _gives_ways_out(text):
    assert all(way in text for way in WAYS_OUT), text


@pytest.fixture
def strict(tmp_path, extension_server):
    """A database with the extension and the shards 1 to 4 with strict keys."""
    config = store_config(tmp_path / "hypervault.conf", {"one": (extension_server, "1-5")})
    make_shards(config, extension_server)
    assert {shard["keys"] for shard in _shards(config).values()} == {"strict"}
    return extension_server, config


def _require_not_ready(config, detail):
    """By status, and by each command that makes keys."""
    for shard in _shards(config).values():
        assert shard["state"] == "incomplete"
        assert detail in shard["detail"]
        _gives_ways_out(shard["hint"])
    for command in ("put", 1, 1, "a=b"), ("reserve", 1):
        error = json.loads(hv(*command, "--json", config=config).err)["error"]
        assert error["status"] == "HV_REFUSED", error
        _gives_ways_out(error["hint"])


def test_strict_shards_without_the_extension_are_not_ready_and_init_creates_it(strict):
    server, config = strict
    server.sql("DROP EXTENSION hypervault")
    _require_not_ready(config, "the extension hypervault that makes them is not installed")
    assert hv("init", "--json", config=config).ok().json()[0]["created"] == 4
    hv("status", config=config).ok()
    hv("put", 1, 1, "a=b", config=config).ok()


def test_an_import_into_shards_that_cannot_make_keys_ends_and_rejects_no_row(strict, tmp_path):
    server, config = strict
    server.sql("DROP EXTENSION hypervault")
    rows = tmp_path / "rows.ndjson"
    rows.write_text('{"a": "b"}\n' * 10)
    result = hv("import", rows, "--kind", 1, "--json", config=config, cwd=tmp_path)
    assert result.code == 1
    assert result.json()["rejected"] == 0
    _gives_ways_out(result.err)


def test_strict_shards_where_the_extension_cannot_be_had_can_be_made_portable(
    strict, server, tmp_path
):
    """As after a restore on a server without its files."""
    source, config = strict
    hv("put", 1, 1, "a=b", config=config).ok()
    there = store_config(tmp_path / "there.conf", {"one": (server, "1-5")})
    make_shards(there, server)
    for shard in range(1, 5):
        schema = f"shard{shard:04d}"
        server.sql(f"DROP FUNCTION {schema}.next_id() CASCADE")
        server.sql(f"DROP FUNCTION {schema}.reserve_ids(integer)")
        server.sql(f"ALTER SEQUENCE {schema}.reserved_id_seq RENAME TO retired_id_seq")
        for function in "next_id()", "reserve_ids(integer)":
            server.sql(
                "SET check_function_bodies TO off;"
                + source.value(f"SELECT pg_get_functiondef('{schema}.{function}'::regprocedure)")
            )
        server.sql(f"ALTER TABLE {schema}.entities ALTER id SET DEFAULT {schema}.next_id()")
    _require_not_ready(there, "the extension hypervault that makes them is not installed")
    result = hv("init", "--json", config=there)
    assert result.code == 1
    error = result.json()[0]["error"]
    assert error["message"] == 'could not create the extension hypervault on server "one"'
    _gives_ways_out(error["hint"])
    hv("init", "--keys", "portable", config=there).ok()
    hv("status", config=there).ok()
    hv("put", 1, 1, "a=b", config=there).ok()


def test_an_extension_without_its_library_is_not_ready(make_server, tmp_path):
    if installation.why_not() is not None:
        pytest.skip(installation.why_not())
    bindir, library = installation.own_bindir_with_extension()
    server = make_server("one", bindir=bindir).create_database("test")
    config = store_config(tmp_path / "hypervault.conf", {"one": (server, "1-5")}, keys="strict")
    make_shards(config, server)
    os.rename(library, library + ".away")
    _require_not_ready(config, "its library cannot be loaded")
    result = hv("init", "--json", config=config)
    assert result.code == 1
    error = result.json()[0]["error"]
    assert error["message"] == 'the extension hypervault on server "one" does not work'
    _gives_ways_out(error["hint"])
    os.rename(library + ".away", library)
    hv("init", config=config).ok()
    hv("status", config=config).ok()


def test_an_extension_that_is_too_old_is_not_ready(strict):
    server, config = strict
    server.sql("UPDATE pg_extension SET extversion = '0.9' WHERE extname = 'hypervault'")
    for shard in _shards(config).values():
        assert shard["state"] == "incomplete"
        assert "too old" in shard["detail"]
        _gives_ways_out(shard["hint"])
    assert "too old" in hv("init", config=config).err


def test_shards_whose_bodies_went_with_hstore_are_not_ready(one):
    server, config = one
    server.sql("SET client_min_messages TO warning; DROP EXTENSION hstore CASCADE")
    for shard in _shards(config).values():
        assert shard["state"] == "incomplete"
        assert "body hstore" in shard["detail"]
    error = hv("init", "--json", config=config).json()[0]["error"]
    assert error["status"] == "HV_MISMATCH"
