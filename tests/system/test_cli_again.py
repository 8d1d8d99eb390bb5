"""Repeated exports and imports: a nightly export whose file exists already, and a second import of
a file."""

import json
import os
import pty

import pytest

from harness import eventually, hv, spawn
from importing import HeldUp, count, import_file, numbers, write_numbers


def export(store, *args):
    return hv("export", *args, config=store)


def lines(path):
    return path.read_text().count("\n")


@pytest.fixture(params=["file", "dir"])
def target(request, tmp_path):
    """The arguments of hv export, and the file that has shard 3."""
    if request.param == "file":
        return [tmp_path / "night.ndjson"], tmp_path / "night.ndjson"
    return ["--dir", tmp_path / "night"], tmp_path / "night" / "shard0003.ndjson"


# ---- exports ----


def test_a_nightly_export_notices_that_its_file_is_there(store, target):
    args, path = target
    hv("put", 3, 1, "n=1", config=store).ok()
    export(store, *args, "--kind", 1).ok()
    hv("put", 3, 1, "n=2", config=store).ok()
    for more in (["--resume"], [], ["--resume", "--kind", 7]):
        refused = export(store, *args, "--kind", 1, *more)
        assert refused.code == 1 and refused.out == ""
        assert f'"{path.parent}' in refused.err and "is a finished export" in refused.err
        assert "finished at 20" in refused.err and "contains kind 1, shards 1-17" in refused.err
        assert "--overwrite" in refused.err
    assert lines(path) == 1


def test_a_nightly_export_that_overwrites_has_what_there_is(store, target):
    args, path = target
    for night in range(1, 4):
        hv("put", 3, 1, f"n={night}", config=store).ok()
        report = export(store, *args, "--overwrite", "--json").ok().json()
        assert report["complete"] and report["entities"] == night == lines(path)
    assert not list(path.parent.glob("*.part-*"))
    hv("put", 3, 2, "n=4", config=store).ok()
    export(store, *args, "--overwrite", "--kind", 2).ok()
    assert lines(path) == 1


def test_an_overwrite_that_fails_leaves_what_there_was(store, servers, target):
    """The last shard is locked: the others are complete by then."""
    args, path = target
    hv("put", 3, 1, "n=1", config=store).ok()
    export(store, *args).ok()
    before = path.read_bytes()
    for number in range(2, 5000):
        if number == 2 or number % 2500 == 0:
            hv("put", 3, 1, f"n={number}", config=store).ok()
    with servers[1].connect() as holder:
        holder.autocommit = False
        holder.cursor().execute("LOCK TABLE shard0016.entities")
        process = spawn("hv", "export", *args, "--overwrite", config=store)
        eventually(lambda: list(path.parent.glob("*.part-*")))
        process.kill()
        process.wait()
    assert path.read_bytes() == before
    assert export(store, *args, "--resume").code == 1
    export(store, *args, "--overwrite", "--resume").ok()
    assert lines(path) == 3 and path.read_bytes() != before
    assert not list(path.parent.glob("*.part-*"))


def test_an_unfinished_export_says_of_what_it_is(store, servers, tmp_path):
    path = tmp_path / "x.ndjson"
    with servers[1].connect() as holder:
        holder.autocommit = False
        holder.cursor().execute("LOCK TABLE shard0016.entities")
        process = spawn("hv", "export", path, "--kind", 7, "--since", "2020-01-01", config=store)
        eventually(lambda: any(map(os.listxattr, tmp_path.glob("*.part-*"))))
        process.kill()
        process.wait()
    refused = export(store, path, "--resume")
    assert refused.code == 1 and "an export of something else" in refused.err
    assert "contains kind 7, shards 1-17, since 2020-01-01T00:00:00.000Z" in refused.err
    assert "to continue" not in refused.out


def test_a_file_that_is_no_export_is_named_as_that_and_can_be_replaced(store, tmp_path):
    path = tmp_path / "x.ndjson"
    path.write_text("precious")
    for more in (["--resume"], []):
        refused = export(store, path, *more)
        assert refused.code == 1 and "exists already" in refused.err
        assert "is not known" in refused.err
    assert path.read_text() == "precious"
    export(store, path, "--overwrite").ok()
    assert path.read_text() == ""


def test_some_files_of_a_folder_are_gone_on_with_if_they_are_of_this_export(store, tmp_path):
    hv("put", 3, 1, "n=1", config=store).ok()
    folder = tmp_path / "f"
    export(store, "--dir", folder).ok()
    (folder / "shard0004.ndjson").unlink()
    refused = export(store, "--dir", folder, "--resume", "--kind", 1)
    assert refused.code == 1 and "contains all kinds" in refused.err
    for part in folder.glob("*.part-*"):
        part.unlink()
    export(store, "--dir", folder, "--resume").ok()
    assert (folder / "shard0004.ndjson").exists()
    (folder / "shard0004.ndjson").unlink()
    assert export(store, "--dir", folder).code == 1
    assert not (folder / "shard0004.ndjson").exists()


