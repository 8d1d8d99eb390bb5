"""docs/install.md: its commands are run as they stand, on a copy of the sources.

Only what belongs to the whole machine is different: prefixes and PostgreSQL's folders lie below a
folder of the test, `sudo` only runs the command, `apt-get` and `ldconfig` do nothing.
"""

import os
import re
import shutil
import subprocess

import pytest

from harness import hv, installation, run, source_dir

pytestmark = pytest.mark.plain

PAGE = source_dir() / "docs" / "install.md"

SHIMS = {
    "apt-get": "",
    "ldconfig": "",
    # PostgreSQL's bytecode would need clang of the version that PostgreSQL was built with.
    "sudo": '[ "$1" != make ] || set -- "$@" DESTDIR="$HV_TEST_ROOT" with_llvm=no\nexec "$@"',
}


def commands(heading):
    """The blocks of commands below a heading of the page."""
    page = PAGE.read_text("utf-8")
    (section,) = re.findall(rf"^## {heading}\n(.*?)(?=^## |\Z)", page, re.M | re.S)
    blocks = re.findall(r"^```sh\n(.*?)^```", section, re.M | re.S)
    assert blocks, f"there are no commands below {heading}"
    return blocks


class Machine:
    """A copy of the sources, and a folder that stands for the root of the file system."""

    def __init__(self, place):
        self.root = place / "root"
        self.checkout = place / "checkout"
        left_out = shutil.ignore_patterns("build*", ".git", ".mesonpy-*", "__pycache__")
        shutil.copytree(source_dir(), self.checkout, ignore=left_out, symlinks=True)
        self.shims = place / "shims"
        self.shims.mkdir()
        self.root.mkdir()
        for name, text in SHIMS.items():
            (self.shims / name).write_text(f"#!/bin/sh\n{text}\n", "utf-8")
            (self.shims / name).chmod(0o755)

    def run(self, block, before=""):
        """Run a block of the page, after some commands of the test. Returns what it prints."""
        text = re.sub(r"(?<![\w/])/(usr/local|opt)\b", rf"{self.root}/\1", before + block)
        env = {name: value for name, value in os.environ.items() if not name.startswith("PKG_")}
        env.update(HV_TEST_ROOT=str(self.root), PATH=f"{self.shims}:/usr/bin:/bin")
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            cwd=self.checkout,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{text}\n{done.stdout}"
        return done.stdout

    def installed(self):
        """The files below the root."""
        return {
            str(path.relative_to(self.root))
            for path in self.root.rglob("*")
            if path.is_symlink() or not path.is_dir()
        }


def needed(path):
    return set(re.findall(r"NEEDED.*\[(.*)\]", run("readelf", "-d", path).ok().out))


def files(prefix, *libraries):
    """The files that are installed below a prefix."""
    names = [
        "bin/hv",
        "include/hypervault.h",
        "lib/pkgconfig/hypervault.pc",
        "share/man/man1/hv.1",
        "share/bash-completion/completions/hv.bash",
    ]
    names += [f"lib/{name}" for name in libraries]
    if installation.why_not() is None:
        major = run("pg_config", "--version").ok().out.split()[1].split(".")[0]
        ends = (".so", ".control", "--1.0.sql")
        names += [f"lib/hypervault/postgresql-{major}/hypervault{end}" for end in ends]
    return {f"{prefix}/{name}" for name in names}


SHARED = ("libhypervault.so", "libhypervault.so.0", "libhypervault.so.0.0.0")
STATIC = "libhypervault.a"


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def check_hv(program):
    assert run(program, "--version").ok().out == hv("--version").ok().out


def check_it_stores(program, store, **how):
    assert "beep = boop" in run(program, 3, config=store, **how).ok().out


def check_hv_can_be_moved(machine, place):
    moved = shutil.copytree(machine.root / "opt" / "hypervault", place, symlinks=True)
    check_hv(moved / "bin" / "hv")


