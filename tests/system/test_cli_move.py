"""hv move: what is typed, what is shown, and how it ends."""

import json
import re
import signal

from harness import command, eventually, hv
from harness.moving import (
    assert_nothing_left,
    fill,
    has_shard,
    leftovers,
    moving_config,
    moving_servers,
    moving_store,
    shared_moving_servers,
)

FIXTURES = (moving_servers, moving_store, shared_moving_servers)


def lines_of(result):
    return [json.loads(line) for line in result.out.splitlines()]


def test_shards_move_and_each_has_a_line(moving_store, moving_servers):
    one, two = moving_servers
    fill(one, 3, 500)
    done = hv("move", "2-4", "--to", "two", "--jobs", 2, config=moving_store)
    assert done.code == 0, done
    assert re.search(r"(?m)^ +2 +one +two +\d+ .* moved$", done.out), done
    assert re.search(r"(?m)^ +3 +one +two +50\d .* ms +moved$", done.out), done
    assert "shard 3: copying" in done.err or "shard 3: " in done.err
    assert has_shard(two, 3) and has_shard(two, 2) and not has_shard(one, 3)
    again = hv("move", 1, 3, "--to", "two", config=moving_store)
    assert again.code == 5, again
    assert 'shard 3 is on server "two" already' in again.err
    assert has_shard(two, 1)
    assert_nothing_left(one, two)


def test_json_has_events_and_a_summary(moving_store, moving_servers):
    one, two = moving_servers
    done = hv("--json", "move", 3, "--to", "two", "--keep-undo", "1h", config=moving_store)
    assert done.code == 0 and done.err == "", done
    *events, summary = lines_of(done)
    assert {event["event"] for event in events} == {"phase"}
    assert {event["shard"] for event in events} == {3}
    (shard,) = summary["shards"]
    assert summary["done"] == 1 and summary["failed"] == summary["stopped"] == 0
    assert shard["phase"] == "kept" and shard["source"] == "one" and shard["target"] == "two"
    assert shard["pause_ms"] > 0 and shard["seconds"] > 0
    (listed,) = lines_of(hv("--json", "move", "--list", config=moving_store))
    assert [move["step"] for move in listed["moves"]] == ["kept"] and listed["missing"] == []
    assert "can be undone until 20" in hv("move", "--list", config=moving_store).out
    undone = hv("--json", "move", "--undo", 3, config=moving_store)
    assert undone.code == 0, undone
    (shard,) = lines_of(undone)[-1]["shards"]
    assert shard["rows"] is None and shard["bytes"] is None, "an undo copies nothing"
    assert has_shard(one, 3) and not has_shard(two, 3)
    assert_nothing_left(one, two)


def test_an_old_copy_whose_time_is_over_is_listed_as_such(moving_store, moving_servers):
    assert hv("move", 3, "--to", "two", "--keep-undo", "1s", config=moving_store).code == 0
    eventually(lambda: "could be undone until" in hv("move", "--list", config=moving_store).out)
    assert hv("move", 2, "--to", "two", config=moving_store).code == 0
    assert "no shard is being moved" in hv("move", "--list", config=moving_store).err
    assert_nothing_left(*moving_servers)


def test_a_shard_whose_old_copy_is_kept_looks_like_the_others(
    moving_store, moving_servers, tmp_path
):
    for database, shards in zip(moving_servers, ((1, 2, 3), (5, 6, 7))):
        for shard in shards:
            database.sql(f"CREATE TABLE shard{shard:04}.notes (id bigint PRIMARY KEY)")
    assert hv("move", 3, "--to", "two", "--keep-undo", "1h", config=moving_store).code == 0
    checked = hv("schema", "check", config=moving_store)
    assert checked.code == 0 and "differ" not in checked.out, checked
    status = hv("status", config=moving_store).out
    assert "schemas: alike" in status
    assert re.search(r"(?m)^one +ready .*? 1 +2 +(strict|portable) ", status), status
    report = hv("export", tmp_path / "all.ndjson", "--json", config=moving_store).ok().json()
    assert report["tables_left_out"] == [{"name": "notes", "shards": "1-4,5-8"}]


def test_an_old_copy_is_dropped_when_it_is_not_wanted_any_more(moving_store, moving_servers):
    one, two = moving_servers
    assert hv("move", 3, "--to", "two", "--keep-undo", "1h", config=moving_store).code == 0
    cleaned = hv("--json", "move", "--clean", config=moving_store)
    assert cleaned.code == 0, cleaned
    (shard,) = lines_of(cleaned)[-1]["shards"]
    assert shard["outcome"] == "cleaned", shard
    assert shard["rows"] is None and shard["pause_ms"] == 0, "those are the first move's"
    assert_nothing_left(one, two)
    assert "no old copy" in hv("move", "--clean", config=moving_store).err
    refused = hv("move", "--undo", 3, config=moving_store)
    assert refused.code != 0 and "hv: " in refused.err


