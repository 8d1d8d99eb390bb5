"""Shards that are on another server than the configured one, or on two."""

import json

import pytest

from harness import hv, make_shards, python, spawn, store_config

python.provide()

from hv.datastore import Datastore, DatastoreError


def _config(tmp_path, one, two, name="hypervault.conf", servers=("one", "two")):
    """Shards `one` on the first server and `two` on the second, each a pair (database, shards)."""
    return store_config(tmp_path / name, dict(zip(servers, (one, two))))


@pytest.fixture
def filled(servers, tmp_path):
    """Two databases with the shards 1 to 4 and 5 to 8, an entity in each, and their keys."""
    one, two = servers
    config = _config(tmp_path, (one, "1-5"), (two, "5-9"))
    make_shards(config, one, two)
    keys = [hv("put", n, 1, "a=b", config=config).ok().out.strip() for n in range(1, 9)]
    return one, two, config, keys


def _shards_of(database):
    return [
        int(name[5:])
        for (name,) in database.query(
            "SELECT nspname FROM pg_namespace WHERE nspname ~ '^shard....$' ORDER BY 1"
        )
    ]


def _status(config):
    result = hv("status", "--json", config=config)
    report = {server["name"]: server for server in result.json()["servers"]}
    return result.code, report


def _states(server):
    return {shard["shard_id"]: shard["state"] for shard in server["shards"]}


# ---- init ----


def test_init_makes_no_empty_copy_of_a_shard_that_another_server_holds(filled, tmp_path):
    one, two, _, keys = filled
    edited = _config(tmp_path, (one, "1-3,9"), (two, "3-9"), "edited.conf")
    result = hv("init", "--json", config=edited)
    assert result.code == 1
    first, second = result.json()
    assert not first["ready"] and not second["ready"]
    assert second["error"]["status"] == "HV_MISMATCH"
    assert (
        second["error"]["message"]
        == 'server "one" holds shards 3 to 4, which the configuration gives to "two"'
    )
    assert "shards" in second["error"]["hint"] and "move" in second["error"]["hint"]
    assert _shards_of(one) == [1, 2, 3, 4]  # nor is 9, though no other server has it
    assert _shards_of(two) == [5, 6, 7, 8]
    outcome = hv("init", config=edited)
    assert outcome.code == 1 and "shards 3 to 4" in outcome.err
    assert "not begun" in outcome.out and "ready" not in outcome.out


def test_many_shards_are_named_as_ranges(servers, tmp_path):
    one, two = servers
    make_shards(_config(tmp_path, (one, "0-40"), (two, "100")), one, two)
    odd = ",".join(str(n) for n in range(1, 40, 2))
    even = ",".join(str(n) for n in range(0, 40, 2))
    edited = _config(tmp_path, (one, even), (two, f"{odd},100"), "edited.conf")
    error = hv("init", "--json", config=edited).json()[1]["error"]
    assert "shards 1, 3, 5, 7, 9, 11, 13, 15, … (20 in all), which" in error["message"]


def test_a_copy_without_rows_is_one_too(servers, tmp_path):
    one, two = servers
    make_shards(_config(tmp_path, (one, "1-5"), (two, "5-9")), one, two)
    edited = _config(tmp_path, (one, "1-3"), (two, "3-9"), "edited.conf")
    assert hv("init", config=edited).code == 1
    assert _shards_of(two) == [5, 6, 7, 8]


def test_shards_that_no_server_holds_are_made(filled, tmp_path):
    one, two, _, _ = filled
    wider = _config(tmp_path, (one, "0-5"), (two, "5-12"), "wider.conf")
    hv("init", config=wider).ok()
    hv("status", config=wider).ok()


def test_after_a_move_by_hand_nothing_is_wrong_with_what_was_renamed(filled, tmp_path):
    one, two, old, _ = filled
    one.sql("ALTER SCHEMA shard0004 RENAME TO shard0004_moved")
    new = _config(tmp_path, (one, "1-4"), (two, "4-9"), "new.conf")
    hv("init", config=new).ok()
    code, report = _status(new)
    assert code == 0, report
    assert set(_states(report["one"])) == {1, 2, 3}

    # A program with the old configuration makes no copy where the shard was.
    error = json.loads(hv("put", 4, 1, "a=b", "--json", config=old).err)["error"]
    assert error["status"] == "HV_NOT_INITIALIZED"
    assert "If another server holds the shard" in error["hint"]
    assert hv("init", config=old).code == 1
    assert 4 not in _shards_of(one)


def test_a_server_that_cannot_be_reached_is_a_reason_to_make_nothing(own_servers, tmp_path):
    one, two = own_servers
    config = _config(tmp_path, (one, "1-3"), (two, "3-5"))
    two.server.stop()
    result = hv("init", "--json", config=config)
    assert result.code == 1
    first, second = result.json()
    assert not first["ready"] and second["error"]["status"] == "HV_UNAVAILABLE"
    assert _shards_of(one) == []
    outcome = hv("init", config=config)
    assert "hv init --without SERVER" in outcome.err

    result = hv("init", "--without", "two", "--json", config=config).ok()
    first, second = result.json()
    assert first["ready"] and first["created"] == 2
    assert (second["ready"], second["left_out"]) == (False, True)
    assert "left out" in hv("init", "--without", "two", config=config).ok().out

    two.server.start()
    hv("init", config=config).ok()
    hv("status", config=config).ok()


