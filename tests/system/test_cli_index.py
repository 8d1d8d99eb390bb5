"""hv index create, list and drop: what people and programs see, and the exit codes."""

import json
import re
import signal

import pytest

from harness import eventually, hv, spawn


def index(store, *args, **how):
    return hv("index", *args, config=store, **how)


def listed(store, *args):
    return {row["name"]: row for row in index(store, "list", "--json", *args).ok().json()["indexes"]}


def test_an_index_is_built_once_on_every_shard(store, servers):
    done = index(store, "create", "user").ok()
    assert done.lines[0].startswith("entities_user_idx on ") and "'user'" in done.lines[0]
    assert [line.split() for line in done.lines[2:]] == [
        ["one", "8", "8", "0", "0", "0"],
        ["two", "8", "8", "0", "0", "0"],
    ]
    again = index(store, "create", "user", "--json").ok().json()
    assert (again["done"], again["unchanged"], again["index"]) == (0, 16, "entities_user_idx")
    assert "user" in again["expression"]
    assert servers[0].value("SELECT indisvalid FROM pg_index WHERE indexrelid ="
                            " 'shard0003.entities_user_idx'::regclass")


def test_indexes_of_all_forms(store):
    index(store, "create", "user", "score:bigint", "--kind", 2).ok()
    index(store, "create", "email", "--unique", "--name", "entities_email").ok()
    index(store, "create", "--all", "--shards", "1-9").ok()
    index(store, "create", "a:b:text", "born:date", "--name", "odd").ok()
    found = listed(store)
    assert len(found) == 5 and all(row["invalid"] == 0 for row in found.values())
    assert "UNIQUE" in found["entities_email"]["definition"]
    assert "@shard" in found["odd"]["definition"] and "a:b" in found["odd"]["definition"]
    (gin,) = (row for row in found.values() if "USING gin" in row["definition"])
    assert (gin["shards"], gin["missing"], gin["missing_in"]) == (8, 8, "9-17")
    shown = index(store, "list").ok()
    assert shown.lines[0].split()[:4] == ["index", "shards", "missing", "invalid"]
    assert shown.lines[1].split()[0] == "entities_pkey"
    assert f"{gin['name']}: missing on shards 9-17" in shown.out


def test_an_index_of_another_definition_is_not_touched(store, servers):
    servers[0].sql("CREATE INDEX entities_user_idx ON shard0003.entities (type)")
    partly = index(store, "create", "user", "--max-failures", "all")
    assert partly.code == 5 and "entities_user_idx" in partly.err and "shard 3" in partly.err
    row = listed(store)["entities_user_idx"]
    assert (row["shards"], row["different"], row["different_in"]) == (15, 1, "3")


def test_drop(store):
    index(store, "create", "user", "--shards", "1-9").ok()
    dropped = index(store, "drop", "entities_user_idx", "--json").ok().json()
    assert (dropped["done"], dropped["unchanged"]) == (8, 8)
    assert list(listed(store)) == ["entities_pkey"]
    again = index(store, "drop", "entities_user_idx").ok()
    assert again.err == "No shard has an index of this name.\n"
    refused = index(store, "drop", "entities_pkey")
    assert refused.code in (1, 2) and "entities_pkey" in refused.err
    assert listed(store)["entities_pkey"]["shards"] == 16


@pytest.mark.parametrize(
    "args, message",
    [
        ([], "an index on nothing"),
        (["user", "--all"], "both attributes and --all"),
        (["--all", "--unique"], "--unique cannot be used with --all"),
        (["user:money"], "money"),
        (["user", "--name", "x" * 64], "63"),
        (["user", "--name", ""], "name"),
        (["user", "--kind", "40000"], "KIND is out of range"),
        (["user", "user"], "user"),
    ],
)
def test_bad_input_is_refused_before_anything_is_begun(store, args, message):
    refused = index(store, "create", *args)
    assert (refused.code, refused.out) == (2, "") and message in refused.err, refused


