#!/usr/bin/python3
"""Does every header compile alone? hypervault.h also as C++, and without compiler extensions. Do the
examples compile as C and as C++?

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
EXAMPLE = (("gcc", "-x", "c", "-std=gnu11", "-Wpedantic"), PUBLIC[1])
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
    examples = checking.files(root / "examples", ".c") if (root / "examples").is_dir() else []

    def compile(source, path, compilers):
        for compiler in compilers:
            folders = [f"-I{root / name}" for name in ("include", "src", "cli")]
            command = [*compiler, *WARN, *folders, *flags, str(source)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                output = done.stderr.replace(f"{root}/", "")
                name = path.relative_to(root)
                found.append(f"{name}: does not compile alone with {compiler[0]}:\n{output}")

    with tempfile.TemporaryDirectory() as folder:
        source = pathlib.Path(folder) / "alone"
        for header in headers:
            source.write_text(f'#include "{header}"\n', encoding="utf-8")
            compile(source, header, PUBLIC if header.parent.name == "include" else INTERNAL)
    for example in examples:
        compile(example, example, EXAMPLE)
    return found


if __name__ == "__main__":
    checking.report(problems(checking.ROOT, sys.argv[1:]))
