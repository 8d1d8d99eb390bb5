"""hv bench: its report agrees with the servers, and it removes its own entities and nothing else.
"""

import json
import os
import pty
import re
import signal
import subprocess
import time

import pytest

from harness import eventually, hv, spawn, store_config
from harness.command import TIMEOUT
from harness.server import HARNESS
from importing import SHARDS, entities

KIND = 32767
QUICK = ("--seconds", 1, "--warmup", 0, "--callers", 4)

def bench(store, work, *args, **how):
    """Run `hv bench WORK` for a second, and return the Result."""
    return hv("bench", work, *QUICK, "--json", *args, config=store, **how)


def start(store, work, *args, **popen):
    return spawn("hv", "bench", work, "--warmup", 0, "--json", *args, config=store, **popen)


def end_of(process):
    """Wait for the end: (exit code, report, errors)."""
    out, err = process.communicate(timeout=TIMEOUT)
    errors = [json.loads(line)["error"] for line in err.splitlines() if line.startswith(b"{")]
    return process.returncode, json.loads(out) if out else None, errors


def interrupt(process):
    """End it early, as Ctrl-C does, since the test's other work may take long."""
    process.send_signal(signal.SIGINT)
    code, report, errors = end_of(process)
    assert code == -signal.SIGINT
    return report, errors


def marked(databases, mark):
    """The entities of a run."""
    return [row for row in entities(databases) if row[2].get("bench") == mark]


def check_sums(report):
    """The figures of the operations add up."""
    latency = report["latency_ns"]
    assert set(latency) == {"put", "get", "merge", "modify", "delete"}
    assert report["succeeded"] == sum(verb["count"] for verb in latency.values())
    assert report["succeeded"] == sum(report["succeeded_each_second"])
    assert report["failed"] == sum(report["failed_each_second"])
    assert report["failed"] == sum(error["count"] for error in report["errors"].values())
    assert report["per_second"] == pytest.approx(report["succeeded"] / report["duration"])
    for verb in latency.values():
        if verb["count"] == 0:
            continue
        assert sum(count for _, count in verb["buckets"]) == verb["count"]
        assert verb["buckets"][-1][0] == verb["max"]
        order = ["min", "p50", "p75", "p90", "p95", "p99", "p99.9", "p99.99", "max"]
        assert [verb[name] for name in order] == sorted(verb[name] for name in order)
        assert verb["min"] <= verb["mean"] <= verb["max"]


# ---- what is measured ----


@pytest.mark.threads
@pytest.mark.parametrize("rate", [None, 300])
@pytest.mark.parametrize("via, batch", [("store", 1), ("store", 7), ("lane", 1), ("pool", 1)])
@pytest.mark.parametrize("work", ["put", "get", "mix"])
def test_the_report_agrees_with_the_servers(store, servers, work, via, batch, rate):
    more = ["--rate", rate] if rate else []
    more += ["--batch", batch] if batch > 1 else []
    more += [] if work == "put" else ["--entities", 50]
    report = bench(store, work, "--via", via, "--keep", *more).ok().json()
    assert report["complete"] and report["failed"] == 0 and report["succeeded"] > 0
    check_sums(report)
    latency = report["latency_ns"]
    assert (latency["put"]["count"] > 0) == (work != "get")
    assert (latency["get"]["count"] > 0) == (work != "put")
    assert report["stored"] == latency["put"]["count"] + (0 if work == "put" else 50)
    found = marked(servers, report["settings"]["bench"])
    assert len(found) == len(entities(servers)) == report["stored"]
    assert {kind for _, kind, _ in found} == {KIND}
    assert {len(body) for _, _, body in found} == {3}
    assert report["removed"] is None
    if rate:
        assert report["succeeded"] + report["missed"] == rate
    else:
        assert report["missed"] == 0


