"""hv find: which entities it shows, in which order and form, and what it says of missing ones."""

import csv
import io
import json
import re
import signal

import pytest

from harness import hv, spawn
from importing import import_file
from inserting import DAY, EPOCH, KEYS, PHOTOS, fill, insert, objects, photos, shard_of  # noqa: F401
from test_cli_terminal import NASTY, is_safe


def find(store, *args):
    """What is found, as keys."""
    return [int(row["id"]) for row in hv("find", *args, config=store).ok().ndjson()]


def keys(condition):
    return [key for key, kind, body in PHOTOS if condition(kind, body)]


# ---- what is found ----


def test_everything_is_found_in_the_order_of_keys(photos):
    done = hv("find", config=photos).ok()
    assert done.ndjson() == objects(PHOTOS) and done.err == ""
    assert find(photos, "--reverse") == KEYS[::-1]
    assert find(photos, "--newest", 5) == KEYS[:-6:-1]
    assert find(photos, "--oldest", 5) == find(photos, "--limit", 5) == KEYS[:5]


def test_shards_and_kinds_are_chosen(photos):
    some = [key for key in KEYS if shard_of(key) in (2, 9, 10)]
    assert find(photos, "--shards", "2,9-11") == some
    assert find(photos, "-s", 2, "-s", "9-11") == some
    assert find(photos, "--kind", 2) == keys(lambda kind, _: kind == 2)
    assert find(photos, "-k", "1,2") == find(photos, "-k", 1, "-k", 2) == KEYS
    assert find(photos, "--kind", "-7") == []


def test_times_and_keys_are_bounds(photos):
    third, fifth = (f"@{EPOCH + day * DAY}" for day in (3, 5))
    assert find(photos, "--from", third, "--until", fifth) == KEYS[12:20]
    assert find(photos, "--from", KEYS[7], "--until", KEYS[9]) == KEYS[7:9]
    assert find(photos, "--from", KEYS[7], "--until", third) == KEYS[7:12]
    assert find(photos, "--from", KEYS[7], "--until", KEYS[7]) == []
    assert find(photos, "--from", "now") == []


@pytest.mark.parametrize(
    "args, condition",
    [
        (["--where", "user=3"], lambda _, body: body["user"] == "3"),
        (["-w", "user=3", "-w", "n=8"], lambda _, body: (body["user"], body["n"]) == ("3", "8")),
        (["--where", "place="], lambda _, body: body.get("place") == ""),
        (["--null", "place"], lambda _, body: body.get("place", "") is None),
        (["--has", "place"], lambda _, body: "place" in body),
        (["--lacks", "place"], lambda _, body: "place" not in body),
        (["--in", "user=1,4,nobody"], lambda _, body: body["user"] in "14"),
        (["--in", r"place=a,x\,y"], lambda _, body: body.get("place") == "x,y"),
        (["--contains", '{"user": "2", "n": 7}'], lambda _, body: body["n"] == "7"),
        (["--contains", "user=>2, n=>7"], lambda _, body: body["n"] == "7"),
        (["--contains", ' {"place": null}'], lambda _, body: body.get("place", "") is None),
        (
            ["-w", "user=3", "--lacks", "place", "-k", 1],
            lambda kind, body: kind == 1 and body["user"] == "3" and "place" not in body,
        ),
    ],
)
def test_all_conditions_must_hold(photos, args, condition):
    assert find(photos, *args) == keys(condition)


def test_only_some_attributes_are_fetched(photos):
    def found(*only):
        return hv("find", "--limit", 1, *only, config=photos).ok().ndjson()[0]["body"]

    assert found() == {"n": "0", "user": "0", "title": 'a, "0"', "place": "x,y"}
    assert found("--only", "n,user") == found("-o", "n", "-o", "user") == {"n": "0", "user": "0"}
    assert found("--only", r"n\,user") == found("--only", "") == {}
    one = hv("get", KEYS[0], "--only", "n,user", "--json", config=photos).ok().json()
    assert one["body"] == {"n": "0", "user": "0"}


def test_the_last_key_is_the_token_of_the_page(photos):
    for order, expected in (("--oldest", KEYS), ("--newest", KEYS[::-1])):
        seen, after = [], []
        while page := find(photos, order, 7, *after):
            seen += page
            after = ["--after", page[-1]]
        assert seen == expected


