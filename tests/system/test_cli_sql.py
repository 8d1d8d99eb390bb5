"""hv sql: which answers it prints and in which form, what it may change, and how it ends."""

import csv
import io
import json
import re
import signal

import pytest

from harness import eventually, hv, spawn, store_config
from test_cli_terminal import NASTY, is_safe

ALL = list(range(1, 17))


def sql(store, *args, **how):
    return hv("sql", *args, config=store, **how)


def rows(store, *args, **how):
    return sql(store, *args, "--json", **how).ok().ndjson()


def on_shard(servers, shard):
    return servers[0 if shard < 9 else 1]


# ---- answers ----


def test_every_shard_answers_with_its_own_rows(store, servers):
    servers[0].sql("INSERT INTO shard0003.entities (type, body) VALUES (1, 'a=>b'), (2, '')")
    found = rows(store, "SELECT count(*), current_schema AS schema FROM entities GROUP BY 2")
    assert found == [{"shard": 3, "count": 2, "schema": "shard0003"}]
    found = rows(store, "SELECT count(*), '@shard' AS schema, 'x@shard' AS other FROM entities")
    assert sorted(found, key=lambda row: row["shard"]) == [
        {"shard": n, "count": 2 * (n == 3), "schema": f"shard{n:04}", "other": "x@shard"}
        for n in ALL
    ]


def test_a_table_has_the_shard_before_each_row(store):
    done = sql(store, "SELECT generate_series(1, 2) AS n", "--shards", "4,9-11").ok()
    assert done.lines[0].split() == ["shard", "n"] and done.err == ""
    assert sorted(line.split() for line in done.lines[1:]) == sorted(
        [str(shard), str(n)] for shard in (4, 9, 10) for n in (1, 2)
    )


def test_no_rows_are_titles_only(store):
    assert sql(store, "SELECT id FROM entities").ok().lines == ["shard  id"]
    assert sql(store, "SELECT id FROM entities", "--format", "csv").ok().out == "shard,id\n"
    assert rows(store, "SELECT id FROM entities") == []


VALUES = """
    SELECT 1 AS small, 9007199254740993 AS large, 0.5::numeric AS share, 'NaN'::float8 AS none,
        true AS yes, NULL AS nothing, '' AS empty, E'a,"b"\\nc' AS text, 1 AS small
"""


def test_values_in_json(store):
    (row,) = rows(store, VALUES, "--shards", 2)
    assert row == {
        "shard": 2,
        "small": 1,
        "large": "9007199254740993",
        "share": 0.5,
        "none": "NaN",
        "yes": True,
        "nothing": None,
        "empty": "",
        "text": 'a,"b"\nc',
        "small_2": 1,
    }


def test_values_in_csv(store):
    out = sql(store, VALUES, "--shards", 2, "--format", "csv").ok().out
    header, row = csv.reader(io.StringIO(out))
    assert header[:3] == ["shard", "small", "large"] and header[-1] == "small_2"
    assert row == ["2", "1", "9007199254740993", "0.5", "NaN", "t", "", "", 'a,"b"\nc', "1"]
    assert ',,"","a,""b""\nc",1\n' in out  # NULL is empty, and an empty text has quotes


def test_a_column_named_shard_does_not_hide_the_shard(store):
    assert rows(store, "SELECT 7 AS shard", "--shards", 2) == [{"shard": 2, "shard_2": 7}]


def test_once_for_each_server(store):
    found = rows(store, "--per-server", "SELECT current_database() AS name, 1 AS n")
    assert sorted((row["server"], row["n"]) for row in found) == [("one", 1), ("two", 1)]
    done = sql(store, "--per-server", "SELECT 1 AS n", "--format", "csv").ok()
    assert sorted(done.lines) == ["one,1", "server,n", "two,1"]


