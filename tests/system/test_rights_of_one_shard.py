"""A role with rights on one shard of a server: everything that concerns only that shard works."""

import json

import pytest

from harness import hv, make_shards, python, store_config

python.provide()

from hv.datastore import Datastore


@pytest.fixture
def narrow(tmp_path, server):
    """(database, configuration of a role that may use shard 3 of 1 to 4 only, its role)."""
    make_shards(store_config(tmp_path / "owner.conf", {"one": (server, "1-5")}), server)
    role = f"narrow_{server.dbname}"
    server.sql(
        f"CREATE ROLE {role} LOGIN;"
        f"GRANT USAGE ON SCHEMA hypervault, shard0003 TO {role};"
        f"GRANT SELECT ON hypervault.layout TO {role};"
        f"GRANT SELECT, INSERT, UPDATE ON hypervault.imports TO {role};"
        f"GRANT SELECT, INSERT ON shard0003.entities TO {role};"
        f"GRANT USAGE, UPDATE ON ALL SEQUENCES IN SCHEMA shard0003 TO {role}"
    )
    config = store_config(tmp_path / "narrow.conf", {"one": (server.params(user=role), "1-5")})
    yield server, config, role
    server.sql(f"DROP OWNED BY {role}; DROP ROLE {role}")


def _rows(tmp_path):
    path = tmp_path / "rows.ndjson"
    path.write_text("".join(json.dumps({"n": str(n)}) + "\n" for n in range(100)))
    return path


def test_rows_are_imported_into_the_shard_and_exported_again(narrow, tmp_path):
    server, config, _ = narrow
    rows = _rows(tmp_path)
    result = hv("import", rows, "--shard", 3, "--kind", 1, "--json", config=config, cwd=tmp_path)
    assert result.ok().json()["stored"] == 100
    assert server.value("SELECT count(*) FROM shard0003.entities") == 100
    out = tmp_path / "out.ndjson"
    result = hv("export", out, "--shards", 3, "--json", config=config).ok()
    assert result.json()["entities"] == 100
    server.sql("TRUNCATE shard0003.entities")
    result = hv("import", out, "--exported", "--json", config=config, cwd=tmp_path)
    assert result.ok().json()["stored"] == 100


def test_a_shard_that_is_not_made_keeps_nobody_from_another(narrow, tmp_path):
    server, config, _ = narrow
    server.sql("DROP SCHEMA shard0001 CASCADE")
    rows = _rows(tmp_path)
    result = hv("import", rows, "--shard", 3, "--kind", 1, "--json", config=config, cwd=tmp_path)
    assert result.ok().json()["stored"] == 100


def test_other_shards_are_refused_by_name(narrow, tmp_path):
    _, config, _ = narrow
    rows = _rows(tmp_path)
    result = hv("import", rows, "--shard", 2, "--kind", 1, config=config, cwd=tmp_path)
    assert result.code == 1
    assert "shard0002" in result.err


def test_entities_are_put_and_got_and_status_shows_all(narrow):
    _, config, role = narrow
    key = hv("put", 3, 1, "a=b", config=config).ok().out.strip()
    hv("get", key, config=config).ok()
    hv("reserve", 3, config=config).ok()
    (one,) = hv("status", "--json", config=config).ok().json()["servers"]
    assert one["shards_ready"] == 4


def test_a_database_without_shards_is_not_one_of_a_store(server, tmp_path):
    config = store_config(tmp_path / "hypervault.conf", {"one": (server, "1-5")})
    result = hv("import", _rows(tmp_path), "--shard", 3, "--kind", 1, config=config, cwd=tmp_path)
    assert result.code == 1
    assert "shard 1 is not initialised" in result.err or "shard 3 is not initialised" in result.err
    assert server.query("SELECT 1 FROM pg_namespace WHERE nspname = 'hypervault'") == []


def test_loads_in_python_need_no_more(narrow):
    server, _, role = narrow
    with Datastore([dict(shards="1-5", name="one", **server.params(user=role))]) as db:
        with db.load("one", "mine") as load:
            load.add(3, 1, {"a": "b"})
            load.send()
            load.commit(1)
    assert server.value("SELECT count(*) FROM shard0003.entities") == 1


def test_an_import_into_a_shard_that_is_not_made_says_so_and_rejects_nothing(server, tmp_path):
    config = store_config(tmp_path / "hypervault.conf", {"one": (server, "1-5")})
    make_shards(config, server)
    server.sql("DROP SCHEMA shard0002 CASCADE")
    result = hv(
        "import", _rows(tmp_path), "--shard", 2, "--kind", 1, "--json", config=config, cwd=tmp_path
    )
    assert result.code == 1
    assert "shard 2 is not initialised" in result.err
    assert result.json()["rejected"] == 0