# ---- imports ----


def test_a_file_that_was_imported_is_not_imported_again_unless_that_is_meant(
    store, servers, tmp_path
):
    path = write_numbers(tmp_path / "x.ndjson", 1, 500)
    import_file(store, path).ok()
    for more in ([], ["--jobs", 5], ["--shard", 3], ["--by", "n"]):
        refused = import_file(store, path, *more)
        error = json.loads(refused.err)["error"]
        assert refused.code == 1 and error["message"] == f'"{path}" was imported before'
        assert "up to number 500" in error["detail"] and "--again" in error["hint"]
    assert count(servers) == 500
    assert import_file(store, path, "--again").ok().json()["stored"] == 500
    assert count(servers) == 1000
    assert import_file(store, path, "--resume").ok().json()["rows"] == 0


def test_another_file_or_kind_is_another_import(store, servers, tmp_path):
    """One of the same name, size and beginning too."""
    path = tmp_path / "x.ndjson"
    text = "".join(f'{{"n":{n}}}\n' for n in range(100000, 120000))
    path.write_text(text)
    import_file(store, path).ok()
    path.write_text(text.replace("119999", "999999"))
    import_file(store, path).ok()
    hv("import", path, "--kind", 2, config=store).ok()
    other = path.rename(tmp_path / "y.ndjson")
    import_file(store, other).ok()
    assert count(servers) == 80000
    assert import_file(store, other).code == 1
    assert import_file(store, other, "--skip", 1).code == 0


def test_rows_that_were_rejected_may_be_tried_again(store, servers, tmp_path):
    path = write_numbers(tmp_path / "x.ndjson", 1, 500)
    assert import_file(store, path, "--by", "m").code == 1
    assert import_file(store, path, "--by", "n").ok().json()["stored"] == 500


def test_rows_of_an_import_that_has_not_come_to_its_end_are_not_stored_again(
    store, servers, tmp_path
):
    path = write_numbers(tmp_path / "x.ndjson", 1, 20000)
    held_up = HeldUp(servers, 19999)
    with held_up:
        args = ["import", path, "--kind", 1, "--jobs", 1]
        process = spawn("hv", *args, config=store, cwd=tmp_path)
        eventually(held_up.reached)
        process.kill()
        process.wait()
    eventually(lambda: not held_up.reached())
    assert count(servers) > 0
    refused = hv(*args, config=store, cwd=tmp_path)
    assert refused.code == 1 and "--resume" in refused.err and "--again" in refused.err
    hv(*args, "--resume", config=store, cwd=tmp_path).ok()
    assert numbers(servers) == list(range(1, 20001))


@pytest.mark.parametrize("answer, stored", [(b"y\n", 20), (b"\n", 10)])
def test_on_a_terminal_it_is_asked(store, servers, tmp_path, answer, stored):
    path = write_numbers(tmp_path / "x.ndjson", 1, 10)
    import_file(store, path).ok()
    ours, theirs = pty.openpty()
    process = spawn(
        "hv", "import", path, "--kind", 1, config=store, cwd=tmp_path, stdin=theirs, stderr=theirs
    )
    os.close(theirs)
    seen = b""
    while b"[y/N]" not in seen:
        seen += os.read(ours, 65536)
    os.write(ours, answer)
    process.stdout.read()
    assert process.wait() == (0 if stored == 20 else 1)
    os.close(ours)
    assert b"was imported before" in seen and count(servers) == stored


def test_entities_with_keys_may_be_imported_again(store, tmp_path):
    hv("put", 3, 1, "n=1", config=store).ok()
    path = tmp_path / "x.ndjson"
    export(store, path).ok()
    for _ in range(2):
        hv("import", "--exported", path, config=store).ok()


def test_a_stream_is_not_known_to_be_the_same(store, servers, tmp_path):
    path = write_numbers(tmp_path / "x.ndjson", 1, 10)
    for _ in range(2):
        hv("import", "-", "--kind", 1, config=store, input=path.read_bytes()).ok()
    assert count(servers) == 20
    with open(path, "rb") as file:  # standard input, but a file
        process = spawn("hv", "import", "-", "--kind", 1, config=store, stdin=file)
        process.communicate()
    with open(path, "rb") as file:
        process = spawn("hv", "import", "-", "--kind", 1, config=store, stdin=file)
        assert b"was imported before" in process.communicate()[1]
    assert process.returncode == 1 and count(servers) == 30
