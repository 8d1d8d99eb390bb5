#!/usr/bin/python3
"""Does every header compile alone? hypervault.h also as C++, and without compiler extensions.

Those of the Python package are left out where Python's development files are missing.

usage: check_headers.py INCLUDE_FLAG…
"""

import pathlib
import subprocess
import sys
import sysconfig
import tempfile

import checking

WARN = ("-fsyntax-only", "-Wall", "-Wextra", "-Werror")
PUBLIC = (
    ("gcc", "-x", "c", "-std=c11", "-Wpedantic"),
    ("g++", "-x", "c++", "-std=c++11", "-Wpedantic"),
)
INTERNAL = (("gcc", "-x", "c", "-std=c11", "-D_GNU_SOURCE"),)
PYTHON = pathlib.Path(sysconfig.get_path("include"))


def problems(root, flags):
    found = []
    headers = checking.files(root / "include", ".h")
    folders = ["src", "cli"]
    if (PYTHON / "Python.h").exists():
        folders.append("python")
        flags = [*flags, "-isystem", str(PYTHON)]
    for folder in folders:
        if (root / folder).is_dir():
            headers += checking.files(root / folder, ".h")
    with tempfile.TemporaryDirectory() as folder:
        source = pathlib.Path(folder) / "alone"
        for header in headers:
            source.write_text(f'#include "{header}"\n', encoding="utf-8")
            public = header.parent.name == "include"
            for compiler in PUBLIC if public else INTERNAL:
                command = [*compiler, *WARN, f"-I{root / 'include'}", *flags, str(source)]
                done = subprocess.run(command, capture_output=True, text=True, check=False)
                if done.returncode != 0:
                    told = done.stderr.replace(f"{root}/", "")
                    name = header.relative_to(root)
                    found.append(f"{name}: does not compile alone with {compiler[0]}:\n{told}")
    return found


if __name__ == "__main__":
    checking.report(problems(checking.ROOT, sys.argv[1:]))
