#!/usr/bin/python3
"""Are the types of the Python package right, and do its stubs match its module in C?

usage: check_types.py [FOLDER]
FOLDER holds the built package; without it only the sources are checked.
"""

import importlib.util
import os
import subprocess
import sys
import tempfile

import checking

NEEDED = ("mypy", "psycopg2-stubs")


def output_of(*command, **env):
    """The output of one of mypy's programs: nothing if all is well."""
    done = subprocess.run(
        [sys.executable, "-m", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **env},
        check=False,
    )
    return done.stdout.splitlines() if done.returncode != 0 else []


def problems(root, folder=None):
    settings = str(root / "pyproject.toml")
    with tempfile.TemporaryDirectory() as cache:
        command = ["mypy", f"--config-file={settings}", f"--cache-dir={cache}", "--no-pretty"]
        found = output_of(*command, "--no-error-summary", str(root / "python" / "hv"))
    if folder and not found:
        command = ["mypy.stubtest", f"--mypy-config-file={settings}", "--concise", "hv._hv"]
        found = output_of(*command, MYPYPATH=str(folder), PYTHONPATH=str(folder))
    return [line.replace(f"{root}/", "") for line in found]


if __name__ == "__main__":
    for name in NEEDED:
        if importlib.util.find_spec(name) is None:
            checking.skip(f"{name} is not installed")
    checking.report(problems(checking.ROOT, *sys.argv[1:]))
