"""The command hv: help, typing mistakes, put, get, init and status on real servers."""

import json
import os
import re
import signal
import subprocess

import pytest

from harness import build_dir, eventually, hv, spawn, store_config

MISSING = 307821103844175873  # shard 12, of a database that has no entities


def put(config, *args):
    return int(hv("put", *args, config=config).ok().out)


# ---- help ----


def test_help_and_version_need_nothing():
    overview = hv("help").ok()
    assert overview.err == ""
    for command in ("put", "get", "key", "init", "status", "dev up", "help"):
        assert f"\n  {command} " in overview.out
    assert hv("--help").ok().out == overview.out
    assert hv("--version").ok().out.startswith("hv ")
    assert hv().code == 2
    assert hv().out == overview.out


def test_help_and_version_are_json_wherever_that_is_asked_for():
    everything = hv("help", "--json").ok().json()
    version = {"version": everything["version"]}
    for words in (["--version", "--json"], ["--json", "--version"], ["-V", "--json"],
                  ["put", "--version", "--json"], ["put", "12", "--json", "--version"]):
        assert hv(*words).ok().json() == version
    assert hv("--version").ok().out == f"hv {everything['version']}\n"
    for words in (["--help", "--json"], ["--json", "--help"], ["-h", "--json"], ["--json", "help"]):
        assert hv(*words).ok().json() == everything
    (put,) = (command for command in everything["commands"] if command["name"] == "put")
    for words in (["put", "--help", "--json"], ["put", "--json", "-h"], ["--json", "help", "put"]):
        assert hv(*words).ok().json() == put
    group = hv("help", "dev", "--json").ok().json()["commands"]
    assert group == [one for one in everything["commands"] if one["name"].startswith("dev ")]
    assert "Usage" in hv("put", "--help", "--", "--json").ok().out


def test_every_command_explains_itself_in_lines_that_fit():
    everything = hv("help", "--json").ok().json()
    assert len(everything["commands"]) >= 12
    for command in everything["commands"]:
        words = command["name"].split()
        shown = hv("help", *words).ok().out
        assert hv(*words, "--help").ok().out == shown
        assert hv(*words, "-h", "anything").ok().out == shown
        assert command["summary"] in shown
        assert command["examples"].splitlines()[0] in shown
        for option in command["options"]:
            assert f"--{option['name']}" in shown
        assert max(map(len, shown.splitlines())) <= 100, shown
        assert hv("help", *words, "--json").ok().json() == command


def test_help_shows_the_options_of_the_configuration():
    shown = hv("help", "options").ok().out
    options = hv("help", "options", "--json").ok().json()
    assert {"pool_max", "pool_block_timeout", "epoch"} <= {option["name"] for option in options}
    for option in options:
        assert f"{option['name']} = {option['default']}".rstrip() in shown


def test_the_first_word_of_dev_lists_what_can_follow():
    shown = hv("help", "dev").ok().out
    assert "hv dev up" in shown and "hv dev destroy" in shown
    assert hv("dev", "--help").ok().out == shown
    bare = hv("dev")
    assert (bare.code, bare.out) == (2, shown)


