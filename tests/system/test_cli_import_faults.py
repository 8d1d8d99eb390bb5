"""hv import when something goes wrong on the way: interrupts, kills, lost servers, full disks.

After each of these no row is stored twice, or stored and rejected; and --resume completes the
import, as if nothing had happened.
"""

import json
import os
import pathlib
import resource
import signal
import subprocess
import threading

import pytest

from harness import eventually, hv, spawn, store_config
from importing import (
    SHARDS,
    HeldUp,
    bodies,
    count,
    import_file,
    numbers,
    refuse,
    rejects,
    write_numbers,
)

ROWS = 250000


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
    """The lines of all rejects files in a folder, each of which must be there once."""
    lines = [row["line"] for path in folder.glob("*.rejects*") for row in rejects(path)]
    assert len(lines) == len(set(lines)), "a row was rejected twice"
    return set(lines)


def check_decided(summary, servers, folder):
    """The rows up to the one that the summary names, and none behind it, are stored or rejected, once.
    The file's rows are those of write_numbers(path, 1, …)."""
    stored = numbers(servers)
    rejected = rejected_lines(folder)
    assert len(stored) == len(set(stored)), "a row was stored twice"
    assert not rejected & set(stored), "a rejected row was stored"
    assert set(stored) | rejected == set(range(1, summary["last_row"] + 1))
    assert summary["stored"] == len(stored)
    assert summary["rejected"] == len(rejected)
    assert summary["last_line"] == summary["last_row"]


def go_on(store, path, *args):
    """Import the rest of the file."""
    return import_file(store, path, *args, "--resume").json()


