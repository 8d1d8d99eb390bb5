"""hv export: its output, which can be imported again with the keys kept, and resuming after any
interruption."""

import contextlib
import csv
import json
import os
import pty
import signal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness import eventually, hv, spawn, store_config
from importing import SHARDS, clear, count, import_file, numbers, rejects, write_numbers

EPOCH = 1379365531352
DAY = 86400000

texts = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=12)
tricky = st.text("ab ,;\t\n\r\"'\\N.é€😀{}=>\x01\x7f\u2028", max_size=8)
values = st.one_of(texts, tricky)
dicts = st.dictionaries(values, st.one_of(st.none(), values), max_size=4)

generated = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def key_of(created, shard, added_id=0):
    """The key of a moment, in milliseconds since the epoch."""
    return created << 23 | shard << 10 | added_id


def insert(databases, key, kind, attributes):
    """Put an entity under any key."""
    shard = key >> 10 & 8191
    (database,) = (found for found, shards in zip(databases, SHARDS) if shard in shards)
    database.sql(
        f"INSERT INTO shard{shard:04}.entities (id, type, body) VALUES (%s, %s, hstore(%s::text[], %s::text[]))",
        key,
        kind,
        list(attributes),
        list(attributes.values()),
    )


def export(store, path, *args, **how):
    return hv("export", path, *args, config=store, **how)


def import_exported(store, path, *args):
    """Run `hv import --exported` in the file's folder."""
    return hv("import", "--exported", path, "--json", *args, config=store, cwd=path.parent)


def watch_progress(store, *args, until):
    """Run an export to a pipe that is not emptied before `until` is seen on the terminal: whether
    it was seen, and the export's output."""
    ours, theirs = pty.openpty()
    env = {"TERM": "xterm"}
    process = spawn("hv", "export", "-", *args, config=store, env=env, stderr=theirs)
    os.close(theirs)
    seen = b""
    try:
        while until not in seen:
            seen += os.read(ours, 65536)
    except OSError:  # it has ended
        pass
    out, _ = process.communicate(timeout=60)
    os.close(ours)
    assert process.returncode == 0
    return until in seen, out.splitlines()


# ---- what is written ----


def test_a_line_has_key_shard_kind_and_attributes_with_null(store, servers, tmp_path):
    insert(servers, key_of(5, 12, 1), -7, {"beep": "boop \"é\"\n", "n": None, "": ""})
    insert(servers, key_of(3, 2), 1, {})
    summary = export(store, tmp_path / "x.ndjson", "--json").ok().json()
    assert (summary["complete"], summary["entities"], summary["shards"]) == (True, 2, 16)
    assert (tmp_path / "x.ndjson").read_text("utf-8") == (
        '{"id":"%d","shard_id":2,"kind":1,"body":{}}\n'
        '{"id":"%d","shard_id":12,"kind":-7,"body":{"":"","n":null,"beep":"boop \\"é\\"\\n"}}\n'
    ) % (key_of(3, 2), key_of(5, 12, 1))
    assert summary["bytes"] == (tmp_path / "x.ndjson").stat().st_size


def test_csv_has_the_body_as_hstores_text(store, servers, tmp_path):
    insert(servers, key_of(5, 12), 3, {"a": 'x"y', "n": None})
    export(store, tmp_path / "x.csv").ok()
    with open(tmp_path / "x.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["id", "shard_id", "kind", "body"],
        [str(key_of(5, 12)), "12", "3", '"a"=>"x\\"y", "n"=>NULL'],
    ]


def test_standard_output_has_the_entities_and_nothing_else(store, servers):
    insert(servers, key_of(5, 12), 1, {"n": "1"})
    done = export(store, "-", "--json").ok()
    assert [row["body"] for row in done.ndjson()] == [{"n": "1"}] and done.err == ""
    assert "1 entities written" in export(store, "-").ok().err


def test_shards_kinds_and_times_are_chosen(store, servers, tmp_path):
    for day in range(1, 6):
        for shard in (2, 3, 12):
            insert(servers, key_of(day * DAY, shard), shard, {"day": str(day)})

    def found(*args):
        lines = export(store, "-", *args).ok().ndjson()
        return [(row["shard_id"], row["body"]["day"]) for row in lines]

    everything = [(shard, str(day)) for shard in (2, 3, 12) for day in range(1, 6)]
    assert found() == everything
    assert found("--shards", "3,12-13") == [each for each in everything if each[0] != 2]
    assert found("--kind", 2, "--kind", 12) == [each for each in everything if each[0] != 3]
    since, until = (f"@{EPOCH + day * DAY}" for day in (2, 4))
    assert found("--since", since) == [each for each in everything if each[1] >= "2"]
    assert found("--since", since, "--until", until) == [
        each for each in everything if each[1] in "23"
    ]
    assert found("--until", "2013-01-01") == []