@pytest.mark.threads
@pytest.mark.parametrize("rate", [None, 300])
@pytest.mark.parametrize(
    "work, write, batch",
    [
        (["merge"], "merge", 1),
        (["merge"], "merge", 7),
        (["modify"], "modify", 1),
        (["mix", "--writes", "merge"], "merge", 1),
        (["mix", "--writes", "merge"], "merge", 7),
        (["mix", "--writes", "modify"], "modify", 1),
    ],
)
def test_changes_are_measured_and_are_there_afterwards(store, servers, work, write, batch, rate):
    more = ["--entities", 20, "--keep", *(["--rate", rate] if rate else [])]
    more += ["--batch", batch] if batch > 1 else []
    report = bench(store, *work, *more).ok().json()
    assert report["complete"] and report["failed"] == 0
    check_sums(report)
    latency = report["latency_ns"]
    assert latency[write]["count"] > 0 and latency["put"]["count"] == 0
    assert (latency["get"]["count"] > 0) == (work[0] == "mix")
    assert report["settings"]["writes"] == write
    assert report["stored"] == 20 and report["deleted"] == 0
    found = marked(servers, report["settings"]["bench"])
    assert len(found) == len(entities(servers)) == 20
    changed = [int(body["changed"]) for _, _, body in found if "changed" in body]
    assert changed and {len(body) for _, _, body in found} <= {3, 4}
    if write == "modify":  # each made the number one higher, and none was lost
        assert sum(changed) == latency["modify"]["count"]


@pytest.mark.threads
@pytest.mark.parametrize("batch, rate", [(1, None), (7, None), (7, 300)])
def test_deletes_are_measured_until_nothing_is_left(store, servers, batch, rate):
    more = ["--entities", 100, "--batch", batch, "--seconds", 60]
    more += ["--rate", rate] if rate else []
    report = hv("bench", "delete", "--json", *more, config=store).ok().json()
    assert report["complete"] and report["failed"] == 0 and report["missed"] == 0
    check_sums(report)
    assert report["latency_ns"]["delete"]["count"] == report["stored"] == report["deleted"] == 100
    assert report["removed"] == 0 and report["duration"] < 60
    assert entities(servers) == []
    shown = hv("bench", "delete", *more, config=store).ok().out
    assert "all entities were deleted before the time was over" in shown
    assert "100 entities were put, 100 deleted, 0 removed" in shown


def test_deletes_that_the_warm_up_uses_up_are_not_measured(store, servers):
    more = ["--entities", 20, "--warmup", 60]
    result = hv("bench", "delete", *more, config=store)
    assert result.code == 1
    assert "nothing was measured: all entities were deleted during the warm-up" in result.out
    assert entities(servers) == []


def test_deletes_that_end_in_time_leave_the_others_to_be_removed(store, servers):
    report = bench(store, "delete", "--rate", 20, "--entities", 500).ok().json()
    assert report["stored"] == 500 and report["succeeded"] + report["missed"] == 20
    assert 0 < report["deleted"] <= 20
    assert report["removed"] == report["stored"] - report["deleted"]
    assert entities(servers) == []


def test_a_change_of_an_entity_that_is_gone_is_an_error(store, servers):
    for work in ("merge", "modify"):
        process = start(store, work, "-t", 60, "-n", 2, "--entities", 64, "--rate", 20)
        eventually(lambda: len(entities(servers)) == 64)
        for database, shards in zip(servers, SHARDS):
            for shard in shards:
                database.sql(f"DELETE FROM shard{shard:04}.entities")
        for database in servers:
            await_statement(database)
        report, _ = interrupt(process)
        assert set(report["errors"]) == {"HV_NOT_FOUND"}
        check_sums(report)


def test_operations_of_one_call_count_from_when_each_was_due(store):
    batches = ["--seconds", 4, "--rate", 25, "--batch", 50, "-n", 1]
    report = bench(store, "put", *batches).ok().json()
    latency = report["latency_ns"]["put"]
    assert (report["settings"]["batch"], latency["count"] + report["missed"]) == (50, 100)
    assert latency["max"] >= 1_960_000_000  # the first waits for the 49 that come after it
    assert latency["min"] < 1_960_000_000


def test_lanes_can_be_measured_where_they_are_turned_off(tmp_path, servers):
    path = store_config(tmp_path / "hv.conf", {"one": (servers[0], "1-5")}, lanes=0)
    hv("init", config=path).ok()
    assert bench(path, "put").ok().json()["settings"]["lanes"] == 0
    assert bench(path, "put", "--via", "lane").ok().json()["settings"]["lanes"] == 2


