"""Shared by the benchmarks: medians with their range, tables, and the conditions of a run.

Importing it makes the tests' harness (tests/system/harness) importable too.
"""

import os
import pathlib
import platform
import re
import statistics
import sys
import textwrap

ROOT = pathlib.Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench" / "results"

sys.path.insert(0, str(ROOT / "tests" / "system"))
sys.dont_write_bytecode = True

median = statistics.median


def spread(values, form):
    """The median with the range: "5.1 (4.9–5.6)"."""
    values = sorted(values)
    low, middle, high = (form.format(each) for each in (values[0], median(values), values[-1]))
    return f"{middle} ({low}–{high})" if low != high else middle


def table(heads, rows):
    """A table of Markdown. The first column is text, the others are numbers."""
    lines = [heads, ["---"] + ["--:"] * (len(heads) - 1), *rows]
    return "".join(f"| {' | '.join(line)} |\n".replace("|  |", "| |") for line in lines)


def _processor():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        match = re.search(r"^model name\s*: (.*)$", file.read(), re.MULTILINE)
    return match.group(1) if match else platform.machine()


def conditions(server):
    """A line on the machine and the server, for the head of a result."""
    names = ("fsync", "synchronous_commit", "shared_buffers")
    settings = ", ".join(f"{name} {server.value(f'SHOW {name}')}" for name in names)
    version = server.value("SHOW server_version").split()[0]
    cores = len(os.sched_getaffinity(0))
    busy = os.getloadavg()[0]
    linux = platform.release().split("-")[0]
    return (
        f"PostgreSQL {version} ({settings}), {cores} cores ({_processor()}), Linux {linux}, load"
        f" average at the end {busy:.1f}."
    )


def paragraph(*sentences):
    """Sentences, wrapped."""
    return textwrap.fill(" ".join(sentences), 100, break_long_words=False, break_on_hyphens=False)


def write(path, text):
    """Write a result, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".new")
    unfinished.write_text(text, encoding="utf-8")
    os.replace(unfinished, path)
