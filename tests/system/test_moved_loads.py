"""Imports and exports of a store whose shards move: nothing is stored twice or left out."""

import contextlib
import json
import signal
import subprocess

import pytest

from harness import eventually, hv, spawn
from harness.moved import moved
from harness.moving import move, moving_servers, moving_store, shared_moving_servers
from importing import import_file, write_numbers

FIXTURES = (moving_servers, moving_store, shared_moving_servers)

SHARD = 3
FEW = 12000
MANY = 60000


def numbers(servers):
    """The attribute "n" of all entities, wherever the shards are."""
    found = []
    for server in servers:
        for (schema,) in server.query(
            "SELECT nspname FROM pg_namespace WHERE nspname ~ '^shard[0-9]{4}$'"
        ):
            found += server.query(f"SELECT (body -> 'n')::int FROM {schema}.entities")
    return sorted(n for (n,) in found)


def from_pipe(store, path, *args):
    """As `zcat … | hv import -`."""
    return hv(
        *("import", "-", "--kind", 1, "--json", "--format", "ndjson", *args),
        config=store,
        cwd=path.parent,
        input=path.read_bytes(),
    )


# ---- an import that is complete ----


@pytest.mark.parametrize("how", [import_file, from_pipe])
@pytest.mark.parametrize("args", [[], ["--shard", SHARD], ["--by", "n"]])
def test_one_that_is_complete_is_not_done_again_because_a_shard_has_moved(
    store, servers, tmp_path, how, args
):
    path = write_numbers(tmp_path / "x.ndjson", 1, 300)
    how(store, path, *args, "--resume").ok()
    for source, target in (servers, servers[::-1], servers):
        moved(SHARD, source, target)
        again = how(store, path, *args, "--resume").ok().json()
        assert (again["stored"], numbers(servers)) == (0, list(range(1, 301)))


@pytest.mark.parametrize("args", [[], ["--shard", SHARD]])
def test_a_file_whose_rows_have_moved_is_known(store, servers, tmp_path, args):
    path = write_numbers(tmp_path / "x.ndjson", 1, 300)
    import_file(store, path, *args).ok()
    moved(SHARD, *servers)
    refused = import_file(store, path, *args)
    assert refused.code == 1 and "was imported before" in refused.err
    assert numbers(servers) == list(range(1, 301))


@pytest.mark.parametrize("resume", [[], ["--resume"]])
def test_records_of_earlier_versions_are_enough_to_notice(store, servers, tmp_path, resume):
    """Their names lack the part that is the same wherever the shards are."""
    path = write_numbers(tmp_path / "x.ndjson", 1, 300)
    import_file(store, path).ok()
    for server in servers:
        server.sql(
            "UPDATE hypervault.imports SET name ="
            " regexp_replace(name, '^(import/[0-9a-f]+/[0-9a-f]+)/[0-9a-f]+', '\\1')"
        )
    assert import_file(store, path, "--resume").ok().json()["stored"] == 0
    moved(SHARD, *servers)
    refused = import_file(store, path, *resume)
    assert refused.code == 1 and "was imported before" in refused.err
    assert numbers(servers) == list(range(1, 301))


# ---- one that is not ----


@contextlib.contextmanager
def held_up(server, shard, after):
    """Rows of the shard with a larger "n" wait until the end of the `with`."""
    server.sql(
        "CREATE FUNCTION hold_up() RETURNS trigger LANGUAGE plpgsql AS"
        " $$BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN new; END$$;"
        f"CREATE TRIGGER hold_up BEFORE INSERT ON shard{shard:04}.entities FOR EACH ROW"
        f" WHEN ((new.body->'n')::int > {after}) EXECUTE FUNCTION public.hold_up()"
    )
    with server.connect() as holder:
        holder.cursor().execute("SELECT pg_advisory_lock(1)")
        yield
    server.sql("DROP FUNCTION hold_up CASCADE")


def waits(server):
    return server.value("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'advisory'") > 0


def begin(store, path, *args, **popen):
    """One worker for each server: while one waits, the other can be some 50,000 rows ahead."""
    given = "-" if "stdin" in popen else path
    return spawn(
        *("hv", "import", given, "--kind", 1, "--json", "--jobs", 1, *args),
        config=store,
        cwd=path.parent,
        **popen,
    )


def end_early(store, servers, path, *args, hold):
    """Kill it. `hold`: the server, shard and number of the last row that is stored there; the other
    server's rows are all stored."""
    last = None
    with held_up(*hold):
        process = begin(store, path, *args)
        eventually(lambda: waits(hold[0]))

        def rests():
            nonlocal last
            before, last = last, len(numbers(servers))
            return before == last

        eventually(rests)
        process.kill()
        process.communicate()
    return len(numbers(servers))


