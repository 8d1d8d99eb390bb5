"""The benchmarks run and report their results. The speed is not judged here."""

import json
import xml.etree.ElementTree

import pytest

from harness import build_dir, run, source_dir
from harness.installation import why_not

pytestmark = pytest.mark.plain

BENCH = source_dir() / "bench"
HERE = {"HV_BUILD": str(build_dir())}


def test_every_contender_makes_keys(tmp_path):
    if why_not():
        pytest.skip(why_not())
    small = ["--rounds=2", "--keys=4000", "--sessions=5"]
    shown = run(BENCH / "keys", *small, f"--output={tmp_path}", env=HERE).ok()
    assert shown.err == ""
    assert (tmp_path / "keys.md").read_text("utf-8") == shown.out
    found = json.loads((tmp_path / "keys.json").read_text("utf-8"))
    contenders = {"article", "portable", "strict", "nextval", "uuid"}
    for sessions in ("one_session", "many_sessions"):
        assert found[sessions].keys() == contenders
        assert all(len(rounds) == 2 for rounds in found[sessions].values())
    assert found["short_sessions"].keys() == contenders | {"loop"}
    assert min(found["short_sessions"]["strict"]["log_bytes"][0]) > 0
    assert found["made_twice"]["strict"] == 0
    assert shown.out.count("times the article's function") == 2


def test_every_contender_does_what_it_says(tmp_path):
    """The rows that each claims to have put are there, and each gets what it asks for."""
    shown = run(
        BENCH / "compare",
        "--rounds=1",
        "--seconds=0.5",
        "--rows=800",
        "--clients=2",
        f"--output={tmp_path}",
        env=HERE,
    ).ok()
    assert (tmp_path / "compare.md").read_text("utf-8") == shown.out
    found = json.loads((tmp_path / "compare.json").read_text("utf-8"))["runs"]
    assert {name.split()[0] for name in found} >= {"hv", "raw", "queue", "array", "pipelined"}
    assert {"pgbench put 2", "pgbench get 64", "hv import", "copy"} <= found.keys()
    for verb in ("merge", "delete"):
        assert {f"pgbench {verb} 2", f"hv {verb} 64"} <= found.keys()
        many = {f"{contender} {verb} 1 batch=1000" for contender in ("hv", "array", "pipelined")}
        assert many <= found.keys()
    assert {len(rounds) for rounds in found.values()} == {1}
    assert [name for name, (only,) in found.items() if only["operations"] == 0] == []
    picture = xml.etree.ElementTree.parse(tmp_path / "compare.svg").getroot()
    assert len(picture.findall("{http://www.w3.org/2000/svg}rect")) > 5


@pytest.mark.parametrize("only", ["get, one caller", "import"])
def test_another_build_takes_part_in_every_round(tmp_path, only):
    shown = run(
        BENCH / "compare",
        "--rounds=2",
        "--seconds=0.3",
        "--rows=800",
        "--clients=2",
        f"--only={only}",
        f"--against={build_dir()}",
        f"--output={tmp_path}",
        env=HERE,
    ).ok()
    found = json.loads((tmp_path / "compare.json").read_text("utf-8"))["runs"]
    ours, beside = [name for name in found if name.startswith(("hv ", "other "))]
    assert beside == f"other {ours}"
    assert [name for name, rounds in found.items() if len(rounds) != 2] == []
    assert all(each["operations"] > 0 for rounds in found.values() for each in rounds)
    rows = [line for line in shown.out.splitlines() if "the other build: " in line]
    assert len(rows) == 1 and only in rows[0] and "| 0.97 |" in rows[0]


def test_an_older_build_takes_part_in_what_it_can_do(tmp_path):
    program = tmp_path / "older" / "bench" / "callers"
    program.parent.mkdir(parents=True)
    program.write_text(
        "#!/bin/sh\n"
        'if [ $# = 0 ]; then echo "usage: callers CONTENDER put|get|borrow" >&2; exit 1; fi\n'
        f'exec {build_dir()}/bench/callers "$@"\n'
    )
    program.chmod(0o755)
    (tmp_path / "older" / "cli").symlink_to(build_dir() / "cli")
    run(
        BENCH / "compare",
        "--rounds=1",
        "--seconds=0.3",
        "--rows=800",
        "--only=get_many",
        "--only=delete_many",
        f"--against={tmp_path / 'older'}",
        f"--output={tmp_path}",
        env=HERE,
    ).ok()
    found = json.loads((tmp_path / "compare.json").read_text("utf-8"))["runs"]
    ours = {f"hv {verb} 1 batch=1000" for verb in ("get", "delete")}
    assert {name for name in found if name.startswith("hv ")} == ours
    assert [name for name in found if name.startswith("other ")] == ["other hv get 1 batch=1000"]


def test_only_a_build_is_compared_with(tmp_path):
    done = run(BENCH / "compare", f"--against={tmp_path}", f"--output={tmp_path}", env=HERE)
    assert done.code == 2
    assert f"{tmp_path} is not a build of hypervault: no bench/callers" in done.err


def test_an_import_that_is_killed_twice_has_every_row_in_the_end(tmp_path):
    arguments = ["--rounds=1", "--rows=80000", f"--output={tmp_path}"]
    shown = run(BENCH / "import", *arguments, env=HERE).ok()
    assert (tmp_path / "import.md").read_text("utf-8") == shown.out
    found = json.loads((tmp_path / "import.json").read_text("utf-8"))
    assert found["killed"][-1] == 80000
    assert all(rounds[0] > 0 for rounds in found["per_second"].values())


