"""Shards that look ready and are not: what is missing or may go wrong, and what helps."""

import pytest

from harness import hv, make_shards, store_config


def _shards(config):
    """By number: what `hv status` says of each shard of server "one"."""
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