def test_the_warm_up_does_not_count(store):
    report = bench(store, "put", "--warmup", 2, "--rate", 100).ok().json()
    assert report["succeeded"] + report["missed"] == 100
    assert report["stored"] > report["succeeded"]
    assert report["removed"] == report["stored"]


def test_at_a_rate_a_stall_is_counted_by_all_that_were_due(own_store, own_servers):
    process = start(own_store, "put", "-t", 6, "-n", 8, "--rate", 100)
    eventually(lambda: entities(own_servers))
    with own_servers[0].server.frozen(), own_servers[1].server.frozen():
        time.sleep(1)  # the stall
    code, report, _ = end_of(process)
    assert code == 0
    slow = [count for limit, count in report["latency_ns"]["put"]["buckets"] if limit > 250_000_000]
    assert sum(slow) > 50  # of the 75 that were due in the stall's first three quarters
    check_sums(report)


def test_a_rate_that_is_too_high_is_reported(store):
    report = bench(store, "put", "--rate", 1_000_000, "-n", 1).ok().json()
    assert report["missed"] + report["succeeded"] == 1_000_000
    shown = hv("bench", "put", *QUICK, "--rate", 1_000_000, "-n", 1, config=store).ok()
    assert re.search(r"\n[\d,]+ operations were due and had not begun at the end", shown.out)


def test_connections_and_cpu_time_are_reported_for_each_server(store, servers):
    report = bench(store, "put", "--seconds", 2).ok().json()
    one, two = report["servers"]
    assert (one["name"], two["name"]) == ("one", "two")
    for server in (one, two):
        assert 1 <= server["pool"]["open"] <= 4
        assert server["pool"]["loans"] > 0
    # Both servers are on this machine, one reached by its socket, one by TCP.
    assert one["cpu_us"] > 0 and two["cpu_us"] > 0
    assert report["servers_cpu_us"] == one["cpu_us"] + two["cpu_us"]
    assert report["client_cpu_us"] > 0


def test_two_databases_of_one_server_are_one_server_to_the_cpu_time(tmp_path, server):
    other = server.server.create_database()
    try:
        config = store_config(tmp_path / "a.conf", {"a": (server, "0-2"), "b": (other, "2-4")})
        hv("init", config=config).ok()
        report = bench(config, "put").ok().json()
        a, b = report["servers"]
        assert report["servers_cpu_us"] == a["cpu_us"] == b["cpu_us"] > 0
    finally:
        other.drop()


# ---- what is put ----


def test_entities_go_to_the_shards_that_were_chosen(store, servers):
    bench(store, "mix", "--shards", "2-4, 12", "--entities", 30, "--kind", -7, "--keep").ok()
    assert {(shard, kind) for shard, kind, _ in entities(servers)} == {(2, -7), (3, -7), (12, -7)}


@pytest.mark.parametrize("size", [0, 1000])
def test_a_value_has_the_size_that_was_asked_for(store, servers, size):
    report = bench(store, "mix", "--value-size", size, "--entities", 5, "--keep").ok().json()
    assert report["settings"]["value_size"] == size
    assert {len(body["value"]) for _, _, body in entities(servers)} == {size}


@pytest.mark.parametrize("options", [{"prepare": "off"}, {"prepared_max": 3}])
def test_borrowed_connections_respect_the_options_of_prepared_statements(
    store, servers, tmp_path, options
):
    one, two = servers
    config = store_config(
        tmp_path / "b.conf", {"one": (one, "1-9"), "two": (two, "9-17")}, pool_max=1, **options
    )
    logs = [(database.server, database.server.log_size()) for database in servers]
    process = start(config, "mix", "-t", 60, "-n", 4, "--entities", 20, "--via", "pool")
    eventually(lambda: len(entities(servers)) > 40)  # each shard was used
    report, _ = interrupt(process)
    assert report["failed"] == 0
    assert report["removed"] == report["stored"]
    # A statement that is no longer known, or prepared twice, would appear in the log as an error.
    for server, since in logs:
        assert "bench_" not in server.log_text(since)


# ---- removing ----