def test_an_interrupted_move_is_listed_and_goes_on(moving_store, moving_servers):
    one, two = moving_servers
    fill(one, 3, 500)
    with one.connect() as connection, connection.cursor() as cursor:
        cursor.execute("BEGIN; SELECT pg_current_xact_id()")  # the slot waits for it
        process = command.spawn("hv", "move", 3, "--to", "two", config=moving_store, text=True)
        eventually(lambda: "slot" in {name.split()[0] for name in leftovers(one)} or
                   process.poll() is not None)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        cursor.execute("ROLLBACK")
    assert process.returncode == -signal.SIGINT, (out, err)
    assert "stopped" in out and "hv move --resume" in err and "hv move --abort" in err
    listed = hv("move", "--list", config=moving_store)
    assert "nobody works on it" in listed.out and "--resume" in listed.err
    assert hv("move", "--resume", config=moving_store).code == 0
    assert has_shard(two, 3)
    assert "nobody works on" in hv("move", "--resume", config=moving_store).err
    assert_nothing_left(one, two)


SLOW = """
    CREATE FUNCTION shard0003.slow(n bigint) RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS $$
    BEGIN
        IF current_setting('port') = '{port}' THEN PERFORM pg_sleep(60); END IF;
        RETURN n;
    END $$;
    CREATE INDEX slow ON shard0003.entities (shard0003.slow(id))
"""


def test_an_interrupt_does_not_wait_for_an_index(moving_store, moving_servers):
    one, two = moving_servers
    fill(one, 3, 1)
    one.sql(SLOW.format(port=two.value("SHOW port")))
    process = command.spawn("hv", "move", 3, "--to", "two", config=moving_store, text=True)
    sleepers = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
    eventually(lambda: two.value(sleepers) == 1 or process.poll() is not None)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == -signal.SIGINT and "hv move --resume" in err, (out, err)
    eventually(lambda: two.value(sleepers) == 0, 20)
    hv("move", "--abort", config=moving_store).ok()
    assert_nothing_left(one, two)


def test_one_that_takes_itself_back_has_failed(moving_store, moving_servers):
    one, two = moving_servers
    with one.connect() as connection, connection.cursor() as cursor:
        cursor.execute("BEGIN; SELECT pg_current_xact_id()")
        process = command.spawn("hv", "--json", "move", 3, "--to", "two", config=moving_store)
        eventually(lambda: "slot" in {name.split()[0] for name in leftovers(one)})
        one.sql("CREATE INDEX meanwhile ON shard0003.entities (type)")
        cursor.execute("ROLLBACK")
        out, err = process.communicate(timeout=60)
    summary = json.loads(out.splitlines()[-1])
    assert process.returncode == 1, (out, err)
    assert (summary["done"], summary["failed"], summary["stopped"]) == (0, 1, 0)
    (shard,) = summary["shards"]
    assert shard["outcome"] == "failed" and shard["phase"] == "aborted"
    assert shard["error"]["status"] == "HV_MISMATCH"
    assert has_shard(one, 3)
    assert_nothing_left(one, two)


def test_json_ends_with_a_summary_also_where_there_is_nothing_to_do(moving_store):
    for order in ("--resume", "--abort", "--clean"):
        (summary,) = lines_of(hv("--json", "move", order, config=moving_store).ok())
        assert summary == {"shards": [], "done": 0, "failed": 0, "stopped": 0}


def test_servers_that_do_not_answer_may_have_moves(tmp_path, moving_store, moving_servers):
    _, two = moving_servers
    path = tmp_path / "lost.conf"
    text = open(moving_store, encoding="utf-8").read()
    path.write_text(f"{text}\n[server lost]\nhost = 127.0.0.1\nport = 1\nshards = 100\n", "utf-8")
    path.chmod(0o600)
    for order in ("--resume", "--abort", "--clean", "--list"):
        done = hv("move", order, config=path)
        assert done.code == 1 and "\"lost\"" in done.err, done
    done = hv("--json", "move", "--resume", config=path)
    assert done.code == 1 and "lost" in done.err, done
    assert hv("move", 3, "--to", "two", "--keep-undo", "1h", config=moving_store).code == 0
    done = hv("move", "--clean", config=path)
    assert done.code == 5 and "cleaned" in done.out and "\"lost\"" in done.err, done
    assert has_shard(two, 3)