@pytest.mark.parametrize(
    "args, message, hint",
    [
        (["stauts"], 'unknown command "stauts"', "Did you mean `hv status`?"),
        (["dev", "dwn"], 'unknown command "dev dwn"', "Did you mean `hv dev down`?"),
        (["frobnicate"], 'unknown command "frobnicate"', "See `hv help` for the commands"),
        (["dev", "frobnicate"], 'unknown command "dev frobnicate"', "See `hv help dev`"),
        (["help", "ptu"], 'there is no command "ptu"', "Did you mean `hv help put`?"),
        (["--jsn", "status"], "unknown option --jsn", "Did you mean --json?"),
        (["status", "--shrads"], "unknown option --shrads", "Did you mean --shards?"),
        (["status", "-x"], "unknown option -x", "Usage is `hv status [--shards]`"),
        (["status", "--shards=1"], "option --shards takes no argument", "Usage is"),
        (["status", "extra"], 'unexpected argument "extra"', "Usage is"),
        (["init", "--", "--json"], 'unexpected argument "--json"', "Usage is `hv init [--keys"),
        (["put"], "arguments are missing", "Usage is `hv put SHARD KIND"),
        (["put", "5"], "an argument is missing", "Usage is"),
        (["put", "8192", "1"], "SHARD is out of range: 8192", "from 0 to 8191"),
        (["put", "-1", "1"], "SHARD is out of range: -1", "from 0 to 8191"),
        (["put", "five", "1"], 'SHARD is not a number: "five"', "from 0 to 8191"),
        (["put", "5", "32768"], "KIND is out of range: 32768", "from -32768 to 32767"),
        (["put", "5", "1", "a"], 'attribute "a" has no value', "--null a"),
        (["put", "5", "1", "a=1", "a=2"], 'attribute "a" is given twice', "once"),
        (["put", "5", "1", "a=1", "-n", "a"], 'attribute "a" is given twice', "once"),
        (["put", "5", "1", "-n"], "option --null needs an argument: NAME", "Usage is"),
        (["get"], "arguments are missing", "Usage is `hv get KEY... [--only NAME,...]`"),
        (["get", "12", "x"], 'KEY is not a number: "x"', "9223372036854775807"),
        (["completion", "tcsh"], 'unknown shell "tcsh"', "bash"),
        (["--config"], "option --config needs an argument: FILE", "See `hv help`."),
    ],
)
def test_what_is_typed_wrong_gets_one_clear_error(args, message, hint):
    result = hv(*args)
    assert (result.code, result.out) == (2, "")
    lines = result.err.splitlines()
    assert lines[0] == f"hv: {message}"
    assert lines[1].startswith("    hint: ") and hint in lines[1]
    assert len(lines) == 2


def test_errors_are_json_when_results_are():
    result = hv("--json", "put", "5", "1", "a")
    assert result.code == 2
    assert json.loads(result.err) == {
        "error": {
            "status": "HV_INVALID",
            "message": 'attribute "a" has no value',
            "hint": "Write a=VALUE, a= for an empty value, or --null a.",
        }
    }


# ---- configuration ----


@pytest.mark.parametrize("command", [["status"], ["init"], ["put", 1, 1], ["get", 1]])
def test_without_a_configuration_it_says_how_to_come_by_one(command, tmp_path):
    result = hv(*command, cwd=tmp_path)
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith("hv: no configuration file found\n")
    assert "./hypervault.conf" in result.err
    assert "hv dev up" in result.err


def test_the_option_config_stands_anywhere_and_wins(store, tmp_path):
    wrong = tmp_path / "wrong.conf"
    for args in (
        ["-c", store, "status"],
        ["status", "-c", store],
        ["status", f"-c{store}"],
        ["status", f"--config={store}"],
        ["--json", "--config", store, "status", "--shards"],
    ):
        hv(*args, config=wrong).ok()
    assert hv("status", config=wrong).code == 1


def test_a_mistake_in_the_file_is_shown_with_its_line(tmp_path):
    config = tmp_path / "a.conf"
    config.write_text("[hypervault]\npol_max = 5\n")
    result = hv("status", config=config)
    assert (result.code, result.out) == (1, "")
    assert f"{config}:2:" in result.err
    assert "pool_max" in result.err


# ---- put and get ----


