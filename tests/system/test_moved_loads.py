"""Imports and exports of a store whose shards move: nothing is stored twice or left out."""

import contextlib
import json
import signal

import pytest

from harness import eventually, hv, spawn
from harness.moved import moved
from importing import HeldUp, import_file, write_numbers

SHARD = 3
MANY = 250000


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


@pytest.mark.parametrize("args", [[], ["--shard", SHARD]])
def test_one_that_ended_early_goes_on_when_its_shards_are_back(store, servers, tmp_path, args):
    path = write_numbers(tmp_path / "x.ndjson", 1, MANY)
    with HeldUp(servers, MANY // 2):
        process = spawn(
            "hv", "import", path, "--kind", 1, "--json", *args, config=store, cwd=tmp_path
        )
        eventually(lambda: len(numbers(servers)) > 100)
        process.send_signal(signal.SIGINT)
    process.communicate()
    before = numbers(servers)
    assert 100 < len(before) < MANY
    for server in servers:
        server.sql("DROP FUNCTION hold_up CASCADE")
    moved(SHARD, *servers)
    refused = import_file(store, path, *args, "--resume")
    assert refused.code == 1
    assert "cannot be continued where its shards are now" in refused.err
    assert numbers(servers) == before
    moved(SHARD, *servers[::-1])
    import_file(store, path, *args, "--resume").ok()
    assert numbers(servers) == list(range(1, MANY + 1))


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


def test_a_shard_that_moves_under_one_costs_no_row_and_rejects_none(store, servers, tmp_path):
    one, two = servers
    path = write_numbers(tmp_path / "x.ndjson", 1, MANY)
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'advisory'"
    with held_up(two, 10, 1000):
        process = spawn("hv", "import", path, "--kind", 1, "--json", config=store, cwd=tmp_path)
        eventually(lambda: two.value(waiting) > 0)
        moved(SHARD, one, two)
    out, err = process.communicate(timeout=60)
    first = json.loads(out)
    assert not first["complete"] and first["rejected"] == 0
    assert b"shard 3 has moved to server \\\"two\\\"" in err and b"HV_MOVED" in err
    moved(SHARD, two, one)
    second = import_file(store, path, "--resume").ok().json()
    assert second["rejected"] == 0 and numbers(servers) == list(range(1, MANY + 1))
    assert list(tmp_path.glob("*.rejects*")) == []


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