def resume(store, path, *args):
    return import_file(store, path, "--jobs", 1, *args, "--resume")


@pytest.mark.parametrize("args", [[], ["--by", "n"]])
def test_one_that_ended_early_goes_on_where_its_shards_are(store, servers, tmp_path, args):
    """Of the two that move, one is almost complete and the other has hardly begun."""
    one, two = servers
    path = write_numbers(tmp_path / "x.ndjson", 1, FEW)
    before = end_early(store, servers, path, *args, hold=(two, 13, 1000))
    assert FEW / 2 < before < FEW
    moved(SHARD, one, two)
    moved(13, two, one)
    again = resume(store, path, *args).ok().json()
    assert numbers(servers) == list(range(1, FEW + 1))
    assert (again["earlier_rows"], again["stored"]) == (before, FEW - before)
    assert resume(store, path, *args).ok().json()["stored"] == 0
    refused = import_file(store, path, *args)
    assert refused.code == 1 and "was imported before" in refused.err


def test_one_of_a_single_shard_goes_on_where_it_is(store, servers, tmp_path):
    path = write_numbers(tmp_path / "x.ndjson", 1, FEW)
    hold = (servers[0], SHARD, 9000)
    assert 0 < end_early(store, servers, path, "--shard", SHARD, hold=hold) < FEW
    moved(SHARD, *servers)
    resume(store, path, "--shard", SHARD).ok()
    assert numbers(servers) == list(range(1, FEW + 1))


def test_one_goes_on_however_often_its_shards_move(store, servers, tmp_path):
    one, two = servers
    path = write_numbers(tmp_path / "x.ndjson", 1, FEW)
    end_early(store, servers, path, hold=(two, 13, 100))
    moved(SHARD, one, two)
    moved(13, two, one)
    end_early(store, servers, path, "--resume", hold=(one, 13, 5000))
    moved(SHARD, two, one)
    moved(13, one, two)
    moved(12, two, one)
    resume(store, path).ok()
    assert numbers(servers) == list(range(1, FEW + 1))


def test_one_of_a_server_that_has_lost_all_its_shards_goes_on(store, servers, tmp_path):
    one, two = servers
    path = write_numbers(tmp_path / "x.ndjson", 1, FEW)
    end_early(store, servers, path, hold=(two, 13, 1000))
    for shard in range(1, 9):
        moved(shard, one, two)
    resume(store, path).ok()
    assert numbers(servers) == list(range(1, FEW + 1))


@pytest.mark.parametrize("server, shard", [(0, 5), (1, 13)])
def test_rejected_rows_are_rejected_once(store, servers, tmp_path, server, shard):
    """Malformed rows have no shard, and are counted with those of the first worker."""
    one, two = servers
    path = tmp_path / "x.ndjson"
    lines = [f'{{"n":"{n}"}}' if n % 1000 else "{" for n in range(1, FEW + 1)]
    path.write_text("\n".join(lines) + "\n")
    end_early(store, servers, path, hold=(servers[server], shard, 1000))
    for each in (1, SHARD):
        moved(each, one, two)
    assert resume(store, path).json()["complete"]
    assert numbers(servers) == [n for n in range(1, FEW + 1) if n % 1000]
    (file,) = tmp_path.glob("*.rejects*")
    found = [json.loads(line)["number"] for line in file.read_text().splitlines()]
    assert sorted(found) == list(range(1000, FEW + 1, 1000))


def test_a_process_that_sleeps_does_not_store_what_another_has_gone_on_with(store, servers, tmp_path):
    one, two = servers
    path = write_numbers(tmp_path / "x.ndjson", 1, FEW)
    with held_up(two, 13, 1000):
        sleeper = begin(store, path)
        eventually(lambda: waits(two))
        eventually(lambda: len(numbers(servers)) > 100)
        sleeper.send_signal(signal.SIGSTOP)
        two.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'advisory'"
        )
        moved(SHARD, one, two)
    resume(store, path).ok()
    sleeper.send_signal(signal.SIGCONT)
    _, err = sleeper.communicate(timeout=60)
    assert sleeper.returncode == 1 and b"HV_CONFLICT" in err
    assert numbers(servers) == list(range(1, FEW + 1))


def test_without_the_server_that_has_the_record_it_is_not_guessed(store, servers, tmp_path):
    one, two = servers
    path = write_numbers(tmp_path / "x.ndjson", 1, FEW)
    end_early(store, servers, path, hold=(two, 13, 1000))
    moved(SHARD, one, two)
    one.sql("DELETE FROM hypervault.imports")
    before = numbers(servers)
    refused = resume(store, path)
    assert refused.code == 1
    assert "there is no record of how far the import has come with shard 1" in refused.err
    assert numbers(servers) == before