def test_what_was_put_is_what_get_shows(store, servers):
    key = put(store, 12, -3, "beep=boop", "empty=", "eq=a=b", "=noname", "ü=é", "--null", "nothing")
    assert servers[1].query("SELECT id, type, body -> 'beep' FROM shard0012.entities") == [
        (key, -3, "boop")
    ]
    entity = hv("get", key, "--json", config=store).ok().json()
    assert entity.pop("created") == hv("key", key, "--json").ok().json()["created"]
    version = entity.pop("version")
    assert re.fullmatch(r"\S+", version)
    assert entity == {
        "id": str(key),
        "shard_id": 12,
        "kind": -3,
        "body": {
            "": "noname",
            "beep": "boop",
            "empty": "",
            "eq": "a=b",
            "nothing": None,
            "ü": "é",
        },
    }
    first, *attributes = hv("get", key, config=store).ok().lines
    assert first.startswith(f"{key}  kind -3  shard 12 on two  created 20")
    assert first.endswith(f"Z  version {version}")
    assert [line.split(" = ") for line in attributes] == [
        ["         ", '"noname"'],
        ["  beep   ", '"boop"'],
        ["  empty  ", '""'],
        ["  eq     ", '"a=b"'],
        ["  nothing", "NULL"],
        ["  ü      ", '"é"'],
    ]


def test_put_reports_more_than_the_key_to_programs(store):
    answer = hv("put", 3, 7, "a=b", "--json", config=store).ok().json()
    assert set(answer) == {"id", "created", "shard_id", "kind"}
    assert (answer["shard_id"], answer["kind"]) == (3, 7)
    decoded = hv("key", answer["id"], "--json", config=store).ok().json()
    assert (decoded["created"], decoded["server"]) == (answer["created"], "one")


def test_an_entity_needs_no_attributes(store):
    key = put(store, 1, 0)
    assert hv("get", key, "--json", config=store).ok().json()["body"] == {}
    assert len(hv("get", key, config=store).ok().lines) == 1


def test_words_after_two_dashes_are_never_options(store):
    key = put(store, 1, 0, "--", "-a=1", "--null=2")
    body = hv("get", key, "--json", config=store).ok().json()["body"]
    assert body == {"-a": "1", "--null": "2"}


def test_attributes_come_from_standard_input_too(store):
    given = {"a": "1", "nothing": None, "text": "line\nline", "é": "\U0001f600"}
    done = hv("put", 1, 0, "b=2", "--stdin", config=store, input=json.dumps(given)).ok()
    body = hv("get", done.out.strip(), "--json", config=store).ok().json()["body"]
    assert body == {**given, "b": "2"}


def test_values_that_are_not_text_are_stored_as_an_import_stores_them(store, tmp_path):
    row = '{"n": 1.10, "big": 12345678901234567890, "e": -1e400, "t": true, "f": false, "nil": null, '
    row += '"o": { "b" : [1, "x y", {}], "a": null }, "text": "1"}'
    (tmp_path / "x.ndjson").write_text(row + "\n")
    hv("import", "x.ndjson", "--kind", 1, "--shard", 2, config=store, cwd=tmp_path).ok()
    (imported,) = hv("export", "-", config=store).ok().ndjson()
    key = put_stdin(store, row.replace(", ", ",\n"))
    assert hv("get", key, "--json", config=store).ok().json()["body"] == imported["body"]
    assert imported["body"] == {
        "n": "1.10",
        "big": "12345678901234567890",
        "e": "-1e400",
        "t": "true",
        "f": "false",
        "nil": None,
        "o": '{"b":[1,"x y",{}],"a":null}',
        "text": "1",
    }


def put_stdin(store, text):
    return hv("put", 1, 0, "--stdin", config=store, input=text).ok().out.strip()


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "line 1, column 1: expected an object, but the text ends"),
        ("{", "line 1, column 2: expected a name in quotes, but the text ends"),
        ('{"a":\n "1"}\n x', 'line 3, column 2: expected the end of the text, found "x"'),
        ('{"a": "1", "a": "2"}', 'line 1, column 12: the name "a" is given twice'),
        (b'{"a": "\xff"}', "line 1, column 8: the byte 0xff is not UTF-8"),
        (b'{"a": "\x00"}', "line 1, column 8: a NUL byte"),
        ('{"a": "\\u0000"}', "line 1, column 8: PostgreSQL's text cannot hold the character"),
        ('["a"]', 'line 1, column 1: expected an object, found "["a"]"'),
        ('{"a": 01}', "line 1, column 8: a number must not have leading zeros"),
        ('{"b": "2"}', 'attribute "b" is given twice'),
    ],
)
def test_standard_input_that_is_no_dict_of_text_is_refused(store, servers, text, message):
    result = hv("put", 1, 0, "b=1", "--stdin", config=store, input=text)
    assert (result.code, result.out) == (2, "")
    place = "standard input, " if message.startswith("line") else ""
    assert result.err.startswith(f"hv: {place}{message}")
    assert servers[0].value("SELECT count(*) FROM shard0001.entities") == 0