def test_parameters_are_text(store, servers):
    servers[1].sql("INSERT INTO shard0012.entities (type, body) VALUES (1, 'user=>42')")
    query = "SELECT type FROM entities WHERE body -> $1 = $2"
    assert rows(store, query, "user", "42") == [{"shard": 12, "type": 1}]
    assert rows(store, query, "user", "-42") == []
    assert rows(store, "SELECT $1::text AS x", "'; --", "--shards", 1) == [{"shard": 1, "x": "'; --"}]


def test_sql_from_a_file_and_from_standard_input(store, tmp_path):
    path = tmp_path / "ask.sql"
    path.write_text("-- how many\nSELECT $1::int + 1 AS n", "utf-8")
    assert rows(store, "-f", path, 4, "--shards", 1) == [{"shard": 1, "n": 5}]
    assert rows(store, "-f", "-", "--shards", 1, input="SELECT 3 AS n") == [{"shard": 1, "n": 3}]
    missing = sql(store, "-f", tmp_path / "none.sql")
    assert missing.code == 1 and f"cannot read {tmp_path}/none.sql" in missing.err
    path.write_bytes(b"SELECT 1\0")
    assert sql(store, "-f", path).code == 2


def test_the_last_statement_of_several_answers(store):
    query = "CREATE TEMP TABLE t AS SELECT 5 AS n; SELECT n FROM t"
    assert rows(store, "--write", query, "--shards", 1) == [{"shard": 1, "n": 5}]


def test_answers_are_shown_before_the_last_one_has_come(store, servers):
    """Shard 9 waits for a lock; the others are printed meanwhile."""
    with servers[1].connect() as holder, holder.cursor() as cursor:
        holder.autocommit = False
        cursor.execute("LOCK TABLE shard0009.entities")
        for form in ("ndjson", "csv", "table"):
            child = spawn(
                *("hv", "sql", "--format", form, "--max-wait", "5min", "--lock-timeout", "100ms"),
                *("SELECT count(*) FROM entities", "--parallel", 8),
                config=store,
            )
            lines = [child.stdout.readline() for _ in range(16 if form != "ndjson" else 15)]
            assert all(lines)
            child.send_signal(signal.SIGINT)
            child.communicate(timeout=30)
        holder.rollback()


def test_text_cannot_take_over_a_terminal(store, servers, on_terminal):
    servers[0].sql("INSERT INTO shard0001.entities (type, body) VALUES (1, hstore('a', %s))", NASTY)
    query = "SELECT body -> 'a' AS a FROM entities"
    for form in ("table", "csv", "ndjson"):
        shown = on_terminal("sql", query, "--format", form, config=store, columns=2000).ok().out
        assert is_safe(shown) and "é😀" in shown
    (row,) = sql(store, query, "--json").ok().ndjson()
    assert row["a"] == NASTY


def test_a_narrow_terminal_cuts_no_line_in_two(store, on_terminal):
    shown = on_terminal(
        "sql", "SELECT repeat('x', 30) AS a, repeat('y', 30) AS b", config=store, columns=40
    ).ok().out
    lines = re.sub(r"\x1b\[[0-9;]*[mKJAF]\r?", "", shown).splitlines()
    assert max(map(len, lines)) <= 40 and any("y" * 8 in line for line in lines)


# ---- what it may change ----


def test_nothing_is_changed_without_write(store, servers):
    refused = sql(store, "DELETE FROM entities")
    assert refused.code == 1 and "read-only transaction" in refused.err
    sneaky = sql(store, "SET TRANSACTION READ WRITE; DELETE FROM entities")
    assert sneaky.code == 1


def test_a_write_is_done_on_every_shard(store, servers):
    done = sql(store, "--write", "INSERT INTO entities (type, body) VALUES (1, ''), (2, '')").ok()
    assert done.out == "INSERT 32 on 16 shards\n"
    done = sql(store, "--write", "UPDATE entities SET type = 3 WHERE type = 1", "--json").ok()
    assert done.json() == {"command": "UPDATE", "shards": 16, "rows": 16}
    found = rows(store, "--write", "DELETE FROM entities WHERE type = 2 RETURNING type")
    assert sorted(row["shard"] for row in found) == ALL
    assert servers[0].value("SELECT count(*) FROM shard0003.entities") == 1