def test_records_without_shards_are_of_use_where_the_shards_were(store, servers, tmp_path):
    """Earlier versions have not recorded them."""
    path = write_numbers(tmp_path / "x.ndjson", 1, FEW)
    end_early(store, servers, path, "--by", "n", hold=(servers[1], 13, 1000))
    for server in servers:
        server.sql(
            "UPDATE hypervault.imports SET note = regexp_replace(note, '\\[[^]]*\\] ', '')"
        )
    moved(SHARD, *servers)
    before = numbers(servers)
    refused = resume(store, path, "--by", "n")
    assert refused.code == 1
    assert "cannot be continued where its shards are now" in refused.err
    assert numbers(servers) == before
    moved(SHARD, *servers[::-1])
    resume(store, path, "--by", "n").ok()
    assert numbers(servers) == list(range(1, FEW + 1))


# ---- one during which a shard moves ----


def test_one_goes_on_by_itself_when_a_shard_moves(store, servers, tmp_path):
    path = write_numbers(tmp_path / "x.ndjson", 1, MANY)
    with held_up(servers[1], 13, 1000):
        process = begin(store, path)
        eventually(lambda: waits(servers[1]))
        moved(SHARD, *servers)
    out, err = process.communicate(timeout=60)
    report = json.loads(out)
    assert process.returncode == 0 and err == b""
    assert (report["complete"], report["stored"], report["rejected"]) == (True, MANY, 0)
    assert report["earlier_rows"] == 0 and numbers(servers) == list(range(1, MANY + 1))
    assert list(tmp_path.glob("*.rejects*")) == []


def test_one_of_a_pipe_ends_with_an_error_after_which_it_can_go_on(store, servers, tmp_path):
    path = write_numbers(tmp_path / "x.ndjson", 1, FEW)
    lines = path.read_bytes().splitlines(keepends=True)
    process = begin(store, path, "--format", "ndjson", stdin=subprocess.PIPE)
    process.stdin.write(b"".join(lines[:1000]))
    process.stdin.flush()
    eventually(lambda: len(numbers(servers)) == 1000)
    moved(SHARD, *servers)
    out, err = process.communicate(b"".join(lines[1000:]), timeout=60)
    error = json.loads(err)["error"]
    assert not json.loads(out)["complete"] and error["status"] == "HV_MOVED"
    assert "shard 3 has moved" in error["message"] and "--resume" in error["hint"]
    from_pipe(store, path, "--jobs", 1, "--resume").ok()
    assert numbers(servers) == list(range(1, FEW + 1))


@pytest.mark.parametrize("survives", [True, False])
def test_one_over_a_move_of_the_tool_stores_each_row_once(
    moving_store, moving_servers, tmp_path, survives
):
    one, two = moving_servers
    path = write_numbers(tmp_path / "x.ndjson", 1, MANY)
    with held_up(two, 6, 1000):
        process = begin(moving_store, path)
        eventually(lambda: waits(two))
        eventually(lambda: one.value("SELECT count(*) FROM shard0003.entities") > 5000)
        move(moving_store, SHARD, 1).ok()
        if not survives:
            process.kill()
            process.communicate()
    if survives:
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 0 and json.loads(out)["stored"] == MANY
    else:
        resume(moving_store, path).ok()
    assert numbers(moving_servers) == list(range(1, MANY + 1))


# ---- exports ----


@pytest.mark.parametrize("shard, source, target", [(3, 0, 1), (12, 1, 0)])
def test_a_folder_has_each_shard_once(store, servers, tmp_path, shard, source, target):
    """The configuration still has it on the server that it has left."""
    path = write_numbers(tmp_path / "x.ndjson", 1, 800)
    import_file(store, path).ok()
    moved(shard, servers[source], servers[target])
    report = hv("export", "--dir", tmp_path / "all", "--json", config=store).ok().json()
    found = [
        int(json.loads(line)["body"]["n"])
        for each in (tmp_path / "all").glob("*.ndjson")
        for line in each.read_text().splitlines()
    ]
    assert sorted(found) == list(range(1, 801)) and report["entities"] == 800
    assert len(list((tmp_path / "all").iterdir())) == 16


def test_columns_that_an_export_leaves_out_are_named_of_a_shard_that_has_moved(store, servers, tmp_path):
    servers[0].sql("ALTER TABLE shard0003.entities ADD COLUMN note text")
    moved(SHARD, *servers)
    report = hv("export", tmp_path / "x.ndjson", "--json", config=store).ok().json()
    assert [each["name"] for each in report["columns_left_out"]] == ["note"]