def test_attributes_that_are_not_utf8_are_refused(store):
    result = hv("put", 1, 0, os.fsdecode(b"a=\xff"), config=store)
    assert (result.code, result.out) == (2, "")
    assert "UTF-8" in result.err


def test_a_shard_that_no_server_holds_is_an_error(store):
    result = hv("put", 4000, 1, config=store)
    assert (result.code, result.out) == (1, "")
    assert "4000" in result.err


def test_a_shard_that_was_not_made_says_what_to_do(config):
    result = hv("put", 1, 1, config=config)
    assert (result.code, result.out) == (1, "")
    assert "hv init" in result.err


def test_missing_entities_are_said_and_the_others_shown(store):
    keys = [put(store, shard, 1, f"n={shard}") for shard in (2, 11)]
    result = hv("get", keys[0], MISSING, keys[1], "--json", config=store)
    assert result.code == 3
    assert [entity["id"] for entity in result.ndjson()] == [str(key) for key in keys]
    assert json.loads(result.err)["error"] == {
        "status": "HV_NOT_FOUND",
        "id": str(MISSING),
        "message": f"no entity has the key {MISSING}",
    }
    result = hv("get", MISSING, keys[0], config=store)
    assert result.code == 3
    assert result.err == f"hv: no entity has the key {MISSING}\n"
    assert result.lines[0].startswith(str(keys[0]))


def test_a_failure_counts_more_than_a_missing_entity(own_store, own_servers):
    key = put(own_store, 2, 1, "a=b")
    on_two = put(own_store, 12, 1, "a=b")
    own_servers[1].server.stop()
    result = hv("get", key + 1, on_two, key, "--json", config=own_store)
    assert result.code == 1
    assert [entity["id"] for entity in result.ndjson()] == [str(key)]
    errors = [json.loads(line)["error"] for line in result.err.splitlines()]
    assert [error["status"] for error in errors] == ["HV_NOT_FOUND", "HV_UNAVAILABLE"]
    assert errors[1]["server"] == "two"
    assert errors[1]["retriable"] is True


def test_nothing_stored_can_take_over_the_terminal(store):
    nasty = "\x1b]0;title\x07\r\x08\u009b31m\u202e\x7f\ttab\nline"
    key = put(store, 1, 1, f"{nasty}={nasty}")
    shown = hv("get", key, config=store).ok()
    escaped = r"\x1b]0;title\x07\r\x08\u009b31m\u202e\x7f\ttab\nline"
    assert shown.lines[1] == f'  {escaped} = "{escaped}"'
    body = hv("get", key, "--json", config=store).ok().json()["body"]
    assert body == {nasty: nasty}


# ---- output ----


def test_a_reader_that_has_seen_enough_ends_get_quietly(store):
    key = put(store, 1, 1, "a=" + "x" * 1000)
    child = spawn("hv", "get", *[key] * 500, config=store, stderr=subprocess.PIPE)
    child.stdout.readline()
    child.stdout.close()
    assert child.wait(60) == -signal.SIGPIPE
    assert child.stderr.read() == b""
    child.stderr.close()
    child.stdin.close()


@pytest.mark.parametrize(
    "args",
    [
        ["help"],
        ["put", "--help"],
        ["--version"],
        ["get", "KEY"],
        ["get", "KEY", "--json"],
        ["status"],
    ],
)
def test_output_that_cannot_be_written_is_an_error(store, args):
    key = str(put(store, 1, 1, "a=b"))
    args = [key if word == "KEY" else word for word in args]
    with open("/dev/full", "wb") as full:
        child = spawn("hv", *args, config=store, stdout=full)
        _, errors = child.communicate()
    assert child.returncode == 1
    message = json.loads(errors)["error"]["message"] if "--json" in args else errors.decode()
    assert "could not write to standard output" in message