def test_progress_shows_about_how_many_there_will_be(store, servers):
    servers[0].sql(
        "INSERT INTO shard0002.entities SELECT n << 23 | 2 << 10, 1, hstore('a', repeat('x', 100))"
        " FROM generate_series(1::bigint, 3000) n"
    )
    servers[0].sql("ANALYZE shard0002.entities")
    seen, lines = watch_progress(store, until=b"/~3,000 entities")
    assert seen and len(lines) == 3000


@pytest.mark.parametrize(
    "args, message",
    [
        ([], "FILE"),
        (["x", "--dir", "y"], 'unexpected argument "x"'),
        (["x.ndjson", "--format", "tsv"], 'unknown format "tsv"'),
        (["x.tsv"], "cannot export tsv"),
        (["x.csv", "--since", "soon"], "soon"),
        (["x.csv", "--since", "2020-01-02", "--until", "2020-01-02"], "before"),
        (["-", "--resume"], "cannot be continued"),
    ],
)
def test_wrong_arguments_are_explained(config, args, message):
    refused = hv("export", *args, config=config)
    assert refused.code == 2
    assert message in refused.err


def test_no_file_is_replaced(store, tmp_path):
    (tmp_path / "x.ndjson").write_text("precious")
    refused = export(store, tmp_path / "x.ndjson")
    assert refused.code == 1 and "exists already" in refused.err
    assert (tmp_path / "x.ndjson").read_text() == "precious"


def test_a_full_disk_is_reported(store, servers):
    insert(servers, key_of(5, 12), 1, {"n": "1"})
    refused = export(store, "/dev/full")
    assert refused.code == 1 and "No space left on device" in refused.err


# ---- there and back ----