def test_an_interrupted_move_is_taken_back(moving_store, moving_servers):
    one, two = moving_servers
    with one.connect() as connection, connection.cursor() as cursor:
        cursor.execute("BEGIN; SELECT pg_current_xact_id()")
        process = command.spawn("hv", "move", 3, "--to", "two", config=moving_store, text=True)
        eventually(lambda: leftovers(one))
        process.kill()
        process.wait()
        cursor.execute("ROLLBACK")
    done = hv("move", "--abort", 3, config=moving_store)
    assert done.code == 0 and "aborted" in done.out, done
    assert has_shard(one, 3)
    assert_nothing_left(one, two)


def test_offline_is_asked_about(moving_store, moving_servers):
    _, two = moving_servers
    refused = hv("move", 3, "--to", "two", "--offline", config=moving_store)
    assert refused.code == 2 and "writers have to wait" in refused.err and "--yes" in refused.err
    assert not has_shard(two, 3)
    done = hv("move", 3, "--to", "two", "--offline", "--yes", config=moving_store)
    assert done.code == 0 and has_shard(two, 3), done


def test_a_terminal_shows_bars_and_a_table(moving_store, moving_servers, on_terminal):
    one, _ = moving_servers
    fill(one, 3, 20000)
    screen = on_terminal("move", 3, "--to", "two", config=moving_store).ok().out
    assert "shard 3 " in screen and "rows" in screen
    assert "longest pause" in screen and "moved" in screen
    # Neither rows that are not known, nor a step without a name, nor bytes after they are copied.
    assert "~0 rows" not in screen
    assert not re.search(r"shard 3:[ ]*[\x1b\r\n]", screen)
    assert not re.search("(comparing|switch)[^\n]* of ", screen)


def test_mistakes_are_found_before_anything_is_begun(tmp_path, moving_store, moving_servers):
    one, two = moving_servers
    for words, code, text in (
        (("move", 3), 2, "--to is missing"),
        (("move", 3, "--to", "tow"), 2, 'Did you mean "two"?'),
        (("move", 3, "--to", "three"), 2, 'there is no server "three"'),
        (("move", 99, "--to", "two"), 2, "shard 99 is on no server"),
        (("move", 3, "--to", "one"), 2, 'shard 3 is on server "one" already'),
        (("move", "5-3", "--to", "one"), 2, 'argument "SHARD"'),
        (("move", "--to", "one"), 2, ""),
        (("move", "--resume", "--abort"), 2, "exclude each other"),
        (("move", "--resume", "--to", "one"), 2, "--to is for new moves only"),
        (("move", 3, "--to", "two", "--keep-undo", "soon"), 2, "keep_undo"),
        (("move", 3, "--to", "two", "--jobs", 0), 2, "--jobs"),
        (("move", 3, "--to", "two", "--offline", "--keep-undo", "1h"), 2, "exclude each other"),
        (("move", "--undo"), 2, ""),
        (("move", "--abort", 3), None, "shard 3"),
        (("move", "--undo", 3), None, "shard 3"),
    ):
        done = hv(*words, config=moving_store)
        assert done.code == code or (code is None and done.code > 0), (words, done)
        assert text in done.err, (words, done)
        assert done.out == "", (words, done)
    # The name of one server, and the database of another.
    other = moving_config(tmp_path / "other.conf", one, one)
    done = hv("move", 3, "--to", "two", config=other)
    assert done.code > 0 and "hv: " in done.err, done
    assert_nothing_left(one, two)


def test_a_role_without_replication_is_told_so(tmp_path, moving_servers, moving_store):
    one, two = moving_servers
    for database in (one, two):
        database.sql("DROP ROLE IF EXISTS mover")
        database.sql("CREATE ROLE mover LOGIN PASSWORD 'mover'")
        database.sql("GRANT ALL ON SCHEMA shard0003, hypervault TO mover") if database is one else None
    try:
        text = open(moving_store, encoding="utf-8").read()
        path = tmp_path / "mover.conf"
        path.write_text(re.sub(r"(?m)^user = .*$", "user = mover\npassword = mover",
                               re.sub(r"(?m)^password = .*$\n?", "", text)), encoding="utf-8")
        path.chmod(0o600)
        done = hv("move", 3, "--to", "two", config=path)
        assert done.code > 0 and "hv: " in done.err and "mover" not in done.out, done
        assert_nothing_left(one, two)
    finally:
        for database in (one, two):
            database.sql("DROP OWNED BY mover")
            database.sql("DROP ROLE mover")
