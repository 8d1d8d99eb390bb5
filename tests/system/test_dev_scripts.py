"""A newcomer's first commands work: dev/demo, dev/hv and the help of every script."""

import os
import subprocess

import pytest

from harness import build_dir, hv, run, scratch, source_dir

pytestmark = pytest.mark.plain

DEV = source_dir() / "dev"
HERE = {"HV_BUILD": str(build_dir())}


@pytest.fixture
def demo_folder():
    """A folder for the demo's servers, which are stopped afterwards."""
    folder = os.path.join(scratch.folder("demo-"), "d")
    os.chmod(os.path.dirname(folder), 0o1777)  # as /var/tmp, where the demo has its own
    yield folder
    if os.path.exists(folder):
        hv("dev", "destroy", "--yes", "--dir", folder).ok()


def test_the_demo_shows_every_step_and_can_be_run_again(demo_folder):
    for number_of_runs in (1, 2):
        shown = run(DEV / "demo", env={**HERE, "HV_DEMO": demo_folder}).ok()
        assert shown.err == ""
        assert "$ dev/hv status\n" in shown.out
        assert "beep" in shown.out
        assert " 0 rejected" in shown.out
        assert f"dev/hv dev destroy --dir {demo_folder}" in shown.out
        config = os.path.join(demo_folder, "hypervault.conf")
        servers = hv("status", "--json", config=config).ok().json()["servers"]
        stored = sum(shard["entities"] for server in servers for shard in server["shards"])
        packages = len(run(DEV / "packages.py").lines)
        assert stored == number_of_runs * (packages + 1)


def test_the_demo_refuses_a_folder_that_is_a_link(demo_folder, tmp_path):
    os.symlink(tmp_path, demo_folder)
    done = run(DEV / "demo", env={**HERE, "HV_DEMO": demo_folder})
    os.unlink(demo_folder)
    assert done.code == 1
    assert f"{demo_folder} is not a folder" in done.out
    assert os.listdir(tmp_path) == []


def test_dev_hv_keeps_the_working_folder_and_the_exit_code(tmp_path):
    done = run(DEV / "hv", "status", "-c", "missing.conf", cwd=tmp_path, env=HERE)
    assert done.code == hv("status", "-c", "missing.conf", cwd=tmp_path).code != 0
    assert "missing.conf" in done.err


@pytest.mark.parametrize("script", ["setup", "build", "check", "demo", "fresh", "package"])
def test_every_script_explains_itself(script, tmp_path):
    shown = run(DEV / script, "--help", cwd=tmp_path, env=HERE).ok()
    assert f"usage: dev/{script}" in shown.out


@pytest.mark.parametrize("script", ["setup", "check", "demo", "fresh", "package"])
def test_a_script_refuses_what_it_does_not_know(script):
    done = run(DEV / script, "--colour", env=HERE)
    assert done.code == 1
    assert "argument" in done.err


def test_a_build_that_is_there_is_left_as_it_is():
    before = os.stat(build_dir() / "build.ninja").st_mtime_ns
    run(DEV / "build", env=HERE).ok()
    assert os.stat(build_dir() / "build.ninja").st_mtime_ns == before


@pytest.mark.parametrize("script", ["build", "package"])
def test_a_foreign_folder_is_not_built_in(script, tmp_path):
    (tmp_path / "precious").write_text("data")
    folder = [tmp_path] if script == "package" else []
    done = run(DEV / script, *folder, env={"HV_BUILD": str(tmp_path)})
    assert done.code == 1
    assert "holds something else" in done.err
    assert (tmp_path / "precious").read_text() == "data"


def test_the_script_of_packages_lists_each_installed_one_once():
    packages = run(DEV / "packages.py").ndjson()
    names = subprocess.run(
        ["dpkg-query", "--show", "--showformat=${db:Status-Status} ${Package}\n"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    installed = [line.split()[1] for line in names.splitlines() if line.startswith("installed ")]
    assert [package["package"] for package in packages] == installed
    assert all(package["version"] for package in packages)


@pytest.mark.parametrize(
    "cases, failed_stages, code, last",
    [
        (["", ""], 0, 0, "2 passed, 0 failed"),
        (["", "<skipped/>"], 0, 0, "1 passed, 0 failed, 1 skipped"),
        (["", "<failure/>"], 1, 1, "1 passed, 1 failed"),
        (["", "<error/>", "<failure/>"], 1, 1, "1 passed, 2 failed"),
        ([""], 1, 1, "1 passed, 1 failed"),  # a build that failed, say
        (["<skipped/>"], 0, 1, "0 passed, 0 failed, 1 skipped"),
        ([], 0, 1, "0 passed, 0 failed"),
    ],
)
def test_the_totals_count_every_test_and_a_stage_that_failed(
    tmp_path, cases, failed_stages, code, last
):
    for number, case in enumerate(cases):
        text = f"<testsuite><testcase name='t'>{case}</testcase></testsuite>"
        (tmp_path / f"{number}.xml").write_text(text)
    done = run(DEV / "totals.py", tmp_path, failed_stages)
    assert (done.code, done.lines[-1]) == (code, last)


@pytest.mark.parametrize(
    "again, code, last, named",
    [
        ("", 0, "2 passed, 0 failed", "unsteady in stage, passed when run again: shaky"),
        ("<failure/>", 1, "1 passed, 1 failed", "failed in stage: shaky"),
        ("<skipped/>", 1, "1 passed, 1 failed", "failed in stage: shaky"),
    ],
)
def test_a_test_that_passes_when_run_again_counts_as_passed_and_is_named(
    tmp_path, again, code, last, named
):
    first = "<testcase name='firm'/><testcase name='shaky'><failure>why</failure></testcase>"
    (tmp_path / "stage.xml").write_text(f"<testsuite>{first}</testsuite>")
    second = f"<testsuite><testcase name='shaky'>{again}</testcase></testsuite>"
    (tmp_path / "stage-again.xml").write_text(second)
    done = run(DEV / "totals.py", tmp_path, 0)
    assert (done.code, done.lines[-1]) == (code, last)
    assert named in done.lines
    assert ("why" in done.lines) == (code == 0)
