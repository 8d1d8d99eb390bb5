"""hv dev up adds servers to existing ones."""

import json
import socket

from harness import hv, scratch
from private_servers import (  # noqa: F401
    LITTLE,
    MARKER,
    config_of,
    dev,
    folder,
    place,
    servers_of,
)


def test_up_with_more_servers_adds_some_and_leaves_every_shard_where_it_is(folder):
    dev("up", folder, "--servers", 2, "--shards", 8).ok()
    config = config_of(folder)
    key = hv("put", 6, 1, "a=b", config=config).ok().out.strip()
    before = servers_of(folder)
    with open(config, "a", encoding="utf-8") as file:
        file.write("# a note of one's own: [server three] may come")
    result = dev("up", folder, "--servers", 3).ok()
    assert "Adding 1 server without shards." in result.err
    after = servers_of(folder)
    assert [(server["name"], server["shards"]) for server in after] == [
        ("one", "0-4"),
        ("two", "4-8"),
        ("three", ""),
    ]
    assert [server["pid"] for server in after[:2]] == [server["pid"] for server in before]
    hv("get", key, config=config).ok()
    one, two, three = hv("status", "--json", config=config).ok().json()["servers"]
    assert (one["shards_ready"], two["shards_ready"], three["shards_ready"]) == (4, 4, 0)
    assert three["layout"] == 1  # prepared
    text = open(config, encoding="utf-8").read()
    assert "# a note of one's own" in text

    dev("up", folder).ok()
    dev("up", folder, "--servers", 3, "--shards", 8).ok()
    assert open(config, encoding="utf-8").read() == text
    assert dev("up", folder, "--servers", 2).code == 1
    dev("status", folder).ok()

    # Shards that no server has yet are made on the new one.
    with open(config, "w", encoding="utf-8") as file:
        file.write(text.replace("#shards =", "shards = 8-10"))
    assert [part["created"] for part in hv("init", "--json", config=config).ok().json()] == [0, 0, 2]
    hv("put", 9, 1, "a=b", config=config).ok()
    assert dev("destroy", folder, "--yes").code == 0


def test_an_addition_that_was_killed_is_completed(folder):
    """The marker is written first; the configuration and the data follow."""
    dev("up", folder, "--servers", 2, "--shards", 4).ok()
    with open(f"{folder}/{MARKER}", "r+", encoding="utf-8") as file:
        marker = json.load(file)
        file.seek(0)
        json.dump({**marker, "servers": 3, "spread": 2}, file)
        file.truncate()
    dev("up", folder).ok()
    assert [server["running"] for server in servers_of(folder)] == [True] * 3
    status = hv("status", "--json", config=config_of(folder)).ok().json()
    assert [server["shards_ready"] for server in status["servers"]] == [2, 2, 0]


def _two_free_ports():
    """The first of two ports in a row that are free."""
    while True:
        port = scratch.free_port()
        with socket.socket() as taker:
            try:
                taker.bind(("127.0.0.1", port + 1))
            except (OSError, OverflowError):
                continue
            return port


def test_servers_with_ports_get_the_next_port_and_the_same_password(folder):
    first = _two_free_ports()
    dev("up", folder, *LITTLE, "--port", first).ok()
    dev("up", folder, "--servers", 2).ok()
    assert [server["port"] for server in servers_of(folder)] == [first, first + 1]
    hv("status", config=config_of(folder)).ok()
