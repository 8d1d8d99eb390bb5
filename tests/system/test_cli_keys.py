"""hv reserve, hv put --key, hv init --keys, and the keys in hv status."""

import pytest

from harness import hv, store_config


@pytest.fixture
def strict_config(tmp_path, extension_server):
    return store_config(tmp_path / "strict.conf", {"one": (extension_server, "1-5")})


# ---- reserve, and put --key ----


def test_reserve_prints_keys_that_entities_are_put_under(store):
    first, second, third = map(int, hv("reserve", 12, 3, config=store).ok().lines)
    assert first < second < third
    assert hv("put", "--key", second, 7, "a=b", "-n", "c", config=store).ok().out == f"{second}\n"
    entity = hv("get", second, "--json", config=store).ok().json()
    assert (entity["id"], entity["shard_id"], entity["kind"]) == (str(second), 12, 7)
    assert entity["body"] == {"a": "b", "c": None}
    assert hv("get", first, config=store).code == 3


def test_reserve_takes_one_key_by_default(store):
    assert len(hv("reserve", 1, config=store).ok().lines) == 1
    assert len(hv("reserve", 1, 100_000, config=store).ok().lines) == 100_000


def test_reserve_and_put_report_to_programs(store):
    report = hv("reserve", 3, 2, "--json", config=store).ok().json()
    assert set(report) == {"shard_id", "keys"}
    assert report["shard_id"] == 3 and len(report["keys"]) == 2
    put = hv("put", f"--key={report['keys'][0]}", 7, "--json", config=store).ok().json()
    assert (put["id"], put["shard_id"], put["kind"]) == (report["keys"][0], 3, 7)


def test_put_under_a_key_may_be_repeated_with_the_same_only(store):
    key = hv("reserve", 3, config=store).ok().lines[0]
    for _ in range(2):
        hv("put", "-k", key, 7, "a=b", config=store).ok()
    conflict = hv("put", "-k", key, 7, "a=c", config=store)
    assert conflict.code == 1
    assert f"the key {key} has another entity" in conflict.err
    error = hv("put", "-k", key, 8, "a=b", "--json", config=store).err
    assert '"status": "HV_CONFLICT"' in error
    assert hv("get", key, "--json", config=store).ok().json()["body"] == {"a": "b"}


@pytest.mark.parametrize(
    "args, message",
    [
        (["reserve"], "arguments are missing"),
        (["reserve", "8192"], "8192"),
        (["reserve", "1", "0"], "COUNT"),
        (["reserve", "1", "100001"], "COUNT"),
        (["reserve", "1", "x"], "COUNT"),
        (["reserve", "1", "2", "3"], 'unexpected argument "3"'),
        (["put", "--key", "0", "1"], "0"),
        (["put", "--key", "x", "1"], "x"),
        (["put", "--key", "1"], "arguments are missing"),
        (["put", "--key"], "--key needs an argument"),
        (["put", "--key", "8388608", "a=b"], "a=b"),
        (["put", "--key", "8388608", "3", "1", "a=b"], "shard 3 is given in addition to a key"),
        (["init", "--keys", "loose"], 'invalid value for --keys: "loose"'),
        (["init", "--keys"], "--keys needs an argument"),
    ],
)
def test_what_cannot_be_is_wrong_usage_and_no_server_is_asked(tmp_path, args, message):
    nowhere = {"host": "/nonexistent"}
    config = store_config(tmp_path / "c", {"one": (nowhere, "1-5")})
    result = hv(*args, config=config)
    assert result.code == 2, result
    assert message in result.err


def test_reserve_and_put_fail_for_shards_that_nobody_holds(store):
    assert "no server holds shard 17" in hv("reserve", 17, config=store).err
    result = hv("put", "--key", 1 << 23 | 17 << 10, 1, config=store)
    assert result.code == 1
    assert "no server holds shard 17" in result.err


# ---- init --keys, and status ----


def keys_reported(config):
    """What hv status reports about keys: in words, in numbers, and for each shard."""
    row = hv("status", config=config).lines[1]
    (server,) = hv("status", "--json", config=config).json()["servers"]
    shards = {shard["shard_id"]: shard["keys"] for shard in server["shards"]}
    return row, server["keys"], shards


def test_init_changes_keys_and_says_what_makes_them(strict_config):
    for how in ("portable", "strict", "portable"):
        table = hv("init", "--keys", how, config=strict_config).ok()
        assert table.lines[1].split()[4:] == [how, "ready"]
        row, numbers, shards = keys_reported(strict_config)
        assert how in row.split()
        assert numbers == {"strict": 0, "portable": 0, "original": 0, how: 4}
        assert shards == dict.fromkeys(range(1, 5), how)
    report = hv("init", "--keys=strict", "--json", config=strict_config).ok().json()
    assert report[0]["keys"] == {"strict": 4, "portable": 0, "original": 0}
    assert report[0]["created"] == 4


def test_what_is_typed_counts_more_than_what_is_configured(tmp_path, extension_server):
    config = store_config(tmp_path / "c", {"one": (extension_server, "1-5")}, keys="strict")
    assert "portable" in hv("init", "--keys", "portable", config=config).ok().out
    assert "portable" in hv("init", "--keys", "auto", config=config).ok().out
    assert "strict" in hv("init", config=config).ok().out


def test_shards_of_several_kinds_are_counted(strict_config, extension_server):
    hv("init", "--keys", "portable", config=strict_config).ok()
    extension_server.sql(
        "CREATE OR REPLACE FUNCTION shard0002.next_id(OUT result bigint) LANGUAGE sql"
        " AS 'SELECT 1::bigint'"
    )
    row, numbers, shards = keys_reported(strict_config)
    assert "1 original, 3 portable" in row
    assert numbers == {"strict": 0, "portable": 3, "original": 1}
    assert shards == {1: "portable", 2: "original", 3: "portable", 4: "portable"}
    lines = hv("status", "--shards", config=strict_config).ok().lines
    assert any(line.split()[:4] == ["2", "one", "ready", "original"] for line in lines)


def test_strict_keys_that_cannot_be_had_are_an_error(config):
    result = hv("init", "--keys", "strict", config=config)
    assert result.code == 1
    assert "could not create the extension hypervault" in result.err
    assert "-" in result.lines[1].split() and "failed" in result.lines[1]