def test_once_is_once(store, servers):
    args = ("--write", "--once", "more", "INSERT INTO entities (type, body) VALUES (1, '')")
    assert sql(store, *args).ok().out == "INSERT 16 on 16 shards\n"
    again = sql(store, *args).ok()
    assert again.out == "" and again.err == "It has run before on 16 shards, which stay as they are.\n"
    assert servers[1].value("SELECT count(*) FROM shard0012.entities") == 1
    missing = sql(store, "--once", "more", "SELECT 1")
    assert missing.code == 2 and "--once without --write" in missing.err


def test_a_write_whose_outcome_is_unknown_is_not_to_be_repeated_blindly(store, servers):
    servers[1].sql(
        "CREATE FUNCTION shard0012.ends() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN PERFORM pg_catalog.pg_terminate_backend(pg_catalog.pg_backend_pid());"
        " RETURN NULL; END'"
    )
    servers[1].sql(
        "CREATE CONSTRAINT TRIGGER ends AFTER INSERT ON shard0012.entities"
        " DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION shard0012.ends()"
    )
    servers[0].sql("ALTER TABLE shard0005.entities ADD CHECK (type <> 9)")
    insert = "INSERT INTO entities (type, body) VALUES (9, '')"
    done = sql(store, "--write", insert, "--max-failures", "all")
    assert done.code == 5 and "repeat it for --shards 5 only" in done.err
    assert "The outcome is unknown on --shards 12: look before you repeat it there." in done.err


@pytest.mark.parametrize("options", [[], ["--write"]])
def test_an_output_that_is_full_ends_what_is_running(store, servers, options):
    slow = "SELECT id, pg_sleep(0.2) FROM (VALUES (1)) AS v(id)"
    with open("/dev/full", "wb") as full:
        words = ["sql", slow, "--parallel", 1, "--format", "csv", *options]
        process = spawn("hv", *words, config=store, stdout=full)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 1 and b"could not write to standard output" in err, (process.returncode, err)
    running = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query ~ 'pg_[s]leep'"
    for server in servers:
        eventually(lambda s=server: s.value(running) == 0)


def test_what_ended_early_says_where_to_go_on(store, servers):
    servers[0].sql("ALTER TABLE shard0005.entities ADD CHECK (type <> 9)")
    servers[1].sql("ALTER TABLE shard0012.entities ADD CHECK (type <> 9)")
    insert = "INSERT INTO entities (type, body) VALUES (9, '')"
    partly = sql(store, "--write", insert, "--max-failures", "all")
    assert partly.code == 5
    assert "on shards 5,12" in partly.err and "violates check constraint" in partly.err
    assert "repeat it for --shards 5,12 only" in partly.err and "--once" in partly.err
    assert partly.out == "INSERT 14 on 14 shards\n"
    ended = sql(store, "--write", "--once", "nine", insert, "--parallel", 1)
    assert ended.code == 5 and "not begun: --shards" in ended.err
    assert "The same command goes on" in ended.err
    servers[0].sql("ALTER TABLE shard0005.entities DROP CONSTRAINT entities_type_check")
    servers[1].sql("ALTER TABLE shard0012.entities DROP CONSTRAINT entities_type_check")
    sql(store, "--write", "--once", "nine", insert).ok()
    assert servers[0].value("SELECT count(*) FROM shard0005.entities") == 1
    assert servers[1].value("SELECT count(*) FROM shard0011.entities") == 2


# ---- bad input, and failures ----