def check_programs(machine, store):
    usual, own_prefix, static, one_of_both = commands("Programs")
    (pkgconfig,) = (machine.root / "usr" / "local").rglob("pkgconfig")
    program = machine.checkout / "put_get"
    machine.run(usual, before=f"export PKG_CONFIG_PATH={pkgconfig}\n")
    check_it_stores(program, store, env={"LD_LIBRARY_PATH": str(pkgconfig.parent)})
    assert "libhypervault.so.0" in needed(program)
    machine.run(own_prefix)
    check_it_stores(program, store)

    program = machine.checkout / "put_get_static"
    both = "export PKG_CONFIG_PATH=/opt/hypervault/lib/pkgconfig\n"
    for block, before in ((static, ""), (one_of_both, both)):
        program.unlink(missing_ok=True)
        machine.run(block, before=before)
        assert {"libpq.so.5", "libinih.so.1"} <= needed(program)
        assert "libhypervault.so.0" not in needed(program)
        check_it_stores(program, store)
    check_hv(machine.root / "opt" / "hypervault-static" / "bin" / "hv")


def check_another_root(machine, root):
    machine.run(f"DESTDIR={root} meson install -C build-static")
    check_hv(root / machine.root.relative_to("/") / "opt" / "hypervault-static" / "bin" / "hv")


def test_what_meson_installs_works_and_is_removed(machine, store, tmp_path):
    packages, usual, opt, removal = commands("With meson")
    machine.run(packages)
    machine.run(usual)
    expected = files("usr/local", *SHARED)
    assert machine.installed() == expected
    assert machine.run(opt).endswith(hv("--version").ok().out)
    expected |= files("opt/hypervault", STATIC, *SHARED)
    assert machine.installed() == expected
    (program,) = (machine.root / "usr").rglob("hv")
    check_hv(program)
    check_hv_can_be_moved(machine, tmp_path / "moved")

    check_programs(machine, store)
    expected |= files("opt/hypervault-static", STATIC)
    assert machine.installed() == expected
    machine.run("ninja -C build-static uninstall")
    check_another_root(machine, tmp_path / "another")

    machine.run(removal)
    assert {path.name for path in machine.root.rglob("*")} <= {"usr", "local", "opt"}


@pytest.mark.skipif(installation.why_not() is not None, reason=installation.why_not() or "")
def test_the_extension_is_installed_and_removed(machine):
    install, removal = commands("The extension")
    machine.run(install, before="export with_llvm=no\n")
    folders = run("pg_config", "--pkglibdir", "--sharedir").ok().lines
    library, share = (place.lstrip("/") for place in folders)
    scripts = {f"{share}/extension/hypervault{end}" for end in (".control", "--1.0.sql")}
    assert machine.installed() == scripts | {f"{library}/hypervault.so"}
    machine.run(removal)
    assert machine.installed() == set()


@pytest.mark.skipif(installation.why_not() is not None, reason=installation.why_not() or "")
def test_the_extension_can_be_built_from_an_archive_of_it_alone(tmp_path):
    alone = shutil.copytree(source_dir() / "extension", tmp_path / "alone")
    (alone / "value").mkdir()
    for name in ("key.c", "key.h"):  # which dev/package makes too
        shutil.copy(source_dir() / "src/value" / name, alone / "value")
    run("make", "--silent", "-C", alone, "with_llvm=no").ok()
    assert (alone / "hypervault.so").exists()


def test_the_python_package_is_installed_and_removed(machine):
    install, removal = commands("The Python package")
    offline = "export PIP_NO_INDEX=1 PIP_DISABLE_PIP_VERSION_CHECK=1\n"
    shown = machine.run(install, before=offline)
    assert shown.splitlines()[-1] == hv("--version").ok().out.split()[1]
    machine.run(removal, before=offline)
    assert not list((machine.checkout / "env").rglob("site-packages/hv"))