def test_nothing_of_others_is_touched(store, servers):
    """The kind, the attribute or the time alone is not enough, nor are two of them."""
    hv("put", 2, KIND, "a=b", config=store).ok()
    hv("put", 2, KIND, "bench=0123456789abcdef", config=store).ok()
    hv("put", 12, 1, "a=b", config=store).ok()
    before = entities(servers)
    process = start(store, "put", "-t", 60, "-n", 2)
    ours = eventually(lambda: [row for row in entities(servers) if row not in before])
    mark = ours[0][2]["bench"]
    hv("put", 2, 1, f"bench={mark}", config=store).ok()  # of another kind
    old = 307821103844175873  # shard 12, long ago
    servers[1].sql(
        "INSERT INTO shard0012.entities (id, type, body) VALUES (%s, %s, hstore('bench', %s))",
        old,
        KIND,
        mark,
    )
    report, _ = interrupt(process)
    assert report["removed"] == report["stored"] > 0
    left = entities(servers)
    assert sorted(map(str, left)) == sorted(
        map(str, before + [(2, 1, {"bench": mark}), (12, KIND, {"bench": mark})])
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_after_an_interrupt_the_result_is_reported_and_nothing_is_left(store, servers, number):
    process = start(store, "put", "-t", 60)
    eventually(lambda: len(entities(servers)) > 20)
    process.send_signal(number)
    code, report, _ = end_of(process)
    assert code == -number
    assert not report["complete"]
    assert report["succeeded"] > 20 and report["duration"] < 60
    check_sums(report)
    assert report["removed"] == report["stored"]
    assert entities(servers) == []


@pytest.mark.threads
def test_an_interrupt_while_entities_are_put_for_gets_leaves_nothing(store, servers):
    process = start(store, "get", "--entities", 10_000_000)
    eventually(lambda: len(entities(servers)) > 20)
    process.send_signal(signal.SIGINT)
    code, report, _ = end_of(process)
    assert code == -signal.SIGINT
    assert "succeeded" not in report
    assert report["removed"] == report["stored"] > 20
    assert entities(servers) == []


def test_a_second_interrupt_ends_it_at_once(own_store, own_servers):
    process = start(own_store, "put", "-t", 60)
    eventually(lambda: entities(own_servers))
    with own_servers[0].server.frozen(), own_servers[1].server.frozen():
        process.send_signal(signal.SIGINT)
        status = f"/proc/{process.pid}/status"

        def first_was_taken():
            with open(status, encoding="ascii") as file:
                pending = [line.split()[1] for line in file if line.startswith(("ShdPnd", "SigPnd"))]
            return all(int(mask, 16) == 0 for mask in pending)

        eventually(first_was_taken)
        process.send_signal(signal.SIGINT)
        assert process.wait(25) == -signal.SIGINT  # an operation may take 30 s
    process.communicate()


def test_a_reader_that_has_seen_enough_does_not_keep_it_from_removing(store, servers):
    process = spawn("hv", "bench", "put", *QUICK, config=store)
    process.stdout.close()
    assert process.wait(TIMEOUT) != 0
    process.stdin.close()
    process.stderr.close()
    assert entities(servers) == []


# ---- errors ----


@pytest.mark.threads
def test_what_the_server_refuses_is_counted_and_shown(store, servers):
    servers[0].sql("ALTER TABLE shard0003.entities ADD CONSTRAINT no_bench CHECK (type < 32767)")
    for via in ("store", "pool"):
        result = bench(store, "put", "--via", via)
        assert result.code == 1
        report = result.json()
        assert report["complete"] and report["succeeded"] > 0
        assert list(report["errors"]) == ["HV_REFUSED"]
        assert "no_bench" in report["errors"]["HV_REFUSED"]["first"]
        check_sums(report)
    shown = hv("bench", "put", *QUICK, "--shards", 3, config=store)
    assert shown.code == 1
    assert re.search(r"\nHV_REFUSED +[\d,]+ +.*no_bench", shown.out)
    assert entities(servers) == []


def await_statement(database):
    """Wait until a statement of others has ended that began after this call."""
    now = database.value("SELECT clock_timestamp()")
    ended = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND application_name <> %s AND state = 'idle' AND query_start > %s"
    )
    eventually(lambda: database.value(ended, HARNESS, now))


