"""Changing entities with the command hv: replace, merge, increment, delete, their conditions, and
keys from standard input."""

import json
import os
import re
import shutil
import signal
import subprocess

import pytest

from harness import build_dir, eventually, hv, source_dir, spawn
from harness.store_tool import relayed_store  # noqa: F401
from importing import bodies, count, entities, import_file, write_numbers

MISSING = (1 << 23) | (5 << 10)  # a key of shard 5 that nobody has made
NOBODYS = (1 << 23) | (4000 << 10)  # a key of a shard that no server holds

COMMANDS = [  # each changes the entity of a key, as put() makes it
    ("replace", lambda key: [key, 2, "a=9"]),
    ("merge", lambda key: [key, "a=9"]),
    ("increment", lambda key: [key, "n"]),
    ("delete", lambda key: [key]),
]


def put(store, shard=3, kind=1, *words):
    return hv("put", shard, kind, *(words or ["a=1", "n=5"]), config=store).ok().out.strip()


def get(store, key):
    return hv("get", key, "--json", config=store).ok().json()


def body(store, key):
    return get(store, key)["body"]


def errors(result):
    return [json.loads(line)["error"] for line in result.err.splitlines()]


# ---- each command ----


def test_replace_changes_kind_and_all_attributes(store):
    key = put(store, 3, 1, "a=1", "b=2", "c=3")
    done = hv("replace", key, -7, "a=9", "d=", "--null", "e", config=store).ok()
    assert done.out == f"{key}\n"
    entity = get(store, key)
    assert (entity["kind"], entity["body"]) == (-7, {"a": "9", "d": "", "e": None})
    hv("replace", key, 1, config=store).ok()
    assert body(store, key) == {}


def test_merge_sets_and_removes_and_leaves_the_rest(store):
    key = put(store, 3, 1, "a=1", "b=2", "c=3", "d=4")
    done = hv("merge", key, "a=9", "e=5=5", "--remove", "b", "-r", "none", "-n", "c", config=store)
    assert done.ok().out == f"{key}\n"
    assert body(store, key) == {"a": "9", "c": None, "d": "4", "e": "5=5"}
    hv("merge", key, "--remove", "a", config=store).ok()
    assert body(store, key) == {"c": None, "d": "4", "e": "5=5"}
    assert get(store, key)["kind"] == 1


def test_increment_adds_and_prints_the_sum_alone(store):
    key = put(store, 3, 1, "n=5", "d=1.50", "null=")
    hv("merge", key, "--null", "null", config=store).ok()
    for words, total in (
        (["n"], "6"),
        (["n", "--by", "-10"], "-4"),
        (["n", "--by=0.25"], "-3.75"),
        (["d", "-b", "0.5"], "2.00"),
        (["null"], "1"),
        (["fresh", "--by", "12345678901234567890"], "12345678901234567890"),
    ):
        assert hv("increment", key, *words, config=store).ok().out == f"{total}\n"
        assert body(store, key)[words[0]] == total


def test_an_attribute_may_look_like_a_key(store):
    key = put(store, 3, 1, "7=5")
    assert hv("increment", key, "7", config=store).ok().out == "6\n"
    hv("merge", key, "7=1", config=store).ok()
    assert body(store, key) == {"7": "1"}


def test_delete_deletes(store, servers):
    keys = [put(store, shard) for shard in (2, 2, 11)]
    assert hv("delete", *keys[1:], config=store).ok().out == f"{keys[1]}\n{keys[2]}\n"
    assert hv("exists", *keys, config=store).out == f"{keys[0]}\n"
    assert count(servers) == 1


def test_get_fetches_chosen_attributes_only(store):
    key = put(store, 3, 1, "a=1", "b=2", "c=3")
    entity = get(store, key)
    some = hv("get", key, "--only", "a", "-o", "c", "-o", "none", "--json", config=store).ok().json()
    assert some == {**entity, "body": {"a": "1", "c": "3"}}
    head, *lines = hv("get", key, "--only", "b", config=store).ok().lines
    assert lines == ['  b = "2"'] and head.endswith(f"version {entity['version']}")
    many = hv("get", key, MISSING, key, "--only", "a", "--json", config=store)
    assert many.code == 3
    assert [each["body"] for each in many.ndjson()] == [{"a": "1"}] * 2


