"""A private copy of the machine's PostgreSQL, into which the extension hypervault is installed.

PostgreSQL finds its files relative to its own program. So a copy of the program is a whole
installation if its folders are arranged like the originals and link to the originals' files, and
`CREATE EXTENSION hypervault` can be tested without touching the machine's.
"""

import os
import shutil
import subprocess
import threading

from . import scratch
from .command import build_dir, source_dir
from .server import binaries

_lock = threading.Lock()
_bindir = None


def _places():
    """The folders of the machine's PostgreSQL: programs, shared files and libraries."""
    done = subprocess.run(
        [os.path.join(binaries(), "pg_config"), "--bindir", "--sharedir", "--pkglibdir"],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


def _link_files(source, target, but):
    """Make the folder `target` with a link to each file of `source`, except those whose names begin
    with `but`."""
    os.makedirs(target)
    for entry in os.scandir(source):
        if entry.is_file() and not entry.name.startswith(but):
            os.symlink(entry.path, os.path.join(target, entry.name))


def _below(root, path):
    return root + os.path.abspath(path)


def why_not():
    """The reason why there can be no installation, or None."""
    if not os.path.exists(os.path.join(build_dir(), "extension", "hypervault.so")):
        return "the extension is not built: it takes PostgreSQL's development files for servers"
    return None


def _copy(root, but):
    """Copy the machine's installation, without one extension. Returns its bindir."""
    bindir, sharedir, pkglibdir = _places()
    _link_files(bindir, _below(root, bindir), but)
    # The server resolves the real path of its program, so that must not be a link.
    os.unlink(_below(root, f"{bindir}/postgres"))
    shutil.copy(os.path.join(bindir, "postgres"), _below(root, bindir))
    _link_files(pkglibdir, _below(root, pkglibdir), but)
    _link_files(os.path.join(sharedir, "extension"), _below(root, f"{sharedir}/extension"), but)
    for entry in os.scandir(sharedir):
        if entry.name != "extension":
            os.symlink(entry.path, os.path.join(_below(root, sharedir), entry.name))
    return _below(root, bindir)


def _install(root):
    """Install the extension hypervault into a copy."""
    bindir = _places()[0]
    command = ["make", "--silent", f"--file={source_dir()}/extension/Makefile", "install"]
    command += [f"PG_CONFIG={bindir}/pg_config", f"DESTDIR={root}", "with_llvm=no"]
    done = subprocess.run(
        command,
        cwd=os.path.join(build_dir(), "extension"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}")


def bindir_without(extension):
    """The folder of a `postgres` of a new installation that lacks an extension's files."""
    return _copy(scratch.folder("installation-"), extension)


def own_bindir_with_extension():
    """The same, for a test that breaks it: (bindir, the path of the extension's library)."""
    root = scratch.folder("installation-")
    bindir = _copy(root, "hypervault")
    _install(root)
    return bindir, os.path.join(_below(root, _places()[2]), "hypervault.so")


def bindir_with_extension():
    """The folder of a `postgres` that has the extension; made at the first call in a session."""
    global _bindir
    with _lock:
        if _bindir is None:
            root = scratch.folder("installation-")
            _bindir = _copy(root, "hypervault")
            _install(root)
        return _bindir
