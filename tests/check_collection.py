#!/usr/bin/python3
"""Are the system tests and their names the same in each process that collects them?

pytest's workers collect for themselves, and run nothing at all if they differ. A name with an
object's address, and parameters from a set, differ now and then only.
"""

import itertools
import os
import subprocess
import sys

import checking


def names(folder, environment):
    """The tests that a process with this in its environment collects, in its order."""
    done = subprocess.run(
        [sys.executable, "-B", "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        checking.report([f"tests cannot be collected: {done.stdout}{done.stderr}"])
    return [line for line in done.stdout.splitlines() if "::" in line]


def problems(folder, build):
    one, other = (
        names(folder, {"HV_BUILD": str(build), "PYTHONHASHSEED": seed}) for seed in ("1", "2")
    )
    pairs = itertools.zip_longest(one, other)
    return [f"collected as {first} and as {second}" for first, second in pairs if first != second]


if __name__ == "__main__":
    checking.report(problems(checking.ROOT / "tests", sys.argv[1]))