def test_answers_are_compared_with_what_was_put(store, servers):
    for via in ("store", "pool"):
        process = start(store, "get", "-t", 60, "-n", 2, "--entities", 32, "--via", via)
        eventually(lambda: len(entities(servers)) == 32)
        for shard in SHARDS[0]:
            servers[0].sql(f"DELETE FROM shard{shard:04}.entities")
        for shard in SHARDS[1]:
            servers[1].sql(f"UPDATE shard{shard:04}.entities SET body = body || 'more=>1'")
        for database in servers:
            await_statement(database)
        report, _ = interrupt(process)
        assert set(report["errors"]) == {"HV_NOT_FOUND", "HV_CORRUPT"}
        check_sums(report)
        assert (report["stored"], report["removed"]) == (32, 16)
        assert entities(servers) == []


def test_a_server_that_goes_down_counts_errors_and_what_is_left_is_reported(own_store, own_servers):
    one, two = own_servers
    process = start(own_store, "put", "-t", 60)
    eventually(lambda: one.value("SELECT count(*) FROM shard0001.entities") > 0)
    eventually(lambda: two.value("SELECT count(*) FROM shard0009.entities") > 0)
    two.server.stop()
    before = one.value("SELECT count(*) FROM shard0001.entities")
    # Half of the operations are for the server that is down: some of them have failed then.
    eventually(lambda: one.value("SELECT count(*) FROM shard0001.entities") > before + 10)
    report, errors = interrupt(process)
    assert report["failed"] > 0 and "HV_UNAVAILABLE" in report["errors"]
    assert report["succeeded"] > 0
    check_sums(report)
    assert report["removed"] < report["stored"]
    assert report["servers"][1]["cpu_us"] is None and report["servers_cpu_us"] is None
    left = errors[-1]
    assert left["message"] == 'entities of this run may be left on server "two"'
    two.server.start()
    assert all(body["bench"] == report["settings"]["bench"] for _, _, body in entities(own_servers))
    # The hint says how to remove them.
    statement = re.search(r"DELETE FROM .*", left["hint"]).group()
    for shard in SHARDS[1]:
        two.sql(statement.replace("shard0009", f"shard{shard:04}"))
    assert entities(own_servers) == []


@pytest.mark.threads
def test_a_server_that_comes_back_is_cleaned_too(own_store, own_servers):
    two = own_servers[1]
    process = start(own_store, "put", "-t", 60)
    eventually(lambda: two.value("SELECT count(*) FROM shard0009.entities") > 0)
    two.server.kill9()
    two.server.start()
    report, errors = interrupt(process)
    assert report["failed"] > 0 and errors == []
    assert report["stored"] <= report["removed"] <= report["stored"] + report["outcome_unknown"]
    assert entities(own_servers) == []


def test_a_server_that_is_down_at_the_start_is_an_error_before_anything_is_put(
    own_store, own_servers
):
    own_servers[1].server.stop()
    result = bench(own_store, "put")
    assert (result.code, result.out) == (1, "")
    error = json.loads(result.err)["error"]
    assert (error["status"], error["server"]) == ("HV_UNAVAILABLE", "two")
    # It does not matter to a run that does not use it.
    report = bench(own_store, "put", "--shards", "1-9").ok().json()
    assert report["removed"] == report["stored"]
    assert report["servers_cpu_us"] == report["servers"][0]["cpu_us"]


def test_shards_that_were_not_made_are_an_error(config):
    result = bench(config, "put")
    assert (result.code, result.out) == (1, "")
    errors = [json.loads(line)["error"] for line in result.err.splitlines()]
    assert {error["status"] for error in errors} == {"HV_NOT_INITIALIZED"}
    assert all("hv init" in error["hint"] for error in errors)


def test_without_the_right_to_remove_nothing_is_put_unless_it_is_to_be_kept(
    store, servers, tmp_path
):
    one, _ = servers
    role = f"app_{one.dbname}"
    one.sql(f'CREATE ROLE "{role}" LOGIN')
    try:
        one.sql(f'GRANT USAGE ON SCHEMA hypervault, shard0003 TO "{role}"')
        one.sql(f'GRANT SELECT ON hypervault.layout TO "{role}"')
        one.sql(f'GRANT SELECT, INSERT ON shard0003.entities TO "{role}"')
        one.sql(f'GRANT USAGE ON SEQUENCE shard0003.table_id_seq TO "{role}"')
        path = store_config(tmp_path / "r.conf", {"one": ({**one.params(), "user": role}, "1-9")})
        refused = bench(path, "put", "--shards", 3)
        assert refused.code == 1
        assert "--keep" in json.loads(refused.err)["error"]["hint"]
        assert entities(servers) == []
        report = bench(path, "put", "--shards", 3, "--keep").ok().json()
        assert len(entities(servers)) == report["stored"] > 0
    finally:
        one.sql(f'DROP OWNED BY "{role}"; DROP ROLE "{role}"')