@pytest.mark.parametrize("command", ["replace", "merge"])
def test_attributes_come_from_json_by_the_rule_of_imports(store, command):
    key = put(store, 3, 1, "a=1", "old=1")
    given = '{"n": 1.10,\n "t": true, "nil": null, "o": {"x": [1, 2]}}'
    words = [key, 1] if command == "replace" else [key]
    hv(command, *words, "b=2", "--stdin", config=store, input=given).ok()
    kept = {} if command == "replace" else {"a": "1", "old": "1"}
    stored = {"b": "2", "n": "1.10", "t": "true", "nil": None, "o": '{"x":[1,2]}'}
    assert body(store, key) == {**kept, **stored}


def test_every_change_makes_another_version(store):
    key = put(store)
    versions = [get(store, key)["version"]]
    assert get(store, key)["version"] == versions[0]
    for words in (
        ["merge", key, "a=2"],
        ["merge", key, "a=2"],
        ["increment", key, "n"],
        ["replace", key, 1, "a=1"],
    ):
        hv(*words, config=store).ok()
        versions.append(get(store, key)["version"])
    assert len(set(versions)) == len(versions)


# ---- outcomes ----


@pytest.mark.parametrize("command, words", COMMANDS)
def test_what_is_not_there_is_not_found_and_nothing_is_made(store, servers, command, words):
    result = hv(command, *words(MISSING), config=store)
    assert (result.code, result.out) == (3, "")
    assert result.err == f"hv: no entity has the key {MISSING}\n"
    as_json = hv(command, *words(MISSING), "--json", config=store)
    assert (as_json.code, as_json.err) == (3, "")
    assert as_json.json() == {"id": str(MISSING), "status": "not found"}
    assert count(servers) == 0


@pytest.mark.parametrize("command, words", COMMANDS)
def test_json_has_an_object_for_each_change(store, command, words):
    key = put(store)
    done = {"id": key, "status": "done"}
    if command == "increment":
        done["value"] = "6"
    assert hv(command, *words(key), "--json", config=store).ok().json() == done


@pytest.mark.parametrize("command, words", COMMANDS)
def test_a_condition_that_does_not_hold_changes_nothing(store, command, words):
    key = put(store)
    entity = get(store, key)
    as_json = hv(command, *words(key), "--if", "a=2", "--json", config=store)
    assert (as_json.code, as_json.err) == (4, "")
    assert as_json.json() == {"id": key, "status": "changed", "present": entity}
    result = hv(command, *words(key), "--if", "a=2", "--if", "n=5", config=store)
    assert (result.code, result.out) == (4, "")
    assert result.err == (
        f"hv: the entity with the key {key} does not meet the condition\n"
        '    Its attribute "a" is "1".\n'
    )
    assert get(store, key) == entity
    hv(command, *words(key), "--if", "a=1", "--if-kind", 1, "--if-absent", "b", config=store).ok()
    if command == "delete":
        assert hv("exists", key, config=store).code == 3
    else:
        assert get(store, key)["version"] != entity["version"]


@pytest.mark.parametrize(
    "condition, holds, difference",
    [
        (["--if", "a=1"], True, None),
        (["--if", "a="], False, 'Its attribute "a" is "1".'),
        (["--if", "empty="], True, None),
        (["--if", "none=1"], False, 'It has no attribute "none".'),
        (["--if", "nil="], False, 'Its attribute "nil" is NULL.'),
        (["--if", "eq=x=y"], True, None),
        (["--if-null", "nil"], True, None),
        (["--if-null", "none"], False, 'It has no attribute "none".'),
        (["--if-null", "a"], False, 'Its attribute "a" is "1".'),
        (["--if-absent", "none"], True, None),
        (["--if-absent", "nil"], False, 'Its attribute "nil" is NULL.'),
        (["--if-kind", "-3"], True, None),
        (["--if-kind", "3"], False, "Its kind is -3."),
        (
            ["--if-kind", "3", "--if", "a=2", "--if-absent", "empty"],
            False,
            'Its kind is -3. Its attribute "a" is "1". Its attribute "empty" is "".',
        ),
    ],
)
def test_each_condition(store, condition, holds, difference):
    key = put(store, 3, -3, "a=1", "empty=", "eq=x=y", "--null", "nil")
    result = hv("merge", key, "done=yes", *condition, config=store)
    assert result.code == (0 if holds else 4)
    assert ("done" in body(store, key)) == holds
    if not holds:
        assert result.err.splitlines()[1] == f"    {difference}"