def test_every_contender_in_python_does_what_it_says(tmp_path):
    if not (build_dir() / "python" / "hv").is_dir():
        pytest.skip("the Python package is not built: it takes Python's development files")
    arguments = ["--rounds=1", "--seconds=0.3", f"--output={tmp_path}"]
    shown = run(BENCH / "python", *arguments, env=HERE).ok()
    assert (tmp_path / "python.md").read_text("utf-8") == shown.out
    found = json.loads((tmp_path / "python.json").read_text("utf-8"))["runs"]
    work = ["put 1", "put 32", "get 8", "borrow 32", "put 1 batch=1000", "get 32 far=True"]
    assert {f"{who} {what}" for who in ("hv", "queue") for what in work} <= found.keys()
    assert [name for name, (only,) in found.items() if only["operations"] == 0] == []
    picture = xml.etree.ElementTree.parse(tmp_path / "python.svg").getroot()
    assert len(picture.findall("{http://www.w3.org/2000/svg}rect")) > 10


def test_every_way_to_find_reads_the_same(tmp_path):
    arguments = ["--rounds=2", "--seconds=0.2", "--rows=5000", f"--output={tmp_path}"]
    shown = run(BENCH / "find", *arguments, env=HERE).ok()
    assert (tmp_path / "find.md").read_text("utf-8") == shown.out
    found = json.loads((tmp_path / "find.json").read_text("utf-8"))
    runs = found["runs"]
    assert {f"{way} newest growing 256" for way in ("hv", "loop", "union")} <= runs.keys()
    assert {f"{way} user 16" for way in ("hv", "table", "union")} <= runs.keys()
    assert {len(rounds) for rounds in runs.values()} == {2}
    assert [name for name, rounds in runs.items() if rounds[0]["operations"] == 0] == []
    for way in ("hv", "copy"):
        assert [each["operations"] for each in runs[f"{way} everything"]] == [5000] * 2
        assert len(found["peak_mb"][way]) == 2 and min(found["peak_mb"][way]) > 1
    picture = xml.etree.ElementTree.parse(tmp_path / "find.svg").getroot()
    assert len(picture.findall("{http://www.w3.org/2000/svg}rect")) > 5
    picture = xml.etree.ElementTree.parse(tmp_path / "find-growth.svg").getroot()
    assert len(picture.findall("{http://www.w3.org/2000/svg}polyline")) == 4
    assert len(picture.findall("{http://www.w3.org/2000/svg}circle")) == 20


def test_every_way_to_change_schemas_changes_all_shards(tmp_path):
    arguments = ["--rounds=2", "--shards=6", f"--output={tmp_path}"]
    shown = run(BENCH / "schema", *arguments, env=HERE).ok()
    assert (tmp_path / "schema.md").read_text("utf-8") == shown.out
    runs = json.loads((tmp_path / "schema.json").read_text("utf-8"))["runs"]
    ways = ("hv", "hv8", "loop", "jobs", "limit")
    assert runs.keys() == {f"{way} {what}" for way in ways for what in ("a column", "an index")}
    assert {len(rounds) for rounds in runs.values()} == {2}
    assert all(each["operations"] == 6 for rounds in runs.values() for each in rounds)
    picture = xml.etree.ElementTree.parse(tmp_path / "schema.svg").getroot()
    assert len(picture.findall("{http://www.w3.org/2000/svg}rect")) > 5


def test_what_a_move_costs_is_measured_drawn_and_judged(tmp_path):
    small = ["--writers=2", "--rate=400", "--moves=2", "--megabytes=2", "--copies=1"]
    shown = run(BENCH / "move", *small, f"--output={tmp_path}", env=HERE).ok()
    assert (tmp_path / "move.md").read_text("utf-8") == shown.out
    found = json.loads((tmp_path / "move.json").read_text("utf-8"))
    assert len(found["moves"]) == 2 and len(found["copying"]["moves"]) == 1
    writers = found["writers"]
    assert writers["acknowledged"] > 100 and writers["reads"] > 0 and writers["server"] == 0
    assert not any(writers[wrong] for wrong in ("errors", "lost", "doubled", "stale"))
    rows = [line.split(" | ") for line in shown.out.splitlines() if line.startswith("| ")]
    judged = [what for what, *_, verdict in rows if verdict in ("yes |", "**no** |")]
    assert len(judged) == 8  # the longest put by two goals, four kinds of faults, others, the time
    picture = xml.etree.ElementTree.parse(tmp_path / "move.svg").getroot()
    assert len(picture.findall("{http://www.w3.org/2000/svg}rect")) > 200
    assert len(picture.findall("{http://www.w3.org/2000/svg}path")) == 1  # the switch


@pytest.mark.parametrize("script", ["keys", "compare", "find", "import", "move", "python", "schema"])
def test_every_benchmark_explains_itself(script, tmp_path):
    shown = run(BENCH / script, "--help", cwd=tmp_path, env=HERE).ok()
    assert f"usage: bench/{script}" in shown.out


@pytest.mark.parametrize("script", ["keys", "compare", "find", "import", "move", "python", "schema"])
def test_a_benchmark_refuses_what_it_does_not_know(script):
    done = run(BENCH / script, "--colour", env=HERE)
    assert done.code == 2
    assert "--colour" in done.err
