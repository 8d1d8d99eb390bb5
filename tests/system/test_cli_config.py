"""hv config: where shards are, and the same in the configuration file."""

import json
import os
import stat
import subprocess

import pytest

from harness import hv, store_config
from harness.moved import Moving, moved
from test_auto import auto, both


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def test_a_file_that_is_right_is_shown_and_stays(store):
    before = read(store)
    result = hv("config", config=store).ok()
    assert [line.split() for line in result.lines[:3]] == [
        ["server", "shards", "in", "the", "file", "came", "went"],
        ["one", "1-9", "1-9", "-", "-"],
        ["two", "9-17", "9-17", "-", "-"],
    ]
    assert "says so now" in hv("config", "--write", config=store).ok().out
    assert read(store) == before


def test_moved_shards_are_marked_and_written(store, servers):
    one, two = servers
    with open(store, "a", encoding="utf-8") as file:
        file.write("# the end ; shards = 1\n")
    before = read(store)
    moved(3, one, two)
    moved(4, one, two)
    result = hv("config", config=store).ok()
    assert ["one", "1-3,5-9", "1-9", "-", "-3-5"] in [line.split() for line in result.lines]
    assert ["two", "3-5,9-17", "9-17", "+3-5", "-"] in [line.split() for line in result.lines]
    assert "2 shards are not where" in result.out
    assert read(store) == before
    report = hv("config", "--json", config=store).ok().json()
    assert report["moved"] == "3-5" and not report["written"] and report["disputed"] == ""
    assert report["servers"][1] == {
        "name": "two", "shards": "3-5,9-17", "file": "9-17", "came": "3-5", "went": "",
    }
    assert hv("config", "--write", "--json", config=store).ok().json()["written"]
    expected = before.replace("shards = 1-9\n", "shards = 1-3,5-9\n")
    assert read(store) == expected.replace("shards = 9-17\n", "shards = 3-5,9-17\n")
    assert hv("config", "--json", config=store).ok().json()["moved"] == ""


def test_status_says_how_many_have_moved(store, servers):
    moved(3, *servers)
    result = hv("status", config=store).ok()
    assert "1 shard has moved since the configuration was written (3)" in result.out
    assert hv("status", "--json", config=store).ok().json()["shards_moved"] == "3"
    hv("config", "--write", config=store).ok()
    assert "moved" not in hv("status", config=store).ok().out


def test_auto_becomes_a_list(store, servers, tmp_path):
    config = auto(tmp_path, servers)
    report = hv("config", "--json", config=config).ok().json()
    assert [server["file"] for server in report["servers"]] == ["auto", "auto"]
    assert report["moved"] == ""
    hv("config", "--write", config=config).ok()
    assert "shards = 1-9\n" in read(config) and "shards = 9-17\n" in read(config)
    assert "auto" not in read(config)


def test_the_mode_stays_and_a_link_is_followed(store, servers, tmp_path):
    moved(3, *servers)
    os.chmod(store, 0o640)
    link = tmp_path / "link.conf"
    link.symlink_to(os.path.basename(store))
    hv("config", "--write", config=str(link)).ok()
    assert link.is_symlink() and "shards = 3,9-17\n" in read(store)
    assert stat.S_IMODE(os.stat(store).st_mode) == 0o640
    assert sorted(os.listdir(tmp_path)) == ["hypervault.conf", "link.conf"]


def test_it_is_refused_if_a_server_cannot_be_asked(own_store, own_servers):
    one, two = own_servers
    moved(3, one, two)
    before = read(own_store)
    one.server.stop()
    result = hv("config", "--write", config=own_store)
    assert result.code == 1 and 'server "one"' in result.err
    assert read(own_store) == before
    assert hv("config", config=own_store).code == 1


def test_it_is_refused_while_two_servers_claim_a_shard(store, servers):
    both(3, *servers)
    before = read(store)
    result = hv("config", "--write", config=store)
    assert result.code == 1
    assert 'both server "one" and server "two" hold shard 3' in result.err
    assert "1 shard is on two servers (3)" in result.out
    assert read(store) == before
    assert hv("config", "--json", config=store).json()["disputed"] == "3"


def test_a_file_that_cannot_be_replaced_stays(store, servers, tmp_path):
    moved(3, *servers)
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    os.chmod(tmp_path, 0o500)
    try:
        result = hv("config", "--write", config=store)
    finally:
        os.chmod(tmp_path, 0o700)
    assert result.code == 1 and "could not write a new file beside" in result.err


def test_the_owner_stays(store, servers):
    if os.geteuid() != 0:
        pytest.skip("only root may give files away")
    moved(3, *servers)
    os.chown(store, 12345, 54321)
    hv("config", "--write", config=store).ok()
    status = os.stat(store)
    assert (status.st_uid, status.st_gid) == (12345, 54321)
