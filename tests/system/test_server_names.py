"""Which server a database is: decided by the record in it, whatever the configuration calls it."""

import json

import pytest

from harness import hv, make_shards, python, store_config

python.provide()

from hv.datastore import Datastore, DatastoreError


@pytest.fixture
def one_and_two(tmp_path, servers):
    """Two databases and their configuration: shards 1 and 2 on "one", 3 and 4 on "two"."""
    one, two = servers
    config = store_config(tmp_path / "hypervault.conf", {"one": (one, "1-3"), "two": (two, "3-5")})
    make_shards(config, *servers)
    return one, two, config


@pytest.fixture
def copy_of():
    """A function that restores a database elsewhere on its server: copy_of(database)."""
    copies = []

    def restore(database):
        copies.append(database.server.create_database(template=database.dbname))
        return copies[-1]

    yield restore
    for copy in copies:
        copy.drop()


def _error(*command, config):
    """The error of a command that fails; of the server "two" if it speaks of several."""
    result = hv(*command, "--json", config=config)
    assert result.code == 1, result
    if not result.out:
        return json.loads(result.err)["error"]
    report = result.json()
    parts = report["servers"] if "servers" in report else report
    (error,) = [part["error"] for part in parts if "two" in (part.get("name"), part.get("server"))]
    return error


COMMANDS = {
    "put": ("put", 3, 1, "a=b"),
    "get": ("get", "307821103844166657"),  # of shard 3
    "reserve": ("reserve", 3),
    "export": ("export", "-", "--shards", 3),
    "status": ("status",),
    "init": ("init",),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_database_restored_under_another_servers_name_is_refused(
    one_and_two, copy_of, tmp_path, command
):
    one, _, _ = one_and_two
    servers = {"one": (one, "1-3"), "two": (copy_of(one), "3-5")}
    mistaken = store_config(tmp_path / "mistaken.conf", servers)
    error = _error(*COMMANDS[command], config=mistaken)
    assert (error["status"], error["server"]) == ("HV_MISMATCH", "two")
    assert (
        error["message"]
        == 'the database that the configuration calls "two" is known as "one"'
    )
    assert "UPDATE hypervault.layout SET server = 'two'" in error["hint"]


def test_a_copy_that_has_the_shards_of_its_new_place_is_refused_too(one_and_two, copy_of, tmp_path):
    """Puts would succeed, on the wrong machine."""
    one, two, config = one_and_two
    servers = {"one": (copy_of(two), "3-5")}
    mistaken = store_config(tmp_path / "mistaken.conf", servers)
    result = hv("put", 3, 1, "a=b", "--json", config=mistaken)
    assert result.code == 1, result
    assert json.loads(result.err)["error"]["status"] == "HV_MISMATCH"
    hv("put", 3, 1, "a=b", config=config).ok()


def test_a_server_is_renamed_with_the_statement_that_the_hint_names(one_and_two, tmp_path):
    one, two, _ = one_and_two
    servers = {"one": (one, "1-3"), "o'two": (two, "3-5")}
    renamed = store_config(tmp_path / "renamed.conf", servers)
    error = json.loads(hv("put", 3, 1, "a=b", "--json", config=renamed).err)["error"]
    statement = error["hint"].partition("run ")[2].partition(" in the database.")[0]
    two.sql(statement)
    hv("put", 3, 1, "a=b", config=renamed).ok()
    hv("init", config=renamed).ok()
    hv("status", config=renamed).ok()


def test_servers_of_the_original_implementation_have_no_name_that_could_be_wrong(
    one_and_two, tmp_path
):
    one, two, _ = one_and_two
    two.sql("DROP SCHEMA hypervault CASCADE")
    other = store_config(tmp_path / "other.conf", {"x": (one, "1-2"), "y": (two, "3-5")})
    hv("put", 3, 1, "a=b", config=other).ok()


# ---- Python's servers without names ----


def _use(connections):
    """Make the shards, and use each."""
    with Datastore(connections) as db:
        db.create_shards()
        for shard in db.shards():
            assert db.get(db.put(shard, 1, a="b"))["body"] == {"a": "b"}


def _entries(one, two):
    return [dict(shards="1-3", **one.params()), dict(shards="3-5", **two.params())]


def test_servers_without_names_use_databases_that_have_names_in_any_order(one_and_two):
    one, two, config = one_and_two
    entries = _entries(one, two)
    for connections in entries, entries[::-1]:
        _use(connections)
    hv("init", config=config).ok()
    hv("status", config=config).ok()


def test_databases_made_without_names_are_used_in_any_order_and_under_any_name(servers, tmp_path):
    one, two = servers
    entries = _entries(one, two)
    for connections in entries, entries[::-1]:
        _use(connections)
    names = {"north": (one, "1-3"), "south": (two, "3-5")}
    config = store_config(tmp_path / "named.conf", names)
    hv("put", 3, 1, "a=b", config=config).ok()
    hv("init", config=config).ok()  # which names them
    _use(entries)
    swapped = {"north": (two, "3-5"), "south": (one, "1-3")}
    config = store_config(tmp_path / "swapped.conf", swapped)
    error = json.loads(hv("put", 3, 1, "a=b", "--json", config=config).err)["error"]
    assert error["status"] == "HV_MISMATCH"


def test_python_refuses_a_database_of_another_server_too(one_and_two, copy_of):
    one, two, _ = one_and_two
    entries = _entries(one, copy_of(two))
    with Datastore([dict(entry, name=name) for entry, name in zip(entries, ("one", "2nd"))]) as db:
        db.put(1, 1)
        for use in (lambda: db.put(3, 1), lambda: db.inspect("2nd"), lambda: db.cursor(3).__enter__()):
            with pytest.raises(DatastoreError, match='is known as "two"'):
                use()