@pytest.mark.parametrize(
    "args, message",
    [
        (["SELECT 1;\nCOMMIT"], "COMMIT"),
        (["SELECT 'a"], "line 1"),
        ([], "arguments are missing"),
        (["SELECT 1", "--parallel", 0], "parallel"),
        (["SELECT 1", "--parallel", "many"], "parallel"),
        (["SELECT 1", "--max-failures", "-1"], "max_failures"),
        (["SELECT 1", "--lock-timeout", "soon"], "--lock-timeout is no duration"),
        (["SELECT 1", "--shards", "9-1"], "reversed range"),
        (["SELECT 1", "--shards", "500"], "500"),
        (["SELECT 1", "--skip-server", "none"], "none"),
        (["SELECT 1", "--format", "xml"], 'unknown format "xml"'),
        (["SELECT 1; SELECT $1", "x"], "one statement"),
    ],
)
def test_bad_input_is_refused_before_anything_is_begun(store, args, message):
    refused = sql(store, *args)
    assert (refused.code, refused.out) == (2, ""), refused
    assert message in refused.err


def test_no_shard_answers(store):
    for form in ([], ["--json"]):
        failed = sql(store, "SELECT nothing FROM entities", *form)
        assert (failed.code, failed.out) == (1, "")
        assert "nothing" in failed.err and "does not exist" in failed.err
    error = json.loads(failed.err.splitlines()[0])["error"]
    assert error["sqlstate"] == "42703" and ("shard" in error or "shards" in error)


def test_answers_with_other_columns_are_reported(store, servers):
    for server, shard in ((servers[0], "shard0005"), (servers[1], "shard0012")):
        server.sql(f"ALTER TABLE {shard}.entities ADD score int")
    done = sql(store, "SELECT * FROM entities", "--json")
    assert done.code == 5 and "the columns are not those of shard" in done.err
    assert "5,12" in done.err


@pytest.mark.parametrize("how", ([], ["--write"]))
def test_a_shard_that_is_not_there(store, servers, how):
    """The server leaves a schema that is missing out of the search_path, without a word."""
    servers[0].sql("DROP SCHEMA shard0003 CASCADE; CREATE TABLE public.entities (id int)")
    for args in (["SELECT id FROM entities"], ["SELECT id FROM entities WHERE $1 = 'x'", "x"]):
        failed = sql(store, *args, *how, "--max-failures", "all", "--json")
        assert failed.code == 5
        error = json.loads(failed.err.splitlines()[0])["error"]
        assert (error["status"], error["shard"]) == ("HV_NOT_INITIALIZED", 3)


def test_a_shard_that_the_role_may_not_use(tmp_path, store, servers):
    server = servers[0]
    server.sql(
        "CREATE ROLE guest_of_sql LOGIN; GRANT USAGE ON SCHEMA hypervault TO guest_of_sql;"
        "GRANT SELECT ON hypervault.layout TO guest_of_sql"
    )
    try:
        params = {**server.params(), "user": "guest_of_sql"}
        config = store_config(tmp_path / "guest.conf", {"one": (params, "1-9")})
        failed = sql(config, "SELECT 1", "--shards", 3)
        assert failed.code == 1 and "permission denied for schema shard0003" in failed.err
    finally:
        server.sql("DROP OWNED BY guest_of_sql; DROP ROLE guest_of_sql")


def test_a_server_that_is_down(own_store, own_servers):
    own_servers[1].server.stop()
    partly = sql(own_store, "SELECT count(*) FROM entities", "--max-failures", "all", "--json")
    assert partly.code == 5
    assert sorted(row["shard"] for row in partly.ndjson()) == list(range(1, 9))
    error = json.loads(partly.err.splitlines()[0])["error"]
    assert error["shards"] == "9-17" and error["status"] == "HV_UNAVAILABLE"
    skipped = sql(own_store, "SELECT 1 AS n", "--skip-server", "two", "--json").ok()
    assert len(skipped.ndjson()) == 8


def test_an_interrupt_cancels_what_runs(store, servers):
    child = spawn("hv", "sql", "SELECT pg_sleep(300)", config=store)

    def sleeping():
        return sum(
            server.value(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                " AND state = 'active' AND query ~ 'pg_sleep' AND pid <> pg_backend_pid()"
            )
            for server in servers
        )

    eventually(lambda: sleeping() > 0, what="a shard sleeps")
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=20)
    assert child.returncode == -signal.SIGINT and b"interrupted" in err
    eventually(lambda: sleeping() == 0, what="nothing sleeps any more", timeout=10)
