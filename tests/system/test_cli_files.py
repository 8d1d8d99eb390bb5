"""The files that hv writes: no other user decides which these are. Devices and pipes still work."""

import json
import os
import shutil
import signal
import subprocess

import pytest

from harness import build_dir, eventually, hv, program, spawn
from importing import HeldUp, count, numbers, rejects, write_numbers

STRANGER = 12345
PRECIOUS = '{"id":1,"shard_id":1,"kind":1,"body":{}}\n'


def plant_link(path, precious):
    path.symlink_to(precious)


def plant_dangling_link(path, precious):
    path.symlink_to(precious.parent / "nothing")


def plant_hard_link(path, precious):
    path.hardlink_to(precious)


def plant_pipe(path, _):
    os.mkfifo(path)


def plant_folder(path, _):
    path.mkdir()


def plant_file_of_a_stranger(path, _):
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    path.write_text(PRECIOUS)
    os.chown(path, STRANGER, STRANGER)


PLANTS = [
    plant_link,
    plant_dangling_link,
    plant_hard_link,
    plant_pipe,
    plant_folder,
    plant_file_of_a_stranger,
]


@pytest.fixture
def precious(tmp_path):
    path = tmp_path / "precious"
    path.write_text(PRECIOUS)
    yield path
    assert path.read_text() == PRECIOUS
    assert not (tmp_path / "nothing").exists()


@pytest.fixture
def entity(store):
    return int(hv("put", 1, 1, "a=b", config=store).ok().out)


# ---- exports ----


def part_of(path, config, *args):
    """Begin an export and let the file system refuse its first byte; the name of its part."""
    limit = [shutil.which("prlimit"), "--fsize=0", "--", build_dir() / "cli/hv"]
    killed = program(limit[0], *limit[1:], "export", *args, config=config)
    assert killed.code != 0
    (part,) = path.parent.glob(path.name + ".part-*")
    part.unlink()
    return part


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.__name__)
@pytest.mark.parametrize("dir", [False, True], ids=["file", "dir"])
def test_an_export_goes_on_with_a_file_of_its_own_only(
    store, entity, tmp_path, precious, plant, dir
):
    path = tmp_path / "out" / "shard0001.ndjson"
    path.parent.mkdir()
    args = ["--dir", path.parent] if dir else [path]
    part = part_of(path, store, *args, "--shards", 1)
    plant(part, precious)
    for more in (["--resume"], []):
        refused = hv("export", *args, "--shards", 1, *more, config=store)
        assert refused.code == 1
        assert part.name in refused.err
    assert not path.exists()
    (shutil.rmtree if part.is_dir() else os.unlink)(part)
    hv("export", *args, "--shards", 1, "--resume", config=store).ok()
    assert json.loads(path.read_text())["id"] == str(entity)


@pytest.mark.parametrize("plant", [plant_link, plant_dangling_link, plant_hard_link])
def test_an_export_replaces_nothing(store, entity, tmp_path, precious, plant):
    path = tmp_path / "x.ndjson"
    plant(path, precious)
    refused = hv("export", path, config=store)
    assert refused.code == 1 and "x.ndjson" in refused.err


def test_devices_and_pipes_that_are_named_are_written_to(store, entity, tmp_path):
    expected = hv("export", "-", config=store).ok().out
    assert json.loads(expected)["id"] == str(entity)
    assert hv("export", "/dev/stdout", config=store).ok().out.startswith(expected)
    command = f"{build_dir()}/cli/hv export >(cat >{tmp_path}/copy) && wait $!"
    program("/bin/bash", "-c", command, config=store).ok()
    eventually(lambda: (tmp_path / "copy").read_text() == expected, what="all was copied")
    hv("export", "/dev/null", config=store).ok()
    os.mkfifo(tmp_path / "pipe")
    with subprocess.Popen(["cat", tmp_path / "pipe"], stdout=subprocess.PIPE) as reader:
        hv("export", tmp_path / "pipe", config=store).ok()
        assert reader.stdout.read().decode() == expected


# ---- rejects files ----


@pytest.fixture
def half_imported(store, servers, tmp_path):
    """An import that was killed after it had rejected a row, and a function that resumes it."""
    path = write_numbers(tmp_path / "x.ndjson", 1, 3000)
    path.write_text('{"n":0}\nbad\n' + path.read_text())
    held_up = HeldUp(servers, 2900)
    args = ["import", path, "--kind", 1, "--jobs", 1, "--json"]
    with held_up:
        child = spawn("hv", *args, config=store, cwd=tmp_path)
        eventually(lambda: held_up.reached() and list(tmp_path.glob("*.rejects")), what="a reject")
        child.send_signal(signal.SIGKILL)
        child.communicate()
    return lambda: hv(*args, "--resume", config=store, cwd=tmp_path)


@pytest.mark.parametrize("plant", PLANTS[:4], ids=lambda plant: plant.__name__)
def test_a_temporary_file_is_made_anew(half_imported, servers, tmp_path, precious, plant):
    plant(tmp_path / "x.ndjson.rejects.tmp", precious)
    summary = half_imported().json()
    assert summary["complete"]
    assert [row["line"] for row in rejects(tmp_path / "x.ndjson.rejects")] == [2]
    assert numbers(servers) == list(range(3001))


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.__name__)
def test_a_rejects_file_that_was_replaced_is_not_gone_on_with(
    half_imported, servers, tmp_path, precious, plant
):
    kept = (tmp_path / "x.ndjson.rejects").rename(tmp_path / "kept")
    if plant is plant_link:  # it even holds the right lines
        precious.write_bytes(kept.read_bytes())
    before = precious.read_bytes()
    plant(tmp_path / "x.ndjson.rejects", precious)
    summary = half_imported().json()
    assert summary["complete"]
    assert numbers(servers) == list(range(3001))
    assert precious.read_bytes() == before
    precious.write_text(PRECIOUS)


@pytest.mark.parametrize("plant", [plant_link, plant_dangling_link, plant_hard_link, plant_folder])
def test_a_named_rejects_file_is_a_new_one(store, servers, tmp_path, precious, plant):
    path = tmp_path / "x.ndjson"
    path.write_text('{"n":1}\nbad\n')
    plant(tmp_path / "mine", precious)
    refused = hv("import", path, "-k", 1, "--rejects", tmp_path / "mine", config=store)
    assert refused.code == 1
    assert count(servers) == 0


def test_rejects_may_go_to_a_pipe(store, tmp_path):
    path = tmp_path / "x.ndjson"
    path.write_text('{"n":1}\nbad\n')
    command = f"{build_dir()}/cli/hv import {path} -k 1 --rejects >(cat >{tmp_path}/copy)"
    assert program("/bin/bash", "-c", command, config=store).code == 1
    eventually(lambda: '"row":"bad"' in (tmp_path / "copy").read_text(), what="the reject is there")
