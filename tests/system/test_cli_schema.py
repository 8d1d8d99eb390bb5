"""hv schema check, and the line of hv status: drift as people and programs see it."""

import re

import pytest

from harness import hv, make_shards, store_config


def check(store, *args):
    return hv("schema", "check", *args, config=store)


def test_shards_that_are_alike(store):
    done = check(store).ok()
    assert done.out == "16 shards alike: 1-17\n" and done.err == ""
    result = check(store, "--json").ok().json()
    assert result["alike"] is True and result["failures"] == []
    (group,) = result["groups"]
    assert (group["count"], group["shards"], group["differences"]) == (16, "1-17", [])
    assert "description" not in group
    (group,) = check(store, "--json", "--full").ok().json()["groups"]
    assert any("entities" in line for line in group["description"])
    assert group["digest"] in check(store, "--full").ok().out


CHANGES = {
    "column": "ALTER TABLE {0}.entities ADD COLUMN extra int",
    "type": "ALTER TABLE {0}.entities ALTER COLUMN type TYPE int",
    "default": "ALTER TABLE {0}.entities ALTER COLUMN type SET DEFAULT 1",
    "constraint": "ALTER TABLE {0}.entities ADD CHECK (type <> 9)",
    "index": "CREATE INDEX extra ON {0}.entities (type)",
    "function": "CREATE FUNCTION {0}.extra() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "trigger": "CREATE TRIGGER extra BEFORE UPDATE ON {0}.entities FOR EACH ROW"
    " EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    "grant": "GRANT SELECT ON {0}.entities TO PUBLIC",
}


@pytest.mark.parametrize("what", sorted(CHANGES))
def test_a_shard_that_was_changed_by_hand_is_found(store, servers, what):
    servers[1].sql(CHANGES[what].format("shard0012"))
    found = check(store)
    assert found.code == 1
    assert found.lines[0] == "15 shards alike: 1-12,13-17"
    assert found.lines[1] == "1 shard differs: 12"
    assert any(line.strip().startswith("+") for line in found.lines[2:])
    result = check(store, "--json")
    assert result.code == 1 and result.json()["alike"] is False
    assert result.json()["groups"][1]["shards"] == "12"
    check(store, "--shards", "1-12").ok()


def test_a_long_difference_and_many_groups_are_cut(store, servers):
    for shard in range(1, 9):
        schema = f"shard{shard:04}"
        servers[0].sql(f"CREATE TABLE {schema}.wide{shard} ("
                       + ", ".join(f"c{n} int" for n in range(60)) + ")")
    for shard in range(9, 14):
        servers[1].sql(f"CREATE TABLE shard{shard:04}.narrow{shard} ()")
    shown = check(store)
    assert "more lines: --full prints all of them" in shown.out
    assert "and 4 more groups" in shown.out
    assert "more lines" not in check(store, "--full").out
    assert len(check(store, "--json").json()["groups"]) == 14


def test_the_difference_is_coloured_on_a_terminal(store, servers, on_terminal):
    servers[1].sql("ALTER TABLE shard0012.entities ALTER COLUMN type SET DEFAULT 1")
    shown = on_terminal("schema", "check", config=store)
    assert shown.code == 1
    assert re.search(r"\x1b\[31m-", shown.out) and re.search(r"\x1b\[32m\+", shown.out)
    plain = on_terminal("schema", "check", "--no-color", config=store)
    assert "\x1b[3" not in plain.out


def test_a_server_that_is_down(own_store, own_servers):
    own_servers[1].server.stop()
    failed = check(own_store, "--json")
    result = failed.json()
    assert failed.code == 1 and result["alike"] is False
    assert result["groups"][0]["shards"] == "1-9"
    assert sum(failure["count"] for failure in result["failures"]) == 8
    shown = check(own_store)
    assert shown.code == 1 and "on shards 9-17" in shown.err


# ---- hv status ----


def test_status_has_a_line_about_schemas(store, servers, tmp_path):
    assert hv("status", config=store).ok().lines[-1] == "schemas: alike"
    status = hv("status", "--json", config=store).ok().json()
    assert status["schemas"] == {"alike": True, "groups": 1, "unread": 0}
    assert "migrations" not in status
    servers[1].sql("ALTER TABLE shard0012.entities ADD extra int")
    done = hv("status", config=store).ok()
    assert done.lines[-1] == "schemas: 1 of 16 shards differs from the others, see `hv schema check`"
    assert hv("status", "--json", config=store).ok().json()["schemas"]["groups"] == 2


def test_status_says_which_migrations_are_pending(servers, tmp_path):
    folder = tmp_path / "migrations"
    folder.mkdir()
    config = store_config(tmp_path / "a.conf", {"one": (servers[0], "1-5")})
    make_shards(config, servers[0])
    (folder / "1_a.sql").write_text("CREATE TABLE a ();")
    (folder / "2_b.sql").write_text("CREATE TABLE b ();")
    config = store_config(tmp_path / "a.conf", {"one": (servers[0], "1-5")}, migrations=folder)
    line = hv("status", config=config).ok().lines[-1]
    assert line == "schemas: alike; migrations: 2 pending on 4 shards, see `hv migrate status`"
    assert hv("status", "--json", config=config).ok().json()["migrations"] == {
        "pending": 2,
        "shards": 4,
        "unread": 0,
    }
    hv("migrate", config=config).ok()
    assert hv("status", config=config).ok().lines[-1] == "schemas: alike; migrations: all have run"
    (folder / "2_b.sql").rename(tmp_path / "2_b.sql")
    servers[0].sql("DELETE FROM shard0003.hypervault_migrations WHERE id = '2'")
    line = hv("status", config=config).ok().lines[-1]
    assert "migrations: 1 not in order on 3 shards" in line
    (tmp_path / "2_b.sql").rename(folder / "2_b.sql")
    hv("sql", "--write", "ALTER TABLE hypervault_migrations RENAME COLUMN name TO n", config=config).ok()
    line = hv("status", config=config).ok().lines[-1]
    assert line == "schemas: alike; migrations: 4 could not be read"
    hv("sql", "--write", "ALTER TABLE hypervault_migrations RENAME COLUMN n TO name", config=config).ok()
    (folder / "3_c.sql").write_text("COMMIT")
    status = hv("status", "--json", config=config).ok().json()
    assert "3_c.sql:1" in status["migrations"]["error"]["message"]


def test_status_without_ready_shards_has_no_such_line(config):
    assert "schemas" not in hv("status", config=config).out
    assert "schemas" not in hv("status", "--json", config=config).json()


def test_status_when_a_server_is_down(own_store, own_servers):
    own_servers[1].server.stop()
    done = hv("status", config=own_store)
    assert done.code == 1 and "schemas: alike" in done.lines