def test_a_closed_standard_output_is_an_error_and_no_connection_takes_its_place(store):
    command = f"'{build_dir()}/cli/hv' -c '{store}' put 1 1 a=b >&-"
    done = subprocess.run(["bash", "-c", command], capture_output=True, check=False)
    assert done.returncode == 1
    assert b"could not write to standard output" in done.stderr


def test_colours_are_for_terminals_only(on_terminal, store):
    assert "\x1b[" in on_terminal("status", config=store).ok().out
    assert "\x1b[" not in hv("status", config=store, env={"TERM": "xterm"}).ok().out
    for args, env in (
        (["status", "--no-color"], {}),
        (["status"], {"NO_COLOR": "1"}),
        (["status"], {"TERM": "dumb"}),
        (["status"], {"TERM": None}),
    ):
        assert "\x1b[" not in on_terminal(*args, config=store, env=env).ok().out
    assert "\x1b[" in on_terminal("status", config=store, env={"NO_COLOR": ""}).ok().out


# ---- init ----


def test_init_makes_what_is_missing_and_only_that(config, servers):
    first = hv("init", config=config).ok()
    assert [line.split() for line in first.lines] == [
        ["server", "shards", "created", "there", "before", "keys", "state"],
        ["one", "8", "8", "0", "portable", "ready"],
        ["two", "8", "8", "0", "portable", "ready"],
    ]
    assert first.err == ""
    servers[0].sql("DROP SCHEMA shard0003 CASCADE")
    again = hv("init", "--json", config=config).ok().json()
    keys = {"strict": 0, "portable": 8, "original": 0}
    assert again == [
        {"server": "one", "ready": True, "shards": 8, "created": 1, "keys": keys},
        {"server": "two", "ready": True, "shards": 8, "created": 0, "keys": keys},
    ]


def test_init_draws_a_bar_for_each_server(on_terminal, tmp_path, servers):
    one, two = servers
    config = store_config(tmp_path / "a.conf", {"one": (one, "0-300"), "two": (two, "300-310")})
    shown = on_terminal("init", config=config).ok().out
    assert "/300 shards" in shown and "10/10 shards" in shown
    assert "█" in shown
    assert shown.rstrip().endswith("ready\x1b[0m")


def test_progress_fits_into_a_narrow_terminal(on_terminal, tmp_path, server):
    config = store_config(tmp_path / "a.conf", {"one": (server, "0-300")})
    shown = on_terminal("init", config=config, columns=30).ok().out
    plain = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", shown)
    bars = [line for line in re.split(r"[\r\n]+", plain) if "/300" in line]
    assert bars and max(map(len, bars)) < 30


# ---- status ----


def test_status_counts_what_is_there(store, servers):
    for _ in range(3):
        put(store, 12, 1, "a=b")
    shown = hv("status", config=store).ok()
    rows = [line.split() for line in shown.lines]
    assert rows[0] == "server state postgres layout shards keys entities size connections".split()
    assert [row[:2] + row[4:7] for row in rows[1:-1]] == [
        ["one", "ready", "8", "portable", "0"],
        ["two", "ready", "8", "portable", "3"],
    ]
    assert shown.lines[-1] == "schemas: alike"
    report = hv("status", "--json", config=store).ok().json()
    assert report["epoch"] == 1379365531352
    one, two = report["servers"]
    assert (one["name"], one["ready"], one["shards_ready"], one["entities"]) == ("one", True, 8, 0)
    assert two["database"] == servers[1].dbname
    assert two["postgres_version"].startswith(servers[1].value("SHOW server_version").split()[0])
    counts = {shard["shard_id"]: shard["entities"] for shard in two["shards"]}
    assert counts == {**dict.fromkeys(range(9, 17), 0), 12: 3}