def test_a_version_is_that_of_no_later_change(store):
    key = put(store)
    version = get(store, key)["version"]
    hv("merge", key, "a=2", "--if-version", version, config=store).ok()
    after = get(store, key)["version"]
    again = hv("merge", key, "a=3", "--if-version", version, config=store)
    assert again.code == 4
    assert again.err.splitlines()[1] == f"    Its version is {after}."
    assert body(store, key)["a"] == "2"


def test_many_keys_each_have_their_own_outcome(store, servers):
    keys = [put(store, shard, 1, f"n={shard}", f"state={state}")
            for shard, state in ((2, "old"), (11, "new"), (3, "old"), (12, "old"))]
    asked = [keys[0], MISSING, keys[1], keys[2], NOBODYS, keys[3]]
    result = hv("merge", *asked, "done=1", "--if", "state=old", config=store)
    assert result.code == 1
    assert result.lines == [keys[0], keys[2], keys[3]]
    lines = result.err.splitlines()
    assert lines[0] == f"hv: no entity has the key {MISSING}"
    assert lines[1] == f"hv: the entity with the key {keys[1]} does not meet the condition"
    assert lines[2] == '    Its attribute "state" is "new".'
    assert lines[3].startswith("hv: ") and "4000" in lines[3]
    assert f"    for the key {NOBODYS}" in lines
    assert [body(store, key).get("done") for key in keys] == ["1", None, "1", "1"]

    as_json = hv("merge", *asked, "done=2", "--if", "state=old", "--json", config=store)
    assert as_json.code == 1
    assert [(each["id"], each["status"]) for each in as_json.ndjson()] == [
        (keys[0], "done"),
        (str(MISSING), "not found"),
        (keys[1], "changed"),
        (keys[2], "done"),
        (keys[3], "done"),
    ]
    (error,) = errors(as_json)
    assert (error["id"], error["status"]) == (str(NOBODYS), "HV_NO_SERVER")


@pytest.mark.parametrize(
    "there, code",
    [
        ("nobodys changed missing", 1),
        ("changed missing nobodys", 1),
        ("missing nobodys", 1),
        ("missing changed", 4),
        ("changed missing", 4),
        ("changed", 4),
        ("missing", 3),
        ("", 0),
    ],
)
def test_a_failure_counts_more_than_a_condition_and_this_more_than_a_missing_entity(
    store, there, code
):
    chosen = {"nobodys": NOBODYS, "missing": MISSING, "changed": put(store, 3, 1, "a=2")}
    good = put(store)
    result = hv("delete", good, *map(chosen.get, there.split()), "--if", "a=1", config=store)
    assert (result.code, result.out) == (code, f"{good}\n")


def test_of_many_increments_each_sum_stands_behind_its_key(store):
    keys = [put(store, shard, 1, f"n={shard}") for shard in (2, 11)]
    assert hv("increment", *keys, "n", "--by", 10, config=store).ok().lines == [
        f"{keys[0]} 12",
        f"{keys[1]} 21",
    ]
    twice = hv("increment", keys[0], keys[0], "n", "--json", config=store).ok().ndjson()
    assert [each["value"] for each in twice] == ["13", "14"]


# ---- keys on standard input ----


@pytest.mark.parametrize("command, words", COMMANDS[1:])
def test_keys_come_from_standard_input_in_any_form(store, command, words):
    keys = [put(store, shard) for shard in (2, 11, 3, 4, 5)]
    exported = json.dumps({"id": keys[2], "shard_id": 3, "kind": 1, "body": {"id": "5"}})
    text = f'{keys[1]}\n\n "{keys[0]}"\r\n{exported}\n{json.dumps({"id": keys[3]})}'
    result = hv(command, *words("-"), config=store, input=text).ok()
    expected = [keys[1], keys[0], keys[2], keys[3]]
    assert [line.split()[0] for line in result.lines] == expected
    if command == "increment":
        assert [line.split()[1] for line in result.lines] == ["6"] * 4
    mixed = hv(command, *words(keys[4])[:1], *words("-"), config=store, input="")
    assert [line.split()[0] for line in mixed.ok().lines] == [keys[4]]