def test_the_token_of_another_query_or_of_a_deleted_entity_is_harmless(photos):
    assert find(photos, "--kind", 1, "--after", KEYS[9]) == [
        key for key in keys(lambda kind, _: kind == 1) if key > KEYS[9]
    ]
    assert find(photos, "--from", KEYS[20], "--after", KEYS[5]) == KEYS[20:]
    assert find(photos, "--until", KEYS[20], "--after", KEYS[30]) == []
    hv("delete", KEYS[9], config=photos).ok()
    assert find(photos, "--after", KEYS[9]) == KEYS[10:]


# ---- forms ----


def test_csv_and_tsv_have_the_columns_of_an_export(photos, tmp_path):
    hv("export", tmp_path / "x.csv", config=photos).ok()
    written = sorted((tmp_path / "x.csv").read_text("utf-8").splitlines()[1:])
    found = hv("find", "--format", "csv", config=photos).ok().lines
    assert found[0] == "id,shard_id,kind,body" and sorted(found[1:]) == written
    lines = hv("find", "--format", "tsv", config=photos).ok().lines
    rows = list(csv.reader(io.StringIO("\n".join(found))))
    assert [line.replace("\\\\", "\\").split("\t") for line in lines] == rows


def test_what_was_found_can_be_imported_and_tsv_is_what_copy_reads(store, servers, tmp_path):
    body = {NASTY: NASTY, "empty": "", "null": None, "back\\slash": "\\N\\.\t\n"}
    insert(servers, (KEYS[0], 1, body))
    found = hv("find", config=store).ok()
    assert found.ndjson() == objects([(KEYS[0], 1, body)]) and is_safe(found.out)
    text = hv("find", "--format", "tsv", config=store).ok().out
    assert is_safe(text.replace("\t", "")) and text.count("\n") == 2
    servers[0].sql("CREATE TABLE copied (id bigint, shard_id int, kind int, body hstore)")
    with servers[0].connect() as connection, connection.cursor() as cursor:
        cursor.copy_expert("COPY copied FROM STDIN", io.StringIO(text.split("\n", 1)[1]))
    ((key, copied),) = servers[0].query("SELECT id, hstore_to_json(body) FROM copied")
    assert (key, copied) == (KEYS[0], body)
    (tmp_path / "found.tsv").write_text(text, "utf-8")
    import_file(store, tmp_path / "found.tsv").ok()
    (stored,) = hv("find", "--has", "shard_id", config=store).ok().ndjson()
    assert stored["body"]["id"] == str(KEYS[0])


def test_people_see_a_table(photos, on_terminal):
    done = on_terminal("find", "--newest", 3, config=photos, columns=200).ok()
    lines = [re.sub(r"\x1b\[\d*m", "", line) for line in done.lines]
    assert lines[0].split() == ["key", "created", "shard", "kind", "attributes"]
    plain = [line.split(None, 4) for line in lines[1:4]]
    assert [int(row[0]) for row in plain] == KEYS[:-4:-1]
    assert plain[0][1] == "2013-09-27T21:05:31.352Z"
    assert plain[0][4] == 'n=45, user=0, place=NULL, title=a, "45"'
    assert lines[4:] == [f"3 shown; the next ones: --after {KEYS[-3]}"]


def test_a_table_has_a_column_for_each_attribute_that_was_asked_for(photos):
    args = ("--format", "table", "--in", "n=0,1,3", "--only", "place,n,none")
    title, *rows = hv("find", *args, config=photos).ok().lines
    assert title.split()[4:] == ["place", "n", "none"]
    assert sorted(row.split()[4:] for row in rows) == [
        ["-", "1", "-"], ["NULL", "3", "-"], ["x,y", "0", "-"],
    ]


def test_a_long_table_comes_in_pieces_with_one_title(store, servers):
    fill(servers, 3, 1201)
    done = hv("find", "--format", "table", "--only", "n", config=store).ok()
    title, *rows = done.lines
    assert title.split()[-1] == "n" and [int(row.split()[-1]) for row in rows] == [*range(1, 1202)]


def test_a_table_on_a_narrow_terminal_leaves_out_ends(store, servers, on_terminal):
    insert(servers, (KEYS[0], 1, {"long": "x" * 300}), (KEYS[1], 1, {"é": "\u202e"}))
    done = on_terminal("find", config=store, columns=100).ok()
    lines = [re.sub(r"\x1b\[\d*m", "", line) for line in done.lines]
    assert [len(line) <= 100 for line in lines] == [True] * 3
    assert lines[1].endswith("xxx…") and lines[2].endswith(r"é=\u202e")


