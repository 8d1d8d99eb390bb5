"""hv import when something goes wrong on the way: interrupts, lost servers, full disks.

What holds after each: the rows up to the one that the summary names are stored or in the rejects
file, those behind it are neither, and going on with --skip completes the import.
"""

import json
import os
import pathlib
import resource
import signal
import threading

import pytest

from harness import eventually, hv, spawn, store_config
from importing import SHARDS, bodies, count, import_file, numbers, rejects, write_numbers

ROWS = 30000


def start_import(store, path, *args, **popen):
    """Start `hv import PATH --kind 1 --json` in the file's folder; for - in a folder of ours."""
    folder = None if path == "-" else pathlib.Path(path).parent
    return spawn("hv", "import", path, "--kind", 1, "--json", *args, config=store, cwd=folder, **popen)


def end_of(process, timeout=120):
    """Wait for the end: (exit code, summary, errors)."""
    out, err = process.communicate(timeout=timeout)
    errors = [json.loads(line)["error"] for line in err.splitlines() if line.startswith(b"{")]
    return process.returncode, json.loads(out) if out else None, errors


def rejected_lines(folder):
    """The lines of all rejects files in a folder; of those rows that may be stored, apart."""
    rows = [row for path in folder.glob("*.rejects*") for row in rejects(path)]
    unknown = {row["line"] for row in rows if row["status"] == "HV_OUTCOME_UNKNOWN"}
    return {row["line"] for row in rows} - unknown, unknown


def check_prefix(summary, servers, folder):
    """What is stored or rejected is exactly the beginning of the file that the summary names. The
    file's rows are those of write_numbers(path, 1, …)."""
    stored = numbers(servers)
    rejected, unknown = rejected_lines(folder)
    assert len(stored) == len(set(stored)), "a row was stored twice"
    assert not rejected & set(stored), "a rejected row was stored"
    assert set(stored) | rejected | unknown == set(range(1, summary["last_row"] + 1))
    assert summary["stored"] == len(set(stored) - unknown)
    assert summary["rejected"] == len(rejected) + len(unknown)
    assert summary["outcome_unknown"] == len(unknown)
    assert summary["last_line"] == summary["last_row"]


def go_on(store, path, summary):
    """Import the rest of the file."""
    return import_file(store, path, "--skip", summary["last_row"]).json()


def check_all_there(servers, folder, rows=ROWS):
    """Every row is stored once, or in a rejects file."""
    stored = numbers(servers)
    rejected, unknown = rejected_lines(folder)
    assert len(stored) == len(set(stored)), "a row was stored twice"
    assert set(stored) | rejected | unknown == set(range(1, rows + 1))
    assert not rejected & set(stored)


# ---- interrupts ----


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_after_an_interrupt_the_summary_says_what_is_stored(store, servers, tmp_path, number):
    path = write_numbers(tmp_path / "x.ndjson", 1, ROWS)
    process = start_import(store, path)
    eventually(lambda: count(servers) > 500)
    process.send_signal(number)
    code, summary, errors = end_of(process)
    assert code == -number and errors == []
    assert not summary["complete"] and 500 < summary["stored"] < ROWS
    check_prefix(summary, servers, tmp_path)
    assert go_on(store, path, summary)["complete"]
    assert numbers(servers) == list(range(1, ROWS + 1))


def test_an_interrupt_ends_the_wait_for_a_silent_input(store, servers, tmp_path):
    process = start_import(store, "-", "--format", "csv")
    process.stdin.write(b"n\n1\n2\n3\n4")  # the last one may go on
    process.stdin.flush()
    eventually(lambda: count(servers) == 3)
    process.send_signal(signal.SIGINT)
    code, summary, _ = end_of(process)
    assert code == -signal.SIGINT
    assert (summary["stored"], summary["last_row"], summary["last_line"]) == (3, 3, 4)
    assert numbers(servers) == [1, 2, 3]