@generated
@given(bodies=st.lists(dicts, min_size=1, max_size=6), form=st.sampled_from(["ndjson", "csv"]))
def test_what_was_exported_can_be_imported_to_the_same_bytes(
    store, servers, tmp_path, bodies, form
):
    clear(servers)
    for number, body in enumerate(bodies):
        insert(servers, key_of(1000 + number // 3, 1 + number * 5 % 16), number - 3, body)
    first, second = tmp_path / f"first.{form}", tmp_path / f"second.{form}"
    for path in (first, second):
        path.unlink(missing_ok=True)
    export(store, first).ok()
    clear(servers)
    summary = import_exported(store, first).ok().json()
    assert (summary["stored"], summary["there_before"]) == (len(bodies), 0)
    export(store, second).ok()
    assert first.read_bytes() == second.read_bytes()


def test_a_folder_has_a_file_for_each_shard_and_together_they_are_the_one(
    store, servers, tmp_path
):
    import_file(store, write_numbers(tmp_path / "x.ndjson", 1, 1000)).ok()
    export(store, tmp_path / "all.ndjson").ok()
    hv("export", "--dir", tmp_path / "parts", config=store).ok()
    names = sorted(path.name for path in (tmp_path / "parts").iterdir())
    assert names == [f"shard{shard:04}.ndjson" for shards in SHARDS for shard in shards]
    parts = b"".join((tmp_path / "parts" / name).read_bytes() for name in names)
    assert parts == (tmp_path / "all.ndjson").read_bytes()


def test_the_order_does_not_depend_on_servers(store, servers, tmp_path, shared_servers):
    """Exported from two, imported into one."""
    import_file(store, write_numbers(tmp_path / "x.ndjson", 1, 500)).ok()
    export(store, tmp_path / "two.ndjson").ok()
    single = shared_servers[0].create_database()
    try:
        config = store_config(tmp_path / "single.conf", {"only": (single, "1-17")})
        hv("init", config=config).ok()
        import_exported(config, tmp_path / "two.ndjson").ok()
        export(config, tmp_path / "one.ndjson").ok()
    finally:
        single.drop()
    assert (tmp_path / "one.ndjson").read_bytes() == (tmp_path / "two.ndjson").read_bytes()


# ---- keys that are kept ----


def test_what_is_there_already_is_shown_and_another_entity_is_a_conflict(store, servers, tmp_path):
    for number in range(3000):
        insert(servers, key_of(1000 + number, 3), 1, {"n": str(number)})
    path = tmp_path / "x.ndjson"
    export(store, path).ok()
    again = import_exported(store, path).ok().json()
    assert (again["stored"], again["there_before"]) == (3000, 3000)
    servers[0].sql("UPDATE shard0003.entities SET body = 'n=>x' WHERE body->'n' IN ('7', '2007')")
    servers[0].sql("DELETE FROM shard0003.entities WHERE body->'n' = '9'")
    result = import_exported(store, path)
    summary = result.json()
    assert (summary["stored"], summary["there_before"], summary["rejected"]) == (2998, 2997, 2)
    found = rejects(tmp_path / "x.ndjson.rejects")
    assert [(row["line"], row["status"]) for row in found] == [
        (8, "HV_CONFLICT"),
        (2008, "HV_CONFLICT"),
    ]


def test_rows_that_are_no_exports_are_rejected(store, servers, tmp_path):
    good = '{"id":%d,"shard_id":3,"kind":1,"body":{"n":"1"}}' % key_of(1, 3)
    bad = [
        '{"n":1}',
        '{"id":0,"shard_id":3,"kind":1,"body":{}}',
        '{"id":%d,"shard_id":4,"kind":1,"body":{}}' % key_of(1, 3),
        '{"id":%d,"shard_id":99,"kind":1,"body":{}}' % key_of(1, 99),
        '{"id":%d,"shard_id":3,"kind":70000,"body":{}}' % key_of(1, 3),
        '{"id":%d,"shard_id":3,"kind":1,"body":[]}' % key_of(1, 3),
        '{"id":%d,"shard_id":3,"kind":1}' % key_of(1, 3),
    ]
    path = tmp_path / "x.ndjson"
    path.write_text("\n".join([good, *bad]) + "\n")
    result = import_exported(store, path)
    assert result.code == 1 and result.json()["stored"] == 1
    found = rejects(tmp_path / "x.ndjson.rejects")
    assert [row["line"] for row in found] == list(range(2, 9))
    reasons = [row["reason"] for row in found]
    assert f"the key {key_of(1, 3)} is of shard 3, not 4" in reasons[2]
    assert "no server holds shard 99" in reasons[3]
    assert numbers(servers) == [1]


def now_of(database):
    """The server's clock, in milliseconds since the epoch."""
    return int(database.value("SELECT extract(epoch FROM clock_timestamp()) * 1000")) - EPOCH


def exported_line(key):
    return '{"id":%d,"shard_id":%d,"kind":1,"body":{}}\n' % (key, key >> 10 & 8191)


def test_a_portable_key_of_the_future_is_rejected_and_one_a_little_ahead_waited_for(
    store, servers, tmp_path
):
    ahead = key_of(now_of(servers[0]) + 1500, 3)
    future = key_of(now_of(servers[0]) + 60000, 3)
    path = tmp_path / "x.ndjson"
    path.write_text(exported_line(ahead) + exported_line(future))
    assert import_exported(store, path).json()["stored"] == 1
    (row,) = rejects(tmp_path / "x.ndjson.rejects")
    assert row["line"] == 2 and "is ahead of the server's clock" in row["reason"]
    assert int(hv("put", 3, 1, config=store).ok().out) > ahead


def test_strict_keys_go_on_from_an_imported_key(extension_server, tmp_path):
    config = store_config(tmp_path / "c.conf", {"one": (extension_server, "1-9")})
    hv("init", "--keys", "strict", config=config).ok()
    ahead = key_of(now_of(extension_server) + 3600000, 3, 5)
    path = tmp_path / "x.ndjson"
    path.write_text(exported_line(ahead) + exported_line(key_of(2**39, 3)))
    assert import_exported(config, path).json()["stored"] == 1
    assert "ahead of the server's clock" in rejects(tmp_path / "x.ndjson.rejects")[0]["reason"]
    assert int(hv("put", 3, 1, config=config).ok().out) > ahead


# ---- ends before its end ----


def parts(folder):
    return list(folder.glob("*.part-*"))


@contextlib.contextmanager
def held_up(databases):
    """An export is not over before the end of the `with`: its last shard is locked."""
    with databases[1].connect() as holder:
        holder.autocommit = False
        holder.cursor().execute("LOCK TABLE shard0016.entities")
        yield


def test_an_export_killed_again_and_again_loses_and_doubles_nothing(store, servers, tmp_path):
    rows = 200000
    import_file(store, write_numbers(tmp_path / "x.ndjson", 1, rows)).ok()
    for form in ("ndjson", "csv"):
        whole, path = tmp_path / f"whole.{form}", tmp_path / f"killed.{form}"
        export(store, whole).ok()
        size = 0
        for _ in range(4):
            process = spawn("hv", "export", path, "--resume", config=store)
            eventually(
                lambda: process.poll() is not None
                or any(part.stat().st_size > size for part in parts(tmp_path))
            )
            process.kill()
            process.wait()
            size = sum(part.stat().st_size for part in parts(tmp_path))
            for part in parts(tmp_path):  # as if it had been in the middle of a record
                os.truncate(part, max(0, part.stat().st_size - 11))
        there = sum(part.read_bytes().rfind(b"\n") + 1 for part in parts(tmp_path))
        added = export(store, path, "--resume", "--json").ok().json()
        assert not parts(tmp_path)
        assert added["bytes"] == path.stat().st_size - there
        assert added["entities"] == path.read_bytes()[there:].count(b"\n")
        assert path.read_bytes() == whole.read_bytes()


def test_an_interrupted_export_of_a_folder_goes_on(store, servers, tmp_path):
    import_file(store, write_numbers(tmp_path / "x.ndjson", 1, 100000)).ok()
    whole, folder = tmp_path / "whole.ndjson", tmp_path / "parts"
    export(store, whole).ok()
    process = spawn("hv", "export", "--dir", folder, "--json", config=store)
    eventually(lambda: folder.exists() and any(folder.iterdir()))
    process.send_signal(signal.SIGINT)
    process.communicate()
    hv("export", "--dir", folder, "--resume", config=store).ok()
    assert not parts(folder)
    files = sorted(folder.iterdir())
    assert b"".join(path.read_bytes() for path in files) == whole.read_bytes()


def test_an_export_is_not_gone_on_with_by_another(store, servers, tmp_path):
    import_file(store, write_numbers(tmp_path / "x.ndjson", 1, 200000)).ok()
    path = tmp_path / "y.ndjson"
    with held_up(servers):
        process = spawn("hv", "export", path, config=store)
        eventually(lambda: any(part.stat().st_size for part in parts(tmp_path)))
        process.kill()
        process.wait()
    (part,) = parts(tmp_path)
    refused = export(store, path, "--resume", "--kind", 7)
    assert refused.code == 1 and "an export of something else" in refused.err
    refused = export(store, path)
    assert refused.code == 1 and "--resume" in refused.err
    part.unlink()
    export(store, path).ok()


def test_a_server_that_goes_away_ends_the_export_and_it_can_go_on(
    own_store, own_servers, tmp_path
):
    import_file(own_store, write_numbers(tmp_path / "x.ndjson", 1, 200000)).ok()
    whole, path = tmp_path / "whole.ndjson", tmp_path / "y.ndjson"
    export(own_store, whole).ok()
    with held_up(own_servers):
        process = spawn("hv", "export", path, "--json", config=own_store)
        eventually(lambda: any(part.stat().st_size for part in parts(tmp_path)))
        own_servers[1].server.kill9()
    out, err = process.communicate()
    assert process.returncode == 1 and not json.loads(out)["complete"]
    assert json.loads(err)["error"]["server"] == "two"
    own_servers[1].server.start()
    export(own_store, path, "--resume").ok()
    assert path.read_bytes() == whole.read_bytes()


def test_a_shard_is_written_as_it_was_when_it_was_begun(store, servers, tmp_path):
    """Entities that are added meanwhile are not in it."""
    servers[0].sql(
        "INSERT INTO shard0003.entities (id, type, body)"
        " SELECT (1000 + v) << 23 | (3 << 10), 1, hstore('n', repeat('x', 200))"
        " FROM generate_series(1::bigint, 20000) v"
    )
    os.mkfifo(tmp_path / "pipe")
    process = spawn("hv", "export", tmp_path / "pipe", "--shards", 3, config=store)
    with open(tmp_path / "pipe", "rb") as pipe:
        first = pipe.readline()
        insert(servers, key_of(5000000, 3), 1, {"n": "late"})
        servers[0].sql("DELETE FROM shard0003.entities WHERE id = %s", key_of(21000, 3))
        lines = [first, *pipe]
    assert process.wait() == 0
    assert len(lines) == 20000
    assert json.loads(lines[-1])["id"] == str(key_of(21000, 3))
    assert count(servers) == 20000
