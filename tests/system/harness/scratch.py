"""The session's scratch folder, and the free ports it holds.

Everything that outlives a test's own tmp_path (servers' data above all) is in one folder per test
session. It has a short path, because a Unix socket's path has at most 107 bytes, and is in memory
if there is enough, which saves a good part of the tests' time. A lock marks the session as alive;
the next session removes the folders of sessions that were killed.
"""

import atexit
import contextlib
import fcntl
import os
import random
import re
import shutil
import socket
import tempfile

_PREFIX = "hvt-"
_DISK = "/tmp"
_MEMORY = "/dev/shm"
_MEMORY_NEEDED = 4 << 30  # bytes; a session uses some hundreds of megabytes

_root = None
_on_disk = False


def _locked(path):
    """Lock the file at `path`: return its descriptor, or None if another process has the lock. It
    is held until the descriptor is closed or the process ends."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def stay_on_disk():
    """Put the folder on a disk in any case: for benchmarks, whose commits must be real ones."""
    global _on_disk
    assert _root is None, "it is made already"
    _on_disk = True


def _base():
    """The folder in which the session's folder is made."""
    if _on_disk:
        return _DISK
    try:
        room = os.statvfs(_MEMORY)
        with open("/proc/meminfo", encoding="ascii") as file:
            available = int(re.search(r"MemAvailable: *(\d+) kB", file.read()).group(1)) * 1024
    except (OSError, AttributeError):
        return _DISK
    usable = os.access(_MEMORY, os.W_OK) and not room.f_flag & os.ST_NOEXEC
    enough = min(room.f_bavail * room.f_frsize, available) >= _MEMORY_NEEDED
    return _MEMORY if usable and enough else _DISK


def _folders_of_sessions():
    for base in (_DISK, _MEMORY):
        with contextlib.suppress(OSError):
            for name in os.listdir(base):
                if name.startswith(_PREFIX):
                    yield os.path.join(base, name)


def sweep():
    """Remove the folders of sessions that have ended."""
    for folder in _folders_of_sessions():
        lock = os.path.join(folder, "lock")
        try:
            if os.lstat(folder).st_uid != os.getuid() or not os.path.isfile(lock):
                continue
            descriptor = _locked(lock)
        except OSError:
            continue  # another session swept it first
        if descriptor is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(descriptor)


def root():
    """The session's folder; made at the first call, removed at exit."""
    global _root
    if _root is None:
        sweep()
        # Locked before it gets a name that others sweep.
        made = tempfile.mkdtemp(prefix=f"new-{_PREFIX}", dir=_base())
        _locked(os.path.join(made, "lock"))
        os.chmod(made, 0o711)  # for root, the servers' user passes through
        folder = made.replace("new-", "", 1)
        os.rename(made, folder)
        _root = folder
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return _root


def folder(prefix):
    """A new folder in the session's."""
    path = tempfile.mkdtemp(prefix=prefix, dir=root())
    os.chmod(path, 0o711)
    return path


def free_port():
    """A TCP port on 127.0.0.1 that is free, and that no other test session will choose.

    Such ports are below those that the kernel gives to clients, so that no connection takes one by
    chance before it is used.
    """
    locks = os.path.join(_DISK, f"hypervault-test-ports-{os.getuid()}")
    os.makedirs(locks, mode=0o700, exist_ok=True)
    for port in random.sample(range(10240, 32768), 1000):
        lock = _locked(os.path.join(locks, str(port)))
        if lock is None:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                os.close(lock)
                continue
        return port
    raise RuntimeError("no free TCP port")