def test_a_value_that_does_not_fit_is_named_with_its_key(store, servers):
    servers[1].sql("INSERT INTO shard0012.entities (type, body) VALUES (1, 'score=>many')")
    key = servers[1].value("SELECT id FROM shard0012.entities")
    partly = index(store, "create", "score:bigint", "--max-failures", "all", "--no-canary")
    assert partly.code == 5 and "many" in partly.err and str(key) in partly.err
    assert "shard 12" in partly.err
    assert listed(store)["entities_score_bigint_idx"]["missing_in"] == "12"
    servers[1].sql("DELETE FROM shard0012.entities")
    index(store, "create", "score:bigint").ok()


def test_values_that_are_not_unique_are_named(store, servers):
    servers[0].sql("INSERT INTO shard0002.entities (type, body) SELECT 1, 'email=>a' FROM generate_series(1, 2)")
    keys = [row[0] for row in servers[0].query("SELECT id FROM shard0002.entities ORDER BY 1")]
    partly = index(store, "create", "email", "--unique", "--max-failures", "all", "--no-canary")
    assert partly.code == 5 and "shard 2" in partly.err
    assert any(str(key) in partly.err for key in keys)


def test_an_interrupted_build_is_made_good_by_the_next_run(store, servers):
    """An old transaction on one server holds the build up."""
    with servers[0].connect() as holder, holder.cursor() as cursor:
        holder.set_session(isolation_level="REPEATABLE READ", autocommit=False)
        cursor.execute("SELECT txid_current()")
        child = spawn("hv", "index", "create", "user", "--json", config=store)

        def invalid():
            return servers[0].value("SELECT count(*) FROM pg_index WHERE NOT indisvalid")

        eventually(lambda: invalid() > 0, what="an index is being built")
        child.send_signal(signal.SIGINT)
        out, _ = child.communicate(timeout=30)
        assert child.returncode == -signal.SIGINT and json.loads(out)["shards"] == 16
        eventually(lambda: listed(store)["entities_user_idx"]["building"] == 0, timeout=10)
        row = listed(store)["entities_user_idx"]
        assert row["invalid"] >= 1 and row["invalid_in"]
        assert "invalid on shard" in index(store, "list").ok().out
        holder.rollback()
    index(store, "create", "user").ok()
    row = listed(store)["entities_user_idx"]
    assert (row["shards"], row["invalid"], row["missing"]) == (16, 0, 0)


def test_for_whom_a_build_waits_is_shown(store, servers, on_terminal):
    with servers[0].connect() as holder, holder.cursor() as cursor:
        holder.set_session(isolation_level="REPEATABLE READ", autocommit=False)
        cursor.execute("SELECT txid_current()")
        pid = holder.info.backend_pid
        shown = on_terminal(
            *("index", "create", "user", "--max-wait", "3s", "--shards", "1"),
            config=store, columns=120,
        )
        holder.rollback()
    assert shown.code == 1 and str(pid) in shown.out
    assert re.search(rf"shard 1 waits: .*{pid}", shown.out)


@pytest.mark.parametrize("columns", [40, 100])
def test_a_narrow_terminal(store, on_terminal, columns):
    for command in (["create", "user"], ["list"], ["drop", "entities_user_idx"]):
        shown = on_terminal("index", *command, config=store, columns=columns).ok().out
        lines = re.sub(r"\x1b\[[0-9;]*[mKJAF]\r?", "", shown).splitlines()
        longest = max(len(line) for line in lines if " on (body" not in line)
        assert 0 < longest <= columns, shown


def test_a_server_that_is_down(own_store, own_servers):
    own_servers[1].server.stop()
    partly = index(own_store, "create", "user", "--max-failures", "all", "--json")
    assert partly.code == 5 and partly.json()["failures"][0]["shards"] == "9-17"
    assert index(own_store, "list").code == 1
    assert listed(own_store, "--skip-server", "two")["entities_user_idx"]["shards"] == 8


def test_looking_has_a_limit_of_time(store, servers):
    with servers[0].connect() as connection:
        connection.autocommit = False
        connection.cursor().execute("LOCK TABLE shard0002.entities IN ACCESS EXCLUSIVE MODE")
        late = hv("index", "list", "--timeout", "300ms", config=store)
        assert late.code == 1 and 'no answer from server "one" in time' in late.err
        refused = hv("index", "list", config=store)
        assert refused.code == 1 and "lock timeout" in refused.err
    hv("index", "list", config=store).ok()
