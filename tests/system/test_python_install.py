"""The package as users install it: with pip from a checkout, and as a wheel. No network is used."""

import re
import shutil
import subprocess
import sys
import tarfile
import zipfile

import pytest

from harness import python, run, source_dir
from harness.python import connections, databases  # noqa: F401

python.provide()

pytestmark = pytest.mark.plain


@pytest.fixture
def checkout(tmp_path):
    """A copy of the sources as a freshly cloned repository."""
    place = tmp_path / "checkout"
    left_out = shutil.ignore_patterns("build*", ".git", ".mesonpy-*", "__pycache__", ".hypothesis")
    shutil.copytree(source_dir(), place, ignore=left_out, symlinks=True)
    git = ("git", "-c", "user.name=x", "-c", "user.email=x@example.org", "-C", place)
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "all"]):
        subprocess.run([*git, *command], check=True)
    return place


@pytest.fixture
def venv(tmp_path):
    """The Python of a new virtual environment that sees the system's packages."""
    place = tmp_path / "venv"
    run(sys.executable, "-m", "venv", "--system-site-packages", "--without-pip", place).ok()
    return place / "bin" / "python"


def pip(venv, *args):
    offline = ("--no-index", "--disable-pip-version-check", "--no-cache-dir")
    return run(venv, "-m", "pip", "install", *offline, *args).ok()


def check_installed(venv, connections, tmp_path):
    """The contract's example, from what is installed."""
    script = tmp_path / "example.py"
    script.write_text(
        python.PRELUDE
        + """
import hv
assert hv.__file__.startswith(sys.prefix), hv.__file__
with Datastore(connections) as db:
    with db.cursor(5) as cur:
        cur.execute("SELECT version()")
        assert cur.fetchone()[0].startswith("PostgreSQL")
    key = db.put(12, 1, **dict(beep="boop"))
    assert db.get(Key(key.id))["body"] == {"beep": "boop"}
print(hv.__version__)
"""
    )
    env = python.environment(connections)
    del env["PYTHONPATH"]
    return run(venv, script, env=env).ok().out.strip()


def version():
    text = (source_dir() / "meson.build").read_text("utf-8")
    return re.search(r"version: '(.*)'", text).group(1)


def test_pip_installs_from_a_checkout(checkout, venv, connections, tmp_path):
    pip(venv, "--no-build-isolation", checkout)
    assert check_installed(venv, connections, tmp_path) == version()
    output = run(venv, "-m", "pip", "show", "hv").ok().out
    assert f"Version: {version()}\n" in output and "Requires: psycopg2\n" in output
    assert run("git", "-C", checkout, "status", "--porcelain").ok().out == ""


def check_contents(names):
    """A wheel has the package and nothing else."""
    info = f"hv-{version()}.dist-info/"
    package = {name for name in names if not name.startswith(info)}
    (module,) = {name for name in package if re.fullmatch(r"hv/_hv\..*\.so", name)}
    sources = {path.name for path in (source_dir() / "python" / "hv").iterdir()}
    modules = sources - {"meson.build", "__pycache__"}
    assert package - {module} == {f"hv/{name}" for name in modules}
    assert {f"{info}METADATA", f"{info}LICENSE"} <= set(names)
    return module


def check_module(path):
    """The library is in it, and hidden."""
    shown = run("nm", "-D", "--defined-only", "--format=posix", path).ok()
    assert [line.split()[0] for line in shown.lines] == ["PyInit__hv"]
    needed = set(re.findall(r"NEEDED.*\[(.*)\]", run("readelf", "-d", path).ok().out))
    assert "libpq.so.5" in needed and not any("hypervault" in each for each in needed)


def test_a_source_distribution_and_a_wheel_of_it_can_be_made(checkout, venv, connections, tmp_path):
    made = tmp_path / "made"
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", made, checkout).ok()
    (source,) = made.glob("*.tar.gz")
    (wheel,) = made.glob("*.whl")
    with tarfile.open(source) as archive:
        assert f"hv-{version()}/python/hv/datastore.py" in archive.getnames()
    with zipfile.ZipFile(wheel) as archive:
        module = check_contents(archive.namelist())
        check_module(archive.extract(module, tmp_path))
    pip(venv, wheel)
    assert check_installed(venv, connections, tmp_path) == version()