def test_an_interrupt_lets_rows_under_way_finish_and_a_second_one_does_not(
    own_store, own_servers, tmp_path
):
    path = write_numbers(tmp_path / "x.ndjson", 1, ROWS)
    process = spawn("hv", "import", path, "--kind", 1, config=own_store, cwd=tmp_path)
    eventually(lambda: count(own_servers) > 500)
    with own_servers[1].server.frozen():
        process.send_signal(signal.SIGINT)
        assert b"finishing what is under way" in process.stderr.readline()
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == -signal.SIGINT


def test_an_interrupt_ends_retries(store, servers, tmp_path):
    """The rows that are being retried are neither stored nor rejected: they come after the rest."""
    servers[0].sql(
        "CREATE FUNCTION conflict() RETURNS trigger LANGUAGE plpgsql AS"
        " $$BEGIN RAISE SQLSTATE '40001'; END$$;"
        "CREATE TRIGGER conflict BEFORE INSERT ON shard0003.entities"
        " FOR EACH ROW WHEN (new.body->'n' = '51') EXECUTE FUNCTION conflict()"
    )
    path = write_numbers(tmp_path / "x.ndjson", 1, 51)
    process = start_import(store, path, "--shard", 3, "--retry-for", "1h")
    eventually(lambda: count(servers) == 50)
    process.send_signal(signal.SIGTERM)
    code, summary, _ = end_of(process)
    assert code == -signal.SIGTERM
    assert (summary["last_row"], summary["stored"], summary["rejected"]) == (50, 50, 0)
    check_prefix(summary, servers, tmp_path)


# ---- servers that go and come ----


def test_a_server_killed_and_started_again_costs_no_row(own_store, own_servers, tmp_path):
    path = write_numbers(tmp_path / "x.ndjson", 1, ROWS)
    process = start_import(own_store, path)
    eventually(lambda: count(own_servers) > 1000)
    own_servers[1].server.kill9()
    own_servers[1].server.start()
    code, summary, errors = end_of(process)
    assert errors == [] and summary["complete"] and summary["last_row"] == ROWS
    check_prefix(summary, own_servers, tmp_path)
    # What broke before the answer came, and nothing else, is rejected.
    rejected, unknown = rejected_lines(tmp_path)
    assert rejected == set() and len(unknown) <= 10  # as many as the server had connections
    assert code == (1 if unknown else 0)


def test_exactly_once_leaves_no_row_in_doubt(own_store, own_servers, tmp_path):
    path = write_numbers(tmp_path / "x.ndjson", 1, 10000)
    process = start_import(own_store, path, "--exactly-once")
    eventually(lambda: count(own_servers) > 1000)
    own_servers[1].server.kill9()
    own_servers[1].server.start()
    code, summary, errors = end_of(process)
    assert (code, errors, summary["stored"]) == (0, [], 10000)
    assert numbers(own_servers) == list(range(1, 10001))


def test_a_server_shut_down_and_started_again_costs_no_row(own_store, own_servers, tmp_path):
    path = write_numbers(tmp_path / "x.ndjson", 1, ROWS)
    process = start_import(own_store, path)
    eventually(lambda: count(own_servers) > 1000)
    own_servers[0].server.restart()
    _, summary, errors = end_of(process)
    assert errors == [] and summary["complete"] and summary["last_row"] == ROWS
    check_prefix(summary, own_servers, tmp_path)
    assert rejected_lines(tmp_path)[0] == set()


def test_rows_whose_connection_breaks_are_reported_as_unknown(
    own_servers, own_store, relay, tmp_path
):
    one, two = own_servers
    link = relay(two.server)
    store = store_config(
        tmp_path / "relay.conf", {"one": (one, "1-9"), "two": (link.params("test"), "9-17")}
    )
    path = write_numbers(tmp_path / "x.ndjson", 1, 500)
    link.cut_after("to_client", 20000)
    code, summary, _ = end_of(start_import(store, path, "--jobs", 1, "--shard", 12))
    assert summary["complete"]
    check_prefix(summary, own_servers, tmp_path)
    (row,) = rejects(tmp_path / "x.ndjson.rejects")
    assert row["status"] == "HV_OUTCOME_UNKNOWN"
    assert row["reason"].startswith("may or may not be stored: ")
    assert row["shard"] == 12
    assert code == 1


