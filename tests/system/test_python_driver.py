"""psycopg2 with its own libpq, as in its binary wheel: a clear error, never a crash."""

import pathlib
import shutil

import psycopg2
import pytest

from harness import python

python.provide()


def rename_libpq(source, target):
    """Copy a library that calls libpq, or itself, by another name."""
    code = source.read_bytes()
    assert code.count(b"\0libpq.so.5\0") == 1
    target.write_bytes(code.replace(b"\0libpq.so.5\0", b"\0libpX.so.5\0"))


@pytest.fixture
def foreign(tmp_path):
    """The environment in which psycopg2 has another libpq than all else."""
    package = pathlib.Path(psycopg2.__file__).parent
    shutil.copytree(package, tmp_path / "psycopg2")
    (driver,) = (tmp_path / "psycopg2").glob("_psycopg*.so")
    rename_libpq(driver, driver)
    with open("/proc/self/maps", encoding="utf-8") as maps:
        libpq = {line.split()[-1] for line in maps if "/libpq.so" in line}.pop()
    rename_libpq(pathlib.Path(libpq), tmp_path / "libpX.so.5")
    return {"LD_LIBRARY_PATH": str(tmp_path), "PYTHONPATH": f"{tmp_path}:{python.folder()}"}


def imported(tmp_path, code, env=None):
    script = tmp_path / "script.py"
    script.write_text(code)
    return python.run_file(script, env=env).ok().out


def test_the_copy_of_psycopg2_works_by_itself(foreign, tmp_path):
    assert str(tmp_path) in imported(tmp_path, "import psycopg2\nprint(psycopg2.__file__)\n", foreign)


@pytest.mark.parametrize("order", ["import psycopg2, hv.datastore", "import hv.datastore, psycopg2"])
def test_a_foreign_libpq_is_refused_at_the_import(foreign, tmp_path, order):
    code = f"try:\n    {order}\nexcept ImportError as error:\n    print(error)\n"
    output = imported(tmp_path, code, foreign)
    assert "libpX.so.5" in output and "libpq.so.5" in output
    assert "psycopg2-binary" in output


def test_the_usual_psycopg2_is_taken(tmp_path):
    assert imported(tmp_path, "import hv.datastore\n") == ""