# ---- interrupts ----


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_after_an_interrupt_the_summary_says_what_is_stored(store, servers, tmp_path, number):
    path = write_numbers(tmp_path / "x.ndjson", 1, ROWS)
    with HeldUp(servers, ROWS // 2):
        process = start_import(store, path)
        eventually(lambda: count(servers) > 500)
        process.send_signal(number)
    code, summary, errors = end_of(process)
    assert code == -number and errors == []
    assert not summary["complete"] and 500 < summary["stored"] < ROWS
    check_decided(summary, servers, tmp_path)
    assert go_on(store, path)["complete"]
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
    with HeldUp(own_servers, ROWS // 2):
        process = spawn("hv", "import", path, "--kind", 1, config=own_store, cwd=tmp_path)
        eventually(lambda: count(own_servers) > 500)
        with own_servers[1].server.frozen():
            process.send_signal(signal.SIGINT)
            assert b"finishing what is in progress" in process.stderr.readline()
            assert process.poll() is None
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == -signal.SIGINT  # an operation may take 30 s


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
    check_decided(summary, servers, tmp_path)


# ---- kills ----


@pytest.mark.parametrize("jobs", [1, 3])
def test_an_import_killed_again_and_again_stores_and_rejects_every_row_once(
    store, servers, tmp_path, jobs
):
    refuse(servers, "new.body->'n' LIKE '%77'")
    path = tmp_path / "x.ndjson"
    path.write_text("".join(f'{{"n":{n}}}\n' if n % 1000 else "bad\n" for n in range(1, ROWS + 1)))
    held_up = HeldUp(servers, ROWS - 10)
    for part in range(4):
        before = count(servers)
        with held_up:
            process = start_import(store, path, "--jobs", jobs, "--resume")
            least = before + (500 if part else 0)
            eventually(lambda: count(servers) > least or held_up.reached())
            process.kill()
            process.wait()
    summary = go_on(store, path, "--jobs", jobs)
    assert summary["complete"] and summary["last_row"] == ROWS
    wanted = {n for n in range(1, ROWS + 1) if n % 1000 and n % 100 != 77}
    stored = numbers(servers)
    assert len(stored) == len(wanted) and set(stored) == wanted
    assert rejected_lines(tmp_path) == set(range(1, ROWS + 1)) - wanted
    assert len(list(tmp_path.glob("*.rejects*"))) == 1


def test_standard_input_is_gone_on_with_too(store, servers, tmp_path):
    path = write_numbers(tmp_path / "x.ndjson", 1, ROWS)
    with open(path, "rb") as file:
        process = start_import(store, "-", stdin=subprocess.PIPE)
        for piece in iter(lambda: file.read(1 << 16), b""):
            process.stdin.write(piece)
            if count(servers) > 500:
                break
    process.kill()
    process.communicate()
    hv("import", "-", "-k", 1, "--resume", config=store, input=path.read_bytes()).ok()
    assert numbers(servers) == list(range(1, ROWS + 1))


def test_resume_without_an_import_to_go_on_with_begins_one_and_does_it_once(
    store, servers, tmp_path
):
    path = write_numbers(tmp_path / "x.ndjson", 1, 300)
    first = import_file(store, path, "--resume").ok().json()
    second = import_file(store, path, "--resume").ok().json()
    assert (first["stored"], second["stored"], count(servers)) == (300, 0, 300)
    assert first["import"] == second["import"]
    import_file(store, path, "--again").ok()  # without --resume it is another import
    assert count(servers) == 600


def stopped_import(store, servers, path, *args, held_at=ROWS // 2, rows=100):
    """Begin an import and interrupt it when more rows than these are stored."""
    with HeldUp(servers, held_at):
        process = start_import(store, path, *args)
        eventually(lambda: count(servers) > rows)
        process.send_signal(signal.SIGINT)
    _, summary, _ = end_of(process)
    assert not summary["complete"]


def test_an_import_is_not_gone_on_with_by_other_options(store, servers, tmp_path):
    path = write_numbers(tmp_path / "x.ndjson", 1, ROWS)
    stopped_import(store, servers, path)
    before = count(servers)
    refused = import_file(store, path, "--by", "n", "--resume")
    assert refused.code == 1 and "other options" in refused.err
    assert count(servers) == before


def test_an_input_that_was_changed_meanwhile_is_noticed(store, servers, tmp_path):
    """Not at its beginning, nor in its length."""
    path = write_numbers(tmp_path / "x.ndjson", 100001, 100000 + ROWS)
    stopped_import(store, servers, path, held_at=100000 + ROWS // 2, rows=8000)
    before = count(servers)
    text = path.read_bytes()
    at = text.index(b'{"n":106000}')  # behind the first 64 KiB
    path.write_bytes(text[:at] + b'{"n":999999}' + text[at + 12 :])
    refused = import_file(store, path, "--resume")
    assert refused.code == 1 and not refused.json()["complete"]
    assert "is not the input that this import was begun with" in refused.err
    assert count(servers) == before


@pytest.mark.parametrize("position", [301, 2**63 - 1, -1, -(2**63)])
def test_a_record_of_rows_that_the_input_does_not_have_is_not_gone_on_with(
    store, servers, tmp_path, position
):
    path = write_numbers(tmp_path / "x.ndjson", 1, 300)
    import_file(store, path).ok()
    for server in servers:
        server.sql(
            f"UPDATE hypervault.imports SET position = {position},"
            " note = replace(note, 'complete', 'running')"
        )
    refused = import_file(store, path, "--resume")
    assert refused.code == 1
    assert "ends before row" in refused.err or "is invalid: row" in refused.err
    assert str(position) in refused.err
    assert count(servers) == 300


@pytest.mark.parametrize("skip", [300, 2**63 - 1])
def test_more_rows_may_be_passed_over_than_there_are(store, servers, tmp_path, skip):
    path = write_numbers(tmp_path / "x.ndjson", 1, 300)
    assert import_file(store, path, "--skip", skip).ok().json()["stored"] == 0
    assert count(servers) == 0


def test_two_that_go_on_with_one_import_do_not_double_a_row(store, servers, tmp_path):
    path = write_numbers(tmp_path / "x.ndjson", 1, ROWS)
    stopped_import(store, servers, path)
    both = [start_import(store, path, "--resume") for _ in range(2)]
    ends = [end_of(process) for process in both]
    go_on(store, path)
    assert numbers(servers) == list(range(1, ROWS + 1))
    for _, summary, errors in ends:
        assert summary["complete"] or "another process goes on" in errors[0]["message"]


# ---- servers that go and come ----


def test_a_server_killed_and_started_again_costs_no_row(own_store, own_servers, tmp_path):
    path = write_numbers(tmp_path / "x.ndjson", 1, ROWS)
    process = start_import(own_store, path)
    eventually(lambda: count(own_servers) > 1000)
    own_servers[1].server.kill9()
    own_servers[1].server.start()
    code, summary, errors = end_of(process)
    assert (code, errors, summary["stored"]) == (0, [], ROWS)
    assert numbers(own_servers) == list(range(1, ROWS + 1))


def test_a_server_shut_down_and_started_again_costs_no_row(own_store, own_servers, tmp_path):
    path = write_numbers(tmp_path / "x.ndjson", 1, ROWS)
    process = start_import(own_store, path)
    eventually(lambda: count(own_servers) > 1000)
    own_servers[0].server.restart()
    code, summary, errors = end_of(process)
    assert (code, errors, summary["stored"]) == (0, [], ROWS)
    assert numbers(own_servers) == list(range(1, ROWS + 1))


@pytest.mark.parametrize("direction", ["to_client", "to_server"])
@pytest.mark.parametrize("after", [2000, 4000, 20000, 100000])
def test_a_connection_that_breaks_anywhere_leaves_no_row_in_doubt(
    own_servers, own_store, relay, tmp_path, direction, after
):
    one, two = own_servers
    link = relay(two.server)
    store = store_config(
        tmp_path / "relay.conf", {"one": (one, "1-9"), "two": (link.params("test"), "9-17")}
    )
    path = write_numbers(tmp_path / "x.ndjson", 1, 5000)
    link.cut_after(direction, after)
    code, summary, _ = end_of(start_import(store, path, "--shard", 12))
    assert (code, summary["complete"], summary["stored"]) == (0, True, 5000)
    check_decided(summary, own_servers, tmp_path)


def test_a_server_that_stays_away_ends_the_import_and_it_can_go_on(
    own_store, own_servers, tmp_path
):
    path = write_numbers(tmp_path / "x.ndjson", 1, ROWS)
    with HeldUp(own_servers, ROWS // 2):
        process = start_import(own_store, path, "--retry-for", "500ms")
        eventually(lambda: count(own_servers) > 1000)
        own_servers[1].server.stop("immediate")
    code, summary, errors = end_of(process)
    assert code == 1 and not summary["complete"]
    assert len(errors) == 1 and errors[0]["server"] == "two"
    own_servers[1].server.start()
    assert set(numbers(own_servers)) >= set(range(1, summary["last_row"] + 1))
    assert go_on(own_store, path)["complete"]
    assert numbers(own_servers) == list(range(1, ROWS + 1))


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


# ---- rejected rows ----


def test_rows_that_a_trigger_refuses_do_no_harm_to_the_others(store, servers, tmp_path):
    refuse(servers, "new.body->'n' LIKE '%00'")
    path = write_numbers(tmp_path / "x.ndjson", 1, 20000)
    result = import_file(store, path)
    assert result.code == 1 and result.json()["complete"]
    assert numbers(servers) == [n for n in range(1, 20001) if n % 100]
    found = rejects(tmp_path / "x.ndjson.rejects")
    assert [row["line"] for row in found] == list(range(100, 20001, 100))
    assert {(row["status"], row["reason"]) for row in found} == {("HV_REFUSED", "not this one")}


def test_rows_that_are_refused_at_the_statements_end_are_found(store, servers, tmp_path):
    """By an AFTER trigger and by a deferred constraint: then the server does not name the row."""
    for shard in (3, 4):
        timing = "" if shard == 3 else "DEFERRABLE INITIALLY DEFERRED"
        servers[0].sql(
            "CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
            " $$BEGIN RAISE EXCEPTION 'too late'; END$$;"
            f"CREATE CONSTRAINT TRIGGER late AFTER INSERT ON shard{shard:04}.entities {timing}"
            " FOR EACH ROW WHEN (new.body->'n' LIKE '%00') EXECUTE FUNCTION refuse()"
        )
        folder = tmp_path / str(shard)
        folder.mkdir()
        path = write_numbers(folder / "x.ndjson", 1, 1000)
        summary = import_file(store, path, "--shard", shard, "--again").json()
        assert (summary["stored"], summary["rejected"]) == (990, 10)
        assert rejected_lines(folder) == set(range(100, 1001, 100))


def test_a_unique_index_of_the_users_rejects_the_second(store, servers, tmp_path):
    servers[0].sql("CREATE UNIQUE INDEX ON shard0003.entities ((body->'n'))")
    path = tmp_path / "x.ndjson"
    path.write_text("".join(f'{{"n":{n % 900}}}\n' for n in range(1000)))
    summary = import_file(store, path, "--shard", 3).json()
    assert (summary["stored"], summary["rejected"]) == (900, 100)
    assert numbers(servers) == list(range(900))


def test_keys_that_were_made_before_are_made_anew_unseen(store, servers, tmp_path):
    """As after a clock was set back, with a portable generator that has few keys left."""
    servers[0].sql(
        "CREATE OR REPLACE FUNCTION shard0003.next_id(OUT result bigint) LANGUAGE sql AS"
        " $$SELECT (1000::bigint << 23) + (3 << 10) +"
        " (nextval('shard0003.table_id_seq') % 400)$$"
    )
    servers[0].sql(
        "INSERT INTO shard0003.entities (id, type, body)"
        " SELECT (1000::bigint << 23) + (3 << 10) + v * 2, 1, 'n=>x' FROM generate_series(1, 50) v"
    )
    path = write_numbers(tmp_path / "x.ndjson", 1, 200)
    import_file(store, path, "--shard", 3).ok()
    servers[0].sql("DELETE FROM shard0003.entities WHERE body->'n' = 'x'")
    assert numbers(servers) == list(range(1, 201))


def test_a_generator_that_is_not_the_shards_stores_nothing(store, servers, tmp_path):
    servers[0].sql(
        "CREATE OR REPLACE FUNCTION shard0003.next_id(OUT result bigint) LANGUAGE sql AS"
        " $$SELECT shard0004.next_id()$$"
    )
    path = write_numbers(tmp_path / "x.ndjson", 1, 10)
    refused = import_file(store, path, "--shard", 3)
    assert refused.code == 1 and "does not make keys of shard 3" in refused.err
    assert count(servers) == 0


def test_a_full_disk_for_rejected_rows_ends_the_import(store, servers, tmp_path):
    path = tmp_path / "x.ndjson"
    path.write_text("".join(f'{{"n":{n}}}\n' if n % 1000 else "bad\n" for n in range(1, 50001)))
    result = import_file(store, path, "--rejects", "/dev/full")
    summary = result.json()
    assert result.code == 1 and not summary["complete"] and summary["rejects"] is None
    assert "could not write to \\\"/dev/full\\\": No space left on device" in result.err
    assert "--rejects FILE" in result.err
    assert go_on(store, path)["complete"]
    assert numbers(servers) == [n for n in range(1, 50001) if n % 1000]
    assert rejected_lines(tmp_path) == set(range(1000, 50001, 1000))


def test_a_disk_that_fills_up_leaves_whole_lines(store, servers, tmp_path):
    """Here the disk is a limit on the size of files."""
    path = tmp_path / "x.ndjson"
    path.write_text(
        "".join(f'{{"n":{n}}}\n' if n % 50 else f"bad {'x' * 300}\n" for n in range(1, 20001))
    )
    process = start_import(
        store,
        path,
        preexec_fn=lambda: (
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN),
            resource.setrlimit(resource.RLIMIT_FSIZE, (100000, 100000)),
        ),
    )
    code, summary, errors = end_of(process)
    assert code == 1 and "File too large" in errors[0]["message"]
    if summary["rejected"]:
        assert len(rejects(tmp_path / "x.ndjson.rejects")) >= summary["rejected"]
    assert go_on(store, path)["complete"]
    assert numbers(servers) == [n for n in range(1, 20001) if n % 50]
    assert rejected_lines(tmp_path) == set(range(50, 20001, 50))


def test_a_pipe_for_rejected_rows_that_nobody_reads_any_more_ends_the_import(
    store, servers, tmp_path
):
    os.mkfifo(tmp_path / "pipe")
    path = tmp_path / "x.ndjson"
    path.write_text("{}\n" + f"bad {'x' * 1000}\n" * 1000)  # more than a pipe holds
    process = start_import(store, path, "--rejects", tmp_path / "pipe", "--shard", 3)
    with open(tmp_path / "pipe", "rb") as pipe:
        pipe.readline()
    code, summary, errors = end_of(process)
    assert code == 1 and not summary["complete"]
    assert "Broken pipe" in errors[0]["message"]
    assert (summary["last_row"], count(servers)) == (0, 0)


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
    processes = [start_import(store, path, "--again") for _ in range(3)]
    ends = [end_of(process) for process in processes]
    assert {summary["rejects"] for _, summary, _ in ends} == {
        "x.csv.rejects",
        "x.csv.rejects.2",
        "x.csv.rejects.3",
    }
    assert all(len(rejects(found)) == 200 for found in tmp_path.glob("*.rejects*"))
    assert count(servers) == 600


def test_an_import_that_cannot_store_does_not_read_on(store, servers, tmp_path):
    """Otherwise it would take as much memory as the file is long."""
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
        process = start_import(store, "-", "--shard", 3)
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
