"""hv key: taking keys apart and making them, without any server."""

import datetime
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness import hv, store_config

GOLDEN = 307821103844175873
EPOCH = 1379365531352
NOWHERE = {"host": "/nonexistent", "user": "nobody"}  # a server that is never asked

generated = settings(max_examples=40, deadline=None)


def iso(milliseconds):
    moment = datetime.datetime(1970, 1, 1) + datetime.timedelta(milliseconds=milliseconds)
    return moment.isoformat(timespec="milliseconds") + "Z"


def decoded(key, *args, **how):
    return hv("key", key, "--json", *args, **how).ok().json()


def made(at, *args, **how):
    return hv("key", f"--at={at}", "--json", *args, **how).ok().json()


# ---- taking apart ----


def test_the_golden_key_is_what_the_contract_says():
    assert decoded(GOLDEN) == {
        "id": str(GOLDEN),
        "created": "2014-11-15T14:11:06.450Z",
        "shard_id": 12,
        "added_id": 1,
    }


def test_the_last_key_and_the_first_one():
    assert decoded(2**63 - 1) == {
        "id": str(2**63 - 1),
        "created": "2048-07-20T16:59:19.127Z",
        "shard_id": 8191,
        "added_id": 1023,
    }
    assert decoded(1)["created"] == "2013-09-16T21:05:31.352Z"


def test_several_keys_are_a_table_for_people_and_a_line_each_for_programs():
    result = hv("key", GOLDEN, 1, GOLDEN).ok()
    assert result.lines[0].split() == ["key", "created", "shard", "added_id", "schema"]
    golden = ["307821103844175873", "2014-11-15T14:11:06.450Z", "12", "1", "shard0012"]
    assert [line.split() for line in result.lines[1:]] == [
        golden,
        ["1", "2013-09-16T21:05:31.352Z", "0", "1", "shard0000"],
        golden,
    ]
    keys = hv("key", "--json", GOLDEN, 1, GOLDEN).ok().ndjson()
    assert [key["id"] for key in keys] == [str(key) for key in (GOLDEN, 1, GOLDEN)]


@generated
@given(
    time=st.integers(0, 2**40 - 1), shard=st.integers(0, 8191), added_id=st.integers(0, 1023)
)
def test_a_key_that_was_made_comes_apart_into_the_same(time, shard, added_id):
    created = EPOCH + time
    key = time << 23 | shard << 10 | added_id
    if key == 0:
        return
    answer = made(f"@{created}", "--shard", shard, "--added-id", added_id)
    assert answer == {
        "created": iso(created),
        "bound": str(time << 23),
        "id": str(key),
        "shard_id": shard,
        "added_id": added_id,
    }
    assert decoded(key) == {
        "id": str(key),
        "created": iso(created),
        "shard_id": shard,
        "added_id": added_id,
    }


# ---- moments ----


@pytest.mark.parametrize(
    "text, moment",
    [
        ("2014-11-15", "2014-11-15T00:00:00.000Z"),
        ("2014-11-15T14:11", "2014-11-15T14:11:00.000Z"),
        ("2014-11-15T14:11:06", "2014-11-15T14:11:06.000Z"),
        ("2014-11-15T14:11:06Z", "2014-11-15T14:11:06.000Z"),
        ("2014-11-15t14:11:06.450z", "2014-11-15T14:11:06.450Z"),
        ("2014-11-15 14:11:06.45", "2014-11-15T14:11:06.450Z"),
        ("2014-11-15 14:11:06,4", "2014-11-15T14:11:06.400Z"),
        ("2014-11-15 14:11:06.450999+00", "2014-11-15T14:11:06.450Z"),
        ("2014-11-15T14:11:06.450+01:00", "2014-11-15T13:11:06.450Z"),
        ("2014-11-15T14:11:06.450+0545", "2014-11-15T08:26:06.450Z"),
        ("2014-11-15T20:11:06-05", "2014-11-16T01:11:06.000Z"),
        ("2014-12-31T23:59:59.999-00:01", "2015-01-01T00:00:59.999Z"),
        ("2016-02-29", "2016-02-29T00:00:00.000Z"),
        ("@1416060666450", "2014-11-15T14:11:06.450Z"),
    ],
)
def test_a_moment_can_be_written_in_many_ways(text, moment):
    answer = made(text)
    assert answer["created"] == moment
    milliseconds = datetime.datetime.fromisoformat(moment.replace("Z", "+00:00")).timestamp() * 1000
    assert answer["bound"] == str((round(milliseconds) - EPOCH) << 23)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "2014",
        "2014-11",
        "2014-13-01",
        "2014-00-01",
        "2014-02-29",
        "2014-11-31",
        "2014-11-00",
        "2014-1-1",
        "2014-11-15T",
        "2014-11-15T24:00",
        "2014-11-15T12:60",
        "2014-11-15T12:00:60",
        "2014-11-15T12",
        "2014-11-15T12:00:00.",
        "2014-11-15T12:00:00+",
        "2014-11-15T12:00:00+1",
        "2014-11-15T12:00:00+25:00",
        "2014-11-15T12:00:00+01:60",
        "2014-11-15T12:00:00+01:",
        "2014-11-15T12:00:00 UTC",
        "2014-11-15x",
        "@",
        "@x",
        "@1.5",
        "@99999999999999999999",
        "now ",
    ],
)
def test_what_is_no_moment_is_refused(text):
    result = hv("key", f"--at={text}")
    assert result.code == 2
    assert result.out == ""
    assert result.err.startswith(f'hv: not a time: "{text}"\n')
    assert "2014-11-15T14:11:06.450Z" in result.err