def test_a_server_that_stays_away_ends_the_import_and_it_can_go_on(
    own_store, own_servers, tmp_path
):
    path = write_numbers(tmp_path / "x.ndjson", 1, ROWS)
    process = start_import(own_store, path, "--retry-for", "500ms")
    eventually(lambda: count(own_servers) > 1000)
    own_servers[1].server.stop("immediate")
    code, summary, errors = end_of(process)
    assert code == 1 and not summary["complete"]
    assert len(errors) == 1 and errors[0]["server"] == "two"
    own_servers[1].server.start()
    check_prefix(summary, own_servers, tmp_path)
    assert go_on(own_store, path, summary)["complete"]
    check_all_there(own_servers, tmp_path)


def test_transient_errors_are_retried_until_the_row_is_stored(store, servers, tmp_path):
    for database, shards in zip(servers, SHARDS):
        database.sql(
            "CREATE SEQUENCE attempts;"
            "CREATE FUNCTION conflict() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN"
            " IF nextval('public.attempts') % 3 <> 0 THEN RAISE SQLSTATE '40001'; END IF;"
            " RETURN new; END$$"
        )
        for shard in shards:
            database.sql(
                f"CREATE TRIGGER conflict BEFORE INSERT ON shard{shard:04}.entities"
                " FOR EACH ROW EXECUTE FUNCTION public.conflict()"
            )
    summary = import_file(store, write_numbers(tmp_path / "x.ndjson", 1, 200)).ok().json()
    assert (summary["stored"], summary["rejected"]) == (200, 0)
    assert numbers(servers) == list(range(1, 201))


def test_a_row_that_conflicts_for_too_long_is_rejected_and_the_others_stored(
    store, servers, tmp_path
):
    servers[0].sql(
        "CREATE FUNCTION conflict() RETURNS trigger LANGUAGE plpgsql AS"
        " $$BEGIN RAISE SQLSTATE '40001' USING MESSAGE = 'in the way'; END$$;"
        "CREATE TRIGGER conflict BEFORE INSERT ON shard0003.entities"
        " FOR EACH ROW WHEN (new.body->'n' = '7') EXECUTE FUNCTION conflict()"
    )
    path = write_numbers(tmp_path / "x.ndjson", 1, 20)
    result = import_file(store, path, "--shard", 3, "--retry-for", "300ms")
    assert result.code == 1 and result.json()["complete"]
    (row,) = rejects(tmp_path / "x.ndjson.rejects")
    assert (row["line"], row["status"], row["shard"]) == (7, "HV_REFUSED", 3)
    assert "in the way" in row["reason"]
    assert numbers(servers) == [n for n in range(1, 21) if n != 7]


# ---- rejected rows that cannot be written ----


def test_a_full_disk_for_rejected_rows_ends_the_import(store, servers, tmp_path):
    path = tmp_path / "x.ndjson"
    path.write_text("".join(f'{{"n":{n}}}\n' if n % 1000 else "bad\n" for n in range(1, 5001)))
    result = import_file(store, path, "--rejects", "/dev/full")
    summary = result.json()
    assert result.code == 1 and not summary["complete"]
    assert "could not write to \\\"/dev/full\\\": No space left on device" in result.err
    assert "--rejects FILE" in result.err
    # Nothing is lost without a word: the row at which it ended is either still to come, or named.
    assert summary["rejects"] is None
    stored = set(numbers(servers))
    decided = set(range(1, summary["last_row"] + 1))
    assert summary["lost"] == len(decided - stored) == summary["rejected"]
    for line in decided - stored:
        assert f"the row of line {line} was rejected" in result.err
    assert stored <= decided
    go_on(store, path, summary)
    lost = len(decided - stored)
    assert numbers(servers) == [n for n in range(1, 5001) if n % 1000]
    assert len(rejects(tmp_path / "x.ndjson.rejects")) == 5 - lost