def test_status_lists_every_shard_when_asked(store):
    lines = hv("status", "--shards", config=store).ok().lines
    start = lines.index("") + 1
    assert lines[start].split() == ["shard", "server", "state", "keys", "entities", "size"]
    rows = [line.split()[:5] for line in lines[start + 1 : -1]]
    assert rows == [
        [str(n), "one" if n < 9 else "two", "ready", "portable", "0"] for n in range(1, 17)
    ]


def test_status_says_which_shards_are_not_in_order(store, servers):
    servers[0].sql("DROP SCHEMA shard0002 CASCADE")
    servers[0].sql("DROP SCHEMA shard0003 CASCADE")
    servers[0].sql("DROP SCHEMA shard0007 CASCADE")
    servers[1].sql("DROP TABLE shard0012.entities")
    result = hv("status", config=store)
    assert result.code == 1
    assert "one: 3 shards missing (2 to 3, 7): `hv init` makes them" in result.lines
    assert any(line.startswith("two: 1 shard incomplete (12): ") for line in result.lines)
    one, two = hv("status", "--json", config=store).json()["servers"]
    assert (one["shards_ready"], one["shards_missing"]) == (5, 3)
    assert (two["shards_ready"], two["shards_incomplete"]) == (7, 1)
    hv("init", config=store).ok()
    hv("status", config=store).ok()


def test_status_shows_shards_that_the_configuration_does_not_know(store, servers, tmp_path):
    one, two = servers
    config = store_config(tmp_path / "less.conf", {"one": (one, "1-5"), "two": (two, "9-17")})
    shown = hv("status", config=config).ok()
    assert any(line.startswith("one: 4 shards unmapped (5 to 8): ") for line in shown.lines)


def test_a_new_database_is_not_initialised(config):
    result = hv("status", config=config)
    assert result.code == 1
    assert result.lines[1].split()[:3] == ["one", "not", "initialised"]
    assert "one: 8 shards missing (1 to 8): `hv init` makes them" in result.lines


def test_an_unreachable_server_hides_nothing_of_the_others(own_store, own_servers):
    own_servers[0].server.stop()
    result = hv("status", config=own_store)
    assert result.code == 1
    rows = [line.split() for line in result.lines]
    assert rows[1][:3] == ["one", "unreachable", "-"]
    assert rows[2][:2] == ["two", "ready"]
    assert 'server "one"' in result.err and 'server "two"' not in result.err
    one, two = hv("status", "--json", config=own_store).json()["servers"]
    assert (one["reachable"], one["error"]["status"]) == (False, "HV_UNAVAILABLE")
    assert two["ready"] is True


def test_servers_that_do_not_answer_are_waited_for_together(own_store, own_servers):
    with open(own_store, "a", encoding="utf-8") as file:
        file.write("[hypervault]\npool_block_timeout = 6s\noperation_timeout = 6s\n")
    with own_servers[0].server.frozen(), own_servers[1].server.frozen():
        child = spawn("hv", "status", "--json", config=own_store)
        eventually(lambda: child.poll() is not None, timeout=11.5, what="both have timed out")
    out, _ = child.communicate()
    assert child.returncode == 1
    assert [server["reachable"] for server in json.loads(out)["servers"]] == [False, False]


# ---- completion ----


def complete(*words, env=None):
    """The completion script's suggestions for the last word."""
    hv_path = build_dir() / "cli" / "hv"
    script = (
        f"PATH={hv_path.parent}:$PATH; source <(hv completion bash) || exit 9\n"
        'COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()\n'
        '_hv 2>/dev/null; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "-c", script, "bash", *words],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **(env or {})},
    )
    return [line for line in done.stdout.split("\n") if line]