def test_get_and_exists_take_keys_from_standard_input_too(store):
    keys = [put(store, shard) for shard in (2, 11)]
    text = f"{keys[1]}\n{MISSING}\n"
    found = hv("get", "-", keys[0], "--json", config=store, input=text)
    assert found.code == 3
    assert [each["id"] for each in found.ndjson()] == [keys[1], keys[0]]
    there = hv("exists", keys[0], "-", config=store, input=text)
    assert (there.code, there.out) == (3, f"{keys[0]}\n{keys[1]}\n")
    assert hv("exists", "-", config=store, input="").ok().out == ""


def test_a_line_that_is_no_key_is_reported_and_the_others_are_done(store, servers):
    keys = [put(store, shard) for shard in (2, 11)]
    rounded = 3439329500000000000
    text = f'{keys[0]}\nx\n{{"kind": 1}}\n{{"id": {rounded}}}\n{keys[1]}\n'
    result = hv("delete", "-", "--json", config=store, input=text)
    assert result.code == 1
    assert [each["id"] for each in result.ndjson()] == keys
    assert [error["message"] for error in errors(result)] == [
        'standard input, line 2, column 1: "x" is not a key',
        'standard input, line 3: no "id" with a key',
        f"standard input, line 4: the key {rounded} may have been rounded on its way",
    ]
    assert all("a key on each line" in error["hint"] for error in errors(result))
    assert count(servers) == 0


def test_input_that_is_no_list_of_keys_ends_it_before_anything_is_done(store, servers):
    key = put(store)
    lines = "".join(f"name{n},{n}\n" for n in range(1000))
    result = hv("delete", "-", config=store, input=f"{lines}{key}\n")
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith('hv: standard input, line 1, column 1: "name0,0" is not a key\n')
    assert len(result.err.splitlines()) == 2
    compressed = hv("delete", "-", config=store, input=b"\x1f\x8b\x08\x00" + b"\x00" * 100)
    assert compressed.code == 1 and "the input is gzip, not text" in compressed.err
    assert count(servers) == 1


@pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not installed")
def test_an_export_chooses_what_is_deleted_however_much_it_is(store, servers, tmp_path):
    import_file(store, write_numbers(tmp_path / "x.ndjson", 1, 12000)).ok()
    hvs = f"{build_dir()}/cli/hv -c {store}"
    script = (
        f"set -o pipefail; {hvs} export - | jq -c 'select(.body.n | tonumber <= 10000)' |"
        f" {hvs} delete - | wc -l"
    )
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "10000"
    assert sorted(int(each["n"]) for each in bodies(servers)) == list(range(10001, 12001))


def peak_memory(store, key, lines):
    """How much memory a command needs for so many keys, of which each returns its entity, in kB."""
    script = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL);"
        " print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    command = [f"{build_dir()}/cli/hv", "-c", str(store), "delete", "-", "--json", "--if", "a=y"]
    done = subprocess.run(
        ["/usr/bin/python3", "-c", script, *command],
        input=f"{key}\n" * lines,
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)


@pytest.mark.plain  # sanitizers keep what was freed
def test_memory_is_bounded_however_many_keys_there_are(store):
    key = put(store, 3, 1, "a=" + "x" * 20000)
    few, many = peak_memory(store, key, 2000), peak_memory(store, key, 8000)
    assert many < few + 20000  # 6,000 more entities have 120,000 kB


def test_an_interrupt_ends_it_after_what_was_begun(store, servers):
    keys = [put(store, 3, 1, f"n={n}") for n in range(2)]
    with servers[0].connect() as holder:
        holder.autocommit = False
        holder.cursor().execute("LOCK TABLE shard0003.entities")
        child = spawn("hv", "delete", "-", config=store, stderr=subprocess.PIPE)
        child.stdin.write("".join(f"{keys[0]}\n" for _ in range(1000)).encode())
        child.stdin.write(f"{keys[1]}\n".encode())
        child.stdin.flush()
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
        eventually(lambda: servers[0].value(waiting) > 0)
        child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=60)
    assert child.returncode == -signal.SIGINT
    assert out.decode() == f"{keys[0]}\n" and err.decode().count("no entity has the key") == 999
    assert [each["n"] for each in bodies(servers)] == ["1"]