def test_a_disk_that_fills_up_leaves_whole_lines(store, tmp_path):
    """Here the disk is a limit on the size of files."""
    path = tmp_path / "x.ndjson"
    path.write_text("{}\n" + "".join(f"bad {n} {'x' * 300}\n" for n in range(400)) + "{}\n" * 10)
    process = start_import(
        store,
        path,
        "--jobs",
        1,
        preexec_fn=lambda: (
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN),
            resource.setrlimit(resource.RLIMIT_FSIZE, (10000, 10000)),
        ),
    )
    code, summary, errors = end_of(process)
    assert code == 1 and "File too large" in errors[0]["message"]
    found = rejects(tmp_path / "x.ndjson.rejects")
    assert len(found) == summary["rejected"] > 10 and summary["stored"] == 1
    assert summary["last_row"] == 1 + len(found)


def test_a_pipe_for_rejected_rows_that_nobody_reads_any_more_ends_the_import(
    store, servers, tmp_path
):
    os.mkfifo(tmp_path / "pipe")
    path = tmp_path / "x.ndjson"
    path.write_text("{}\n" + f"bad {'x' * 1000}\n" * 1000)  # more than a pipe holds
    process = start_import(store, path, "--rejects", tmp_path / "pipe", "--jobs", 1)
    with open(tmp_path / "pipe", "rb") as pipe:
        pipe.readline()
    code, summary, errors = end_of(process)
    assert code == 1 and not summary["complete"]
    assert "Broken pipe" in errors[0]["message"]
    assert 1 < summary["last_row"] < 1000
    assert count(servers) == 1


# ---- inputs that fail on the way ----


def test_an_input_that_grows_is_read_to_its_end(store, servers, tmp_path):
    """Standard input in pieces, with rows and characters cut anywhere."""
    text = "".join(f'{{"n":{n},"x":"é€😀"}}\n' for n in range(300)).encode()
    process = start_import(store, "-")

    def write():
        for at in range(0, len(text), 7):
            process.stdin.write(text[at : at + 7])
            process.stdin.flush()
        process.stdin.close()

    writer = threading.Thread(target=write)
    writer.start()
    writer.join()
    process.stdin = None
    code, summary, _ = end_of(process)
    assert (code, summary["stored"]) == (0, 300)
    assert numbers(servers) == list(range(300))
    assert {body["x"] for body in bodies(servers)} == {"é€😀"}


def test_two_imports_at_once_do_not_share_a_rejects_file(store, servers, tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("n,m\n" + "".join(f"{n},\n{n}\n" for n in range(200)))
    processes = [start_import(store, path) for _ in range(3)]
    ends = [end_of(process) for process in processes]
    assert {summary["rejects"] for _, summary, _ in ends} == {
        "x.csv.rejects",
        "x.csv.rejects.2",
        "x.csv.rejects.3",
    }
    assert all(len(rejects(found)) == 200 for found in tmp_path.glob("*.rejects*"))
    assert count(servers) == 600


def test_an_import_that_cannot_store_does_not_read_on(store, servers, tmp_path):
    """Otherwise it would take as much memory as the file."""
    row = b'{"n":"' + b"0123456789" * 400000 + b'"}\n'
    given = 0

    def write(stdin):
        nonlocal given
        for _ in range(80):
            stdin.write(row)
            given += 1
        stdin.close()

    with servers[0].connect() as lock:
        lock.autocommit = False
        lock.cursor().execute("LOCK TABLE shard0003.entities")
        process = start_import(store, "-", "--jobs", 8, "--shard", 3)
        writer = threading.Thread(target=write, args=(process.stdin,))
        writer.start()
        seen = -1
        while seen < given:  # until it has taken nothing for a while
            seen = given
            writer.join(2)
        assert given * len(row) < 100e6
        lock.rollback()
    writer.join()
    process.stdin = None
    code, summary, errors = end_of(process)
    assert (code, errors, summary["stored"]) == (0, [], 80)


def test_a_file_that_is_named_like_an_option_is_imported(store, servers, tmp_path):
    write_numbers(tmp_path / "--shard.ndjson", 1, 3)
    hv("import", "-k", 1, "--", "--shard.ndjson", config=store, cwd=tmp_path).ok()
    assert numbers(servers) == [1, 2, 3]