def test_the_completion_knows_commands_and_options(tmp_path):
    assert {"put", "get", "dev", "status"} <= set(complete("hv", ""))
    assert complete("hv", "st") == ["status"]
    assert set(complete("hv", "dev", "")) == {"up", "down", "status", "psql", "destroy"}
    assert complete("hv", "dev", "up", "--serv") == ["--servers"]
    assert complete("hv", "--json", "status", "--sh") == ["--shards"]
    assert complete("hv", "put", "--js") == ["--json"]
    assert complete("hv", "help", "opt") == ["options"]
    (tmp_path / "some.conf").touch()
    assert complete("hv", "-c", f"{tmp_path}/so") == [f"{tmp_path}/some.conf"]


def option_names(option):
    return [f"--{option['name']}"] + ([f"-{option['letter']}"] if "letter" in option else [])


def test_the_completion_knows_what_follows_each_option(store, tmp_path):
    """Values, files, folders, users and servers; nothing where any text is possible."""
    (tmp_path / "some folder").mkdir()
    (tmp_path / "some file").touch()
    start = f"{tmp_path}/so"
    expected = {
        "FILE": [f"{start}me file", f"{start}me folder"],
        "DIR": [f"{start}me folder"],
        "USER": ["root"],
        "SERVER": ["one", "two"],
    }
    begun = {"FILE": start, "DIR": start, "USER": "roo", "SERVER": ""}
    everything = hv("help", "--json").json()
    asked = {"HYPERVAULT_CONFIG": str(store)}
    count = 0
    for command in everything["commands"]:
        for option in command.get("options", []) + everything["global_options"]:
            kind = option.get("argument")
            for name in option_names(option) if kind else []:
                count += 1
                if "values" in option:
                    begin, offered = "", option["values"].split()
                else:
                    begin, offered = begun.get(kind, ""), expected.get(kind, [])
                words = ["hv", *command["name"].split(), name, begin]
                found = complete(*words, env=asked)
                assert sorted(found) == sorted(offered), words
                if len(name) > 2:
                    words[-2:] = [name, "=", begin] if begin else [name, "="]
                    assert sorted(complete(*words, env=asked)) == sorted(offered), words
    assert count > 50


def test_an_option_with_a_few_values_has_them_in_its_help_and_refuses_others():
    for command in hv("help", "--json").json()["commands"]:
        for option in command.get("options", []):
            phrase = option["help"].split(";")[0]
            choices = re.fullmatch(r"\w+(, \w+)* or \w+", phrase)
            assert ("values" in option) == bool(choices), option
            if choices:
                assert option["values"].split() == re.split(r", | or ", phrase)
                words = [*command["name"].split(), f"--{option['name']}", "zzz"]
                assert hv(*words).code == 2 and "zzz" in hv(*words).err


def test_the_completion_knows_what_follows_each_command():
    everything = {command["name"] for command in hv("help", "--json").json()["commands"]}
    firsts = {name.split()[0] for name in everything}
    assert set(complete("hv", "help", "")) == firsts | {"options"}
    for group in ("dev", "index", "migrate", "schema"):
        seconds = {name.split()[1] for name in everything if name.startswith(f"{group} ")}
        assert seconds and set(complete("hv", group, "")) == seconds
        assert set(complete("hv", "help", group, "")) == seconds
    options = {"--max-failures", "--max-wait"}
    assert set(complete("hv", "migrate", "folder", "--max-")) == options
    assert set(complete("hv", "migrate", "status", "--max-")) == set()
    assert complete("hv", "help", "dev", "u") == ["up"]
    assert complete("hv", "help", "put", "") == complete("hv", "help", "dev", "up", "") == []
    works = {"put", "get", "merge", "modify", "delete", "mix"}
    assert set(complete("hv", "bench", "")) == works
    assert set(complete("hv", "completion", "")) == {"bash", "servers"}
    assert complete("hv", "put", "") == complete("hv", "get", "") == []


def test_the_completion_can_ask_for_the_servers(store):
    assert complete("hv", "-c", str(store), "init", "--without", "") == ["one", "two"]
    assert complete("hv", "init", "-c", str(store), "-w", "t") == ["two"]
    assert hv("completion", "servers", config=store).ok().lines == ["one", "two"]