def test_nothing_found_is_said_to_people(photos, on_terminal):
    assert on_terminal("find", "--kind", 9, config=photos).ok().lines == ["no entity is like that"]
    done = hv("find", "--kind", 9, config=photos).ok()
    assert (done.out, done.err) == ("", "")


def test_csv_on_a_terminal_is_safe(store, servers, on_terminal):
    insert(servers, (KEYS[0], 1, {NASTY: NASTY}))
    for form in ("csv", "tsv", "ndjson", "table"):
        shown = on_terminal("find", "--format", form, config=store).ok().out
        assert is_safe(shown.replace("\t", "") if form == "tsv" else shown)


def test_a_reader_that_has_seen_enough_ends_it(store, servers):
    fill(servers, 3, 20_000)
    process = spawn("hv", "find", config=store)
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(30) == -signal.SIGPIPE and process.stderr.read() == b""


# ---- bad input ----


@pytest.mark.parametrize(
    "args, message",
    [
        (["--limit", 0], "--limit is out of range: 0"),
        (["--limit", -1], "--limit is out of range: -1"),
        (["--newest", 0], "--newest is out of range: 0"),
        (["--oldest", "many"], "--oldest is not a number"),
        (["--newest", 3, "--limit", 4], "another limit"),
        (["--limit", 3, "--oldest", 4], "another limit"),
        (["--shards", ""], "shard"),
        (["--shards", "5-5"], "shard"),
        (["--shards", "1-x"], "shard"),
        (["--shards", 99], "99"),
        (["--kind", "1,"], "KIND is not a number"),
        (["--kind", 40000], "KIND is out of range"),
        (["--where", "user"], '--where "user" has no value'),
        (["--in", "user"], '--in "user" has no value'),
        (["--where", "a=1", "--where", "a=2"], "a"),
        (["--where", "a=1", "--lacks", "a"], "a"),
        (["--has", "a", "--lacks", "a"], "a"),
        (["--contains", "{}"], "attribute"),
        (["--contains", ""], "attribute"),
        (["--contains", '{"a": 1'], "--contains, line 1"),
        (["--contains", "a=>"], ""),
        (["--from", "2026-02-30"], "--from is no point in time"),
        (["--until", ""], "--until is no point in time"),
        (["--from", 0], "KEY is out of range: 0"),
        (["--after", -3], "KEY is out of range: -3"),
        (["--after", "2026-01-01"], "KEY is not a number"),
        (["--from", "2026-01-02", "--until", "2026-01-01"], ""),
        (["--from", 9, "--until", 8], ""),
        (["--skip-server", "three"], "three"),
        (["--skip-server", ""], "server"),
        (["--timeout", "long"], "no duration"),
        (["--format", "xml"], 'unknown format "xml"'),
        (["photos"], 'unexpected argument "photos"'),
        (["--delay", 1], "unknown option --delay"),
    ],
)
def test_bad_input_is_refused_before_anything_is_found(config, args, message):
    for more in ([], ["--explain"]):
        refused = hv("find", *args, *more, config=config)
        assert (refused.code, refused.out) == (2, ""), refused
        assert message in refused.err.splitlines()[0] and refused.err.startswith("hv: ")
    error = json.loads(hv("find", "--json", *args, config=config).err)["error"]
    assert error["message"] and error["status"] in ("HV_INVALID", "HV_NO_SERVER")


# ---- servers that fail ----


def test_a_skipped_server_is_named_and_nothing_failed(photos):
    done = hv("find", "--skip-server", "two", config=photos).ok()
    assert [int(row["id"]) for row in done.ndjson()] == [key for key in KEYS if shard_of(key) < 9]
    assert '"two"' in done.err
    shown = hv("find", "--skip-server", "two", "--json", config=photos).ok()
    assert json.loads(shown.err)["skipped"]["server"] == "two"