def test_a_server_that_is_left_out_is_asked_all_the_same_if_it_can_be(filled, tmp_path):
    one, two, _, _ = filled
    edited = _config(tmp_path, (one, "1-7"), (two, "7-9"), "edited.conf")
    result = hv("init", "--without", "two", config=edited)
    assert result.code == 1
    assert 'server "two" holds shards 5 to 6' in result.err
    assert _shards_of(one) == [1, 2, 3, 4]


def test_a_server_that_is_not_there_cannot_be_left_out(filled):
    result = hv("init", "--without", "three", config=filled[2])
    assert result.code == 1
    assert 'there is no server "three"' in result.err


def test_python_makes_no_empty_copy_either(filled):
    one, two, _, _ = filled
    entries = [
        dict(shards="1-3", name="one", **one.params()),
        dict(shards="3-9", name="two", **two.params()),
    ]
    with Datastore(entries) as db, pytest.raises(DatastoreError, match="holds shards 3 to 4"):
        db.create_shards()
    assert _shards_of(two) == [5, 6, 7, 8]


def test_python_goes_on_without_a_server(own_servers):
    one, two = own_servers
    two.server.stop()
    entries = [
        dict(shards="1-3", name="one", **one.params()),
        dict(shards="3-9", name="two", **two.params()),
    ]
    with Datastore(entries) as db:
        for one_or_all in ["one"], []:
            with pytest.raises(DatastoreError, match='server "two"') as caught:
                db.create_shards(*one_or_all)
            assert caught.value.status == "HV_UNAVAILABLE"
        assert _shards_of(one) == []
        assert db.create_shards("one", without=["two"]) == 2
        with pytest.raises(DatastoreError, match="no server 'three'"):
            db.create_shards("one", without=["three"])


def test_two_inits_with_different_configurations_do_not_both_succeed(servers, tmp_path):
    one, two = servers
    left = _config(tmp_path, (one, "1-20"), (two, "20"), "left.conf")
    right = _config(tmp_path, (one, "20"), (two, "1-20"), "right.conf")
    processes = [spawn("hv", "init", config=config) for config in (left, right)]
    outputs = [process.communicate() for process in processes]
    codes = [process.returncode for process in processes]
    assert codes != [0, 0], outputs
    # Shards that are on two servers must not pass for being in order.
    if set(_shards_of(one)) & set(_shards_of(two)):
        assert _status(left)[0] == _status(right)[0] == 1


# ---- status ----


def test_status_shows_a_shard_that_lies_elsewhere(filled, tmp_path):
    one, two, _, _ = filled
    edited = _config(tmp_path, (one, "1-3"), (two, "3-9"), "edited.conf")
    code, report = _status(edited)
    assert code == 1
    assert not report["two"]["ready"]
    states = _states(report["two"])
    assert (states[3], states[4], states[5]) == ("elsewhere", "elsewhere", "ready")
    (three,) = [shard for shard in report["two"]["shards"] if shard["shard_id"] == 3]
    assert three["detail"] == 'server "one" holds it'
    assert report["two"]["shards_elsewhere"] == 2
    shown = hv("status", config=edited)
    assert shown.code == 1
    assert any(line.split()[:2] == ["two", "misplaced"] for line in shown.lines)
    assert any(
        line.startswith('two: 2 shards elsewhere (3 to 4): server "one" holds it. ')
        for line in shown.lines
    )
    assert any(
        line.startswith(
            'one: 2 shards unmapped (3 to 4): the configuration gives it to server "two". '
        )
        for line in shown.lines
    )


@pytest.mark.parametrize("rows", ["with rows", "without rows"])
def test_status_shows_a_shard_that_lies_on_two_servers(filled, tmp_path, rows):
    one, two, config, _ = filled
    alone = store_config(tmp_path / "alone.conf", {"two": (two, "4-9")})
    hv("init", config=alone).ok()  # which knows nothing of server one
    if rows == "without rows":
        one.sql("DELETE FROM shard0004.entities")
    code, report = _status(config)
    assert code == 1
    for name in "one", "two":
        assert not report[name]["ready"]
        assert _states(report[name])[4] == "twice"
        assert report[name]["shards_twice"] == 1
    shown = hv("status", "--shards", config=config)
    assert sum(line.split()[:3] in (["4", "one", "twice"], ["4", "two", "twice"]) for line in shown.lines) == 2


def test_two_names_of_one_database_hold_nothing_twice(server, tmp_path):
    """A database of the original implementation has no record that could contradict it."""
    config = store_config(tmp_path / "one.conf", {"one": (server, "1-5")})
    make_shards(config, server)
    server.sql("DROP SCHEMA hypervault CASCADE")
    config = _config(tmp_path, (server, "1-3"), (server, "3-5"), "two.conf")
    code, report = _status(config)
    assert code == 0, report


def test_python_compares_servers_too(filled, tmp_path):
    one, two, _, _ = filled
    entries = [dict(shards="1-3", **one.params()), dict(shards="3-9", **two.params())]
    with Datastore(entries) as db:
        first, second = db.inspect_all()
        assert (first["server"], second["server"]) == db.servers
        states = {shard["shard"]: shard["state"] for shard in second["shards"]}
        assert (states[3], states[5]) == ("elsewhere", "ready")