def test_output_that_cannot_be_written_ends_the_changes(store, servers):
    keys = [put(store, 3, 1, f"n={n}") for n in range(2)]
    text = "".join(f"{keys[0]}\n" for _ in range(1000)) + f"{keys[1]}\n"
    with open("/dev/full", "wb") as full:
        child = spawn("hv", "delete", "-", config=store, stdout=full, stderr=subprocess.PIPE)
        _, err = child.communicate(text.encode())
    assert child.returncode == 1 and b"could not write to standard output" in err
    assert [each["n"] for each in bodies(servers)] == ["1"]


# ---- bad input ----


@pytest.mark.parametrize(
    "words, message",
    [
        (["replace", "5"], "an argument is missing"),
        (["replace", "-", "1"], 'KEY is not a number: "-"'),
        (["replace", "5", "40000"], "KIND is out of range: 40000"),
        (["replace", "5", "1", "a"], 'attribute "a" has no value'),
        (["replace", "5", "1", "a=1", "--null", "a"], 'attribute "a" is given twice'),
        (["merge"], "arguments are missing"),
        (["merge", "5"], "there is no attribute to set or remove"),
        (["merge", "a=1"], "no key was given before the attributes"),
        (["merge", "x", "a=1"], 'KEY is not a number: "x"'),
        (["merge", "5", "a=1", "6"], 'attribute "6" has no value'),
        (["merge", "5", "a=1", "--remove", "a"], 'attribute "a" is both set and removed'),
        (["merge", "5", "--null", "a", "--remove", "a"], 'attribute "a" is both set and removed'),
        (["merge", "-", "--stdin"], "standard input is either attributes or keys"),
        (["increment", "5"], "an argument is missing"),
        (["increment", "x", "n"], 'KEY is not a number: "x"'),
        (["increment", "5", "n", "--by", "much"], 'AMOUNT is not a number: "much"'),
        (["increment", "5", "n", "--by", "1e5"], 'AMOUNT is not a number: "1e5"'),
        (["increment", "5", "n", "--by", ""], 'AMOUNT is not a number: ""'),
        (["delete"], "arguments are missing"),
        (["delete", "0"], "KEY is out of range: 0"),
        (["delete", "-", "-"], "standard input can be read only once"),
        (["delete", "5", "--if", "a"], '--if "a" has no value'),
        (["delete", "5", "--if-kind", "x"], 'KIND is not a number: "x"'),
        (["delete", "5", "--if", "a=1", "--if", "a=2"], "the condition contradicts itself"),
        (["delete", "5", "--if", "a=1", "--if-null", "a"], "the condition contradicts itself"),
        (["delete", "5", "--if", "a=1", "--if-absent", "a"], "the condition contradicts itself"),
        (["delete", "5", "--if-absent", "a", "--if", "a=1"], "the condition contradicts itself"),
        (["delete", "5", "--if-kind", "1", "--if-kind", "2"], "the condition contradicts itself"),
        (["delete", "5", "--if-version", "x"], '"x" is not a version of an entity'),
        (["delete", "5", "6", "--if-version", "5-1-0-1"], "--if-version is for a single key"),
        (["delete", "-", "--if-version", "5-1-0-1"], "--if-version is for a single key"),
        (["get", "-", "-"], "standard input can be read only once"),
    ],
)
def test_what_is_typed_wrong_is_a_usage_error_before_anything_is_begun(words, message):
    result = hv(*words, input="")  # there is no configuration
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(f"hv: {message}"), result.err
    assert result.err.count("hv: ") == 1


def test_a_condition_may_be_given_twice(store):
    key = put(store)
    hv("merge", key, "a=2", "--if", "a=1", "--if", "a=1", "--if-kind", 1, "--if-kind", 1,
       "--if-absent", "b", "--if-absent", "b", config=store).ok()


def test_a_version_of_another_entity_is_refused(store):
    keys = [put(store), put(store)]
    version = get(store, keys[0])["version"]
    result = hv("delete", keys[1], "--if-version", version, config=store)
    assert (result.code, result.out) == (1, "")
    assert keys[0] in result.err and keys[1] in result.err
    assert hv("exists", *keys, config=store).ok()