@pytest.mark.parametrize(
    "args, message",
    [
        ([], "arguments are missing"),
        (["remove"], 'no "remove" to measure'),
        (["put", "get"], 'unexpected argument "get"'),
        (["put", "--callers", "1025"], "1025"),
        (["put", "--seconds", "0"], "--seconds"),
        (["put", "--rate", "fast"], "fast"),
        (["put", "--mix", "50"], "--mix"),
        (["merge", "--writes", "put"], "--writes"),
        (["mix", "--writes", "delete"], 'a mix cannot have "delete"'),
        (["modify", "--batch", "2"], "--batch is not for modify"),
        (["mix", "--writes", "modify", "--batch", "2"], "--batch is not for modify"),
        (["merge", "--via", "pool"], "--via pool is for puts and gets"),
        (["delete", "--via", "pool"], "--via pool is for puts and gets"),
        (["mix", "--mix", "101"], "101"),
        (["put", "--entities", "5"], "--entities"),
        (["put", "--via", "magic"], "magic"),
        (["put", "--kind", "32768"], "32768"),
        (["put", "--shards", "9-1"], "9-1"),
        (["put", "--shards", "1,1"], "twice"),
        (["put", "--shards", "4-40"], "shard 17 of --shards is on no server"),
        (["put", "--value-size", "67108864", "--callers", "17"], "too much"),
    ],
)
def test_wrong_arguments_are_explained(config, args, message):
    refused = hv("bench", *args, config=config)
    assert (refused.code, refused.out) == (2, "")
    assert message in refused.err


# ---- what people see ----


def shown_on_terminal(*args, **how):
    """The output of a command on a terminal: (standard output, standard error)."""
    streams, shown = {}, []
    ends = [pty.openpty() for _ in range(2)]
    for name, (_, theirs) in zip(("stdout", "stderr"), ends):
        subprocess.run(["stty", "-F", os.ttyname(theirs), "cols", "100"], check=True)
        streams[name] = theirs
    process = spawn("hv", *args, env={"TERM": "xterm"}, **streams, **how)
    for _, theirs in ends:
        os.close(theirs)
    for ours, _ in reversed(ends):  # few enough bytes to wait in the terminal
        text = b""
        while True:
            try:
                piece = os.read(ours, 65536)
            except OSError:  # the other side is closed
                break
            text += piece
        os.close(ours)
        shown.insert(0, text.decode("utf-8"))
    process.stdin.close()
    assert process.wait(TIMEOUT) == 0
    return shown


def test_a_terminal_shows_progress_and_a_bar_for_each_second(store):
    out, err = shown_on_terminal(
        "bench", "mix", "-t", 2, "--warmup", 0, "--entities", 500, config=store
    )
    assert re.search(r"mix .*█.* operations +[\d,]+/s", err)
    assert "removing" in err or "preparing" in err
    assert re.search(r"each second  \x1b\[36m[▁▂▃▄▅▆▇█]{2}\x1b\[0m  [\d,]+ to [\d,]+", out)


def test_a_pipe_gets_a_table_and_no_progress(store):
    result = hv("bench", "mix", "-t", 2, "--warmup", 0, "--entities", 50, config=store).ok()
    assert result.err == ""
    assert "\x1b" not in result.out and "█" not in result.out
    assert f"kind {KIND}" in result.out
    rows = {line.split()[0]: line.split() for line in result.lines if line}
    assert rows["operation"][:4] == ["operation", "done", "per", "second"]
    done = [int(rows[name][1].replace(",", "")) for name in ("put", "get", "both")]
    assert done[0] + done[1] == done[2]
    assert "no errors" in result.lines
    assert re.fullmatch(r"([\d,]+) entities were put, \1 removed", result.lines[-1])