def test_now_is_now():
    before = time.time_ns() // 1_000_000
    bound = int(made("now")["bound"])
    after = time.time_ns() // 1_000_000
    assert before <= (bound >> 23) + EPOCH <= after


def test_a_moment_before_the_epoch_has_a_bound_but_no_key():
    assert made("2000-01-01")["bound"] == "0"
    result = hv("key", "--at", "2000-01-01", "--shard", 1)
    assert (result.code, result.out) == (2, "")
    assert "epoch" in result.err


def test_a_moment_after_the_last_key_is_refused():
    assert made("2048-07-20T16:59:19.127Z")["bound"] == str((2**40 - 1) << 23)
    result = hv("key", "--at", "2048-07-20T16:59:19.128Z")
    assert (result.code, result.out) == (2, "")


def test_the_bound_for_people_stands_in_a_where_clause():
    result = hv("key", "--at", "2014-11-15T14:11:06.450Z", "--shard", 12, "--added-id", 1).ok()
    assert result.lines == [
        "created  2014-11-15T14:11:06.450Z",
        "bound    307821103844163584   WHERE id >= 307821103844163584",
        f"key      {GOLDEN}   shard 12, added_id 1",
    ]


# ---- typing mistakes ----


@pytest.mark.parametrize(
    "args, message",
    [
        ([], "no key was given"),
        ([0], "KEY is out of range: 0"),
        ([-1], "KEY is out of range: -1"),
        ([2**63], f"KEY is out of range: {2**63}"),
        (["x"], 'KEY is not a number: "x"'),
        (["12x"], 'KEY is not a number: "12x"'),
        ([" 12"], 'KEY is not a number: " 12"'),
        (["+12"], 'KEY is not a number: "+12"'),
        (["0x10"], 'KEY is not a number: "0x10"'),
        ([""], 'KEY is not a number: ""'),
        ([GOLDEN, "x"], 'KEY is not a number: "x"'),
        (["--at", "now", 5], "--at and a key exclude each other"),
        (["--shard", 5], "--shard and --added-id need --at"),
        (["--at", "now", "--added-id", 5], "--added-id needs --shard"),
        (["--at", "now", "--shard", 8192], "SHARD is out of range: 8192"),
        (["--at", "now", "--shard", 1, "--added-id", 1024], "--added-id is out of range: 1024"),
        ([5, "--epoch", -1], "--epoch is out of range: -1"),
        (["--at"], "option --at needs an argument: TIME"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_shown(args, message):
    result = hv("key", *args)
    assert (result.code, result.out) == (2, "")
    assert result.err.splitlines()[0] == f"hv: {message}"


# ---- configuration ----


def test_a_configuration_gives_the_epoch_and_the_server(tmp_path):
    config = store_config(tmp_path / "a.conf", {"alpha": (NOWHERE, "12")}, epoch=1000000000000)
    answer = decoded(GOLDEN, config=config)
    assert answer["server"] == "alpha"
    assert answer["created"] == iso(1000000000000 + (GOLDEN >> 23))
    assert "server" not in decoded(1 << 23, config=config)  # shard 0, which no server holds
    assert hv("key", 1 << 23, config=config).ok().lines[1].split()[-1] == "-"
    assert made("2014-11-15", "--shard", 12, config=config)["server"] == "alpha"
    assert made("2014-11-15", config=config)["bound"] == str((1416009600000 - 1000000000000) << 23)


def test_an_epoch_that_is_typed_counts_more(tmp_path):
    config = store_config(tmp_path / "a.conf", {"alpha": (NOWHERE, "12")}, epoch=1000000000000)
    assert decoded(GOLDEN, "--epoch", EPOCH, config=config)["created"] == "2014-11-15T14:11:06.450Z"
    assert decoded(1, "--epoch", 0)["created"] == "1970-01-01T00:00:00.000Z"


def test_no_server_is_asked_even_if_servers_are_to_be_checked(tmp_path):
    config = store_config(tmp_path / "a.conf", {"alpha": (NOWHERE, "12")}, check_servers="on")
    assert decoded(GOLDEN, config=config)["server"] == "alpha"


def test_a_broken_configuration_is_not_passed_over(tmp_path):
    config = tmp_path / "a.conf"
    config.write_text("[hypervault]\nepoch = never\n")
    for how in ({"config": config}, {"env": {"HYPERVAULT_CONFIG": str(config)}}):
        result = hv("key", GOLDEN, **how)
        assert (result.code, result.out) == (1, "")
        assert f"{config}:2:" in result.err
    assert hv("key", GOLDEN, "-c", tmp_path / "none").code == 1
