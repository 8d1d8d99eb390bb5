"""Bulk work of a process whose configuration is older than a move: it finds the shard all the same."""

import json

import pytest

from harness import hv
from harness.moved import moved

SHARD = 3


@pytest.fixture
def away(store, servers):
    """A configuration that gives the shard to a server which it has left, with two entities."""
    one, two = servers
    keys = [hv("put", SHARD, 1, f"n={n}", config=store).ok().out.strip() for n in range(2)]
    moved(SHARD, one, two)
    return store, two, keys


def test_an_export(away):
    store, _, keys = away
    done = hv("export", "-", "--shards", SHARD, config=store).ok()
    assert [json.loads(line)["id"] for line in done.out.splitlines()] == keys


def test_an_import(away, tmp_path):
    store, two, _ = away
    rows = tmp_path / "rows.ndjson"
    rows.write_text('{"n": "2"}\n{"n": "3"}\n')
    hv("import", rows, "--shard", SHARD, "--kind", 1, config=store).ok()
    assert two.value(f"SELECT count(*) FROM shard{SHARD:04}.entities") == 4


def test_sql_on_every_shard(away):
    store, _, _ = away
    done = hv("sql", "SELECT count(*) AS n FROM entities", "--format", "ndjson", config=store).ok()
    counts = {row["shard"]: row["n"] for row in map(json.loads, done.out.splitlines())}
    assert int(counts[SHARD]) == 2 and len(counts) > 1


def test_migrations_and_indexes(away, tmp_path):
    store, two, _ = away
    (tmp_path / "0001_note.sql").write_text("CREATE TABLE note (id bigint PRIMARY KEY);\n")
    hv("migrate", tmp_path, config=store).ok()
    hv("index", "create", "n", config=store).ok()
    hv("schema", "check", config=store).ok()
    assert two.value(f"SELECT to_regclass('shard{SHARD:04}.note') IS NOT NULL")