def test_a_server_that_is_down_is_an_error_or_with_partial_a_part(own_store, own_servers):
    insert(own_servers, *PHOTOS)
    own_servers[1].server.stop()
    failed = hv("find", config=own_store)
    assert failed.code == 1 and '"two"' in failed.err
    part = hv("find", "--partial", config=own_store)
    assert part.code == 1 and part.err.count("hv: ") == 1 and '"two"' in part.err
    assert [int(row["id"]) for row in part.ndjson()] == [key for key in KEYS if shard_of(key) < 9]
    assert "--after" not in part.err  # what is missing would not come
    error = json.loads(hv("find", "--partial", "--json", config=own_store).err)["error"]
    assert error["server"] == "two"
    done = hv("find", "--skip-server", "two", config=own_store).ok()
    assert done.out == part.out


def test_a_shard_that_is_missing_is_an_error_or_with_partial_a_part(photos, servers):
    servers[0].sql("DROP SCHEMA shard0003 CASCADE")
    failed = hv("find", config=photos)
    assert failed.code == 1 and "shard 3" in failed.err and "hv init" in failed.err
    part = hv("find", "--partial", config=photos)
    assert part.code == 1 and part.err.count("hv: ") == 1 and "shard 3" in part.err
    assert [int(row["id"]) for row in part.ndjson()] == [key for key in KEYS if shard_of(key) != 3]


@pytest.mark.parametrize("partial", [False, True])
def test_a_server_that_is_killed_in_the_middle_is_never_a_silently_shorter_answer(
    own_store, own_servers, partial
):
    fill(own_servers, 3, 60_000)
    fill(own_servers, 12, 60_000)
    process = spawn("hv", "find", *["--partial"][:partial], config=own_store)
    first = process.stdout.readline()  # then the pipe fills up, and it waits
    own_servers[1].server.kill9()
    rest, err = process.stdout.read(), process.stderr.read()
    assert process.wait(60) == 1 and '"two"' in err.decode()
    rows = [json.loads(line) for line in [first, *rest.splitlines()]]
    found = [int(row["id"]) for row in rows]
    assert found == sorted(set(found)) and {row["shard_id"] for row in rows} == {3, 12}
    assert len([key for key in found if shard_of(key) == 12]) < 60_000
    if partial:
        assert len([key for key in found if shard_of(key) == 3]) == 60_000
    else:
        assert f"--after {found[-1]} goes on" in err.decode()
        own_servers[1].server.start()
        again = hv("find", "--after", found[-1], config=own_store).ok().ndjson()
        assert len(found) + len(again) == 120_000


# ---- explaining ----


def test_plans_are_shown_once_for_all_shards_that_have_the_same(photos, servers):
    done = hv("find", "--where", "user=3", "--newest", 20, "--explain", config=photos).ok()
    assert "shards 1 to 16" in done.lines[0] and len(done.lines) > 1
    servers[0].sql("CREATE INDEX ON shard0003.entities ((body->'user'), id)")
    servers[0].sql("SET enable_seqscan = off; ANALYZE shard0003.entities")
    fill(servers, 3, 20_000, created=100 * DAY)
    servers[0].sql("ANALYZE shard0003.entities")
    groups = hv("find", "--where", "user=3", "--newest", 20, "--explain", "--json", config=photos)
    groups = groups.ok().ndjson()
    assert sorted(shard for group in groups for shard in group["shards"]) == [*range(1, 17)]
    (other,) = (group for group in groups if group["shards"] == [3])
    assert "expr_id_idx" in other["plan"] and "warning" not in other


def test_a_large_table_that_would_be_read_as_a_whole_is_warned_of(store, servers):
    fill(servers, 3, 20_000)
    servers[0].sql("ANALYZE shard0003.entities")
    done = hv("find", "--where", "user=3", "--explain", "--shards", "3", config=store).ok()
    assert "warning: " in done.out and "20000" in done.out
    fill(servers, 4, 30_000)
    servers[0].sql("ANALYZE shard0004.entities")
    done = hv("find", "--where", "user=3", "--explain", "--shards", "2-6", config=store).ok()
    assert "shards 3 to 4" in done.lines and done.out.count("warning: ") == 1
    (group,) = hv("find", "-w", "user=3", "--explain", "-s", 3, "--json", config=store).ndjson()
    assert group["warning"]


@pytest.mark.parametrize("format", ["ndjson", "csv", "table"])
def test_an_output_that_is_full_is_reported_with_the_reason(photos, format):
    with open("/dev/full", "wb") as full:
        process = spawn("hv", "find", "--format", format, config=photos, stdout=full)
        assert process.wait(30) == 1 and b"No space left on device" in process.stderr.read()