def test_a_value_that_is_no_number_is_named_and_the_others_are_done(store):
    keys = [put(store, 2, 1, "n=5"), put(store, 2, 1, "n=five"), put(store, 2, 1, "n=7")]
    result = hv("increment", *keys, "n", "--json", config=store)
    assert result.code == 1
    assert [(each["id"], each["value"]) for each in result.ndjson()] == [
        (keys[0], "6"),
        (keys[2], "8"),
    ]
    (error,) = errors(result)
    assert (error["id"], error["status"]) == (keys[1], "HV_INVALID")
    assert "five" in json.dumps(error) and '\\"n\\"' in json.dumps(error)
    assert body(store, keys[1]) == {"n": "five"}


def test_a_server_that_is_down_fails_its_own_keys_only(own_store, own_servers):
    keys = [put(own_store, shard) for shard in (2, 11, 3)]
    own_servers[1].server.stop()
    result = hv("delete", *keys, "--json", config=own_store)
    assert result.code == 1
    assert [each["id"] for each in result.ndjson()] == [keys[0], keys[2]]
    (error,) = errors(result)
    assert (error["id"], error["server"]) == (keys[1], "two")
    assert error["status"] == "HV_UNAVAILABLE" and error["retriable"] is True


def test_a_change_that_a_trigger_keeps_from_being_made_is_an_error(store, servers):
    key = put(store)
    servers[0].sql(
        "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NULL; END$$;"
        "CREATE TRIGGER keep BEFORE UPDATE OR DELETE ON shard0003.entities"
        " FOR EACH ROW EXECUTE FUNCTION public.keep()"
    )
    for command, words in COMMANDS:
        result = hv(command, *words(key), "--json", config=store)
        assert (result.code, result.out) == (1, ""), command
        (error,) = errors(result)
        assert error["status"] == "HV_NOT_STORED"


def cut_off(store, between, database, *words):
    """Run a command whose connection is cut while the server works on its change."""
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
    with database.connect() as holder:
        holder.autocommit = False
        holder.cursor().execute("LOCK TABLE shard0003.entities")
        child = spawn("hv", *words, "--json", config=store, stderr=subprocess.PIPE)
        eventually(lambda: database.value(waiting) == 1)
        between.cut()
        if words[0] != "increment":  # it is sent again
            eventually(lambda: database.value(waiting) == 2)
    out, err = child.communicate(timeout=60)
    eventually(lambda: database.value(waiting) == 0)
    return child.returncode, out.decode(), err.decode()


def test_after_a_lost_connection_only_an_increment_is_not_repeated(relayed_store, own_servers):
    config, between = relayed_store
    database = own_servers[0]
    key = put(config)
    for command, words in COMMANDS[:2] + COMMANDS[3:]:
        code, out, err = cut_off(config, between, database, command, *words(key))
        assert (code, json.loads(out), err) == (0, {"id": key, "status": "done"}, "")
    key = put(config)
    code, out, err = cut_off(config, between, database, "increment", key, "n")
    error = json.loads(err)["error"]
    assert (code, out) == (1, "")
    assert (error["id"], error["status"]) == (key, "HV_OUTCOME_UNKNOWN")
    assert error["outcome_unknown"] is True
    assert body(config, key)["n"] in ("5", "6")


def test_what_is_stored_cannot_take_over_the_terminal(store):
    nasty = "\x1b]0;title\x07"
    key = put(store, 3, 1, f"{nasty}={nasty}")
    result = hv("delete", key, "--if", f"{nasty}=x", config=store)
    assert result.code == 4 and "\x1b" not in result.err and "\x07" not in result.err


# ---- the document ----


@pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not installed")
def test_the_documents_examples_run(store, servers, tmp_path):
    for kind, state in ((7, "old"), (7, "new"), (1, "old")):
        put(store, 2, kind, f"state={state}")
    text = (source_dir() / "docs" / "operations.md").read_text(encoding="utf-8")
    section = text.partition("\n## Changing data from the shell\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    assert len(blocks) == 3
    printed = []
    for block in blocks:
        done = subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", block],
            cwd=tmp_path,
            env={**os.environ, "HYPERVAULT_CONFIG": str(store),
                 "PATH": f"{build_dir()}/cli:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        printed.append(done.stdout.splitlines())
    key = printed[0][-1]
    assert printed[0][-6:] == [key, "1", "11", key, key, key]
    assert len((tmp_path / "deleted").read_text().splitlines()) == 1
    left = [(kind, attributes) for _, kind, attributes in entities(servers)]
    assert left == [
        (7, {"state": "new"}),
        (1, {"state": "old"}),
        (1, {"title": "Harbour at night"}),
    ]
