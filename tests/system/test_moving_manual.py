"""The commands of "Moving shards" in docs/operations.md, run as they stand there, while entities are put.

They are run with fewer shards than the chapter shows, unless HV_TEST_SHARDS=64 is set; with
HV_TEST_WRITE=1 as well, their output is put into the chapter.
"""

import contextlib
import json
import os
import re
import signal
import subprocess

import pytest

from harness import build_dir, eventually, hv, run, source_dir
from harness.command import clean_environment
from harness.server import binaries
from private_servers import config_of, folder, place  # noqa: F401

pytestmark = pytest.mark.plain

MANUAL = source_dir() / "docs" / "operations.md"
FEWER = {"--shards 64": "--shards 9", "hv move 63 ": "hv move 8 "}
ALL = os.environ.get("HV_TEST_SHARDS") == "64"
WRITE = ALL and os.environ.get("HV_TEST_WRITE") == "1"


def chapter():
    (found,) = (
        part
        for part in MANUAL.read_text("utf-8").split("\n## ")[1:]
        if part.startswith("Moving shards\n")
    )
    return found


def blocks():
    """The commands, and what the chapter shows after them, or None."""
    return [
        (commands, shown if shown is not None else None)
        for commands, shown in re.findall(
            r"```sh\n(.*?)```(?:\n\n```text\n(.*?)```)?", chapter(), re.S
        )
    ]


def form(output):
    """The lines without what differs from run to run and with the number of shards: each once."""
    output = re.sub(r"[\d.,-]*\d( (bytes|[kM]B|ms|s|min))?", "N", output)
    output = re.sub(r"\S*/hypervault\.conf", "FILE", output)
    output = re.sub(r"\b(one|two|three|four)\b", "SERVER", output)
    output = re.sub(r"(?<= )[+-]+N|(?<= )[+-]N| -(?= |$)", " N", output, flags=re.M)
    lines = {" ".join(line.split()) for line in output.splitlines() if line.strip()}
    return {line.replace("moves", "move").replace("shards", "shard") for line in lines}


@contextlib.contextmanager
def traffic(config):
    """A program that puts entities all the time; no error of it is allowed."""
    process = subprocess.Popen(
        [build_dir() / "cli" / "hv", "bench", "put", "--callers=4", "--rate=100", "--seconds=1000",
         "--keep", "--json"],
        env=clean_environment(config=config),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    try:
        yield
        assert process.poll() is None, process.communicate()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == -signal.SIGINT, err
    report = json.loads(out)
    assert report["failed"] == 0 and report["stored"] > 0, (report["errors"], err)


def shell(commands, folder):  # noqa: F811
    path = f"{build_dir() / 'cli'}:{binaries()}:{os.environ['PATH']}"
    env = {"HYPERVAULT_CONFIG": config_of(folder), "PATH": path}
    return run("bash", "-euc", commands, cwd=os.path.dirname(folder), env=env)


def with_shards(commands):
    for shown, fewer in FEWER.items():
        commands = commands if ALL else commands.replace(shown, fewer)
    return commands


def write(outputs):
    """Put what was printed in place of what the chapter shows."""
    text = chapter()
    for commands, output in outputs:
        at = text.index(f"```sh\n{commands}```\n\n```text\n")
        begin = text.index("```text\n", at) + len("```text\n")
        text = text[:begin] + output + text[text.index("```", begin) :]
    MANUAL.write_text(MANUAL.read_text("utf-8").replace(chapter(), text), "utf-8")


def test_the_commands_about_moving_print_what_the_manual_shows(folder):  # noqa: F811
    found = blocks()
    assert found[0][0].startswith("hv dev up --dir d --servers 3 ")
    outputs = []

    def run_blocks(those):
        for commands, shown in those:
            done = shell(with_shards(commands), folder).ok()
            out = re.sub(r"\S*/hypervault\.conf", "d/hypervault.conf", done.out)
            out = "".join(f"{line.rstrip()}\n" for line in out.splitlines())
            outputs.extend([(commands, out)] if shown is not None else [])
            if shown is not None and not WRITE:
                assert form(out) == form(shown), f"{commands}\n{done}"

    # Programs that run have to know all servers.
    first = 1 + next(n for n, (commands, _) in enumerate(found) if "--servers 4" in commands)
    # What `hv dev up` prints is not shown.
    run_blocks((commands, shown or None) for commands, shown in found[:first])
    with traffic(config_of(folder)):
        eventually(
            lambda: hv("find", "--newest", "1", config=config_of(folder)).ok().out != "",
            what="entities are put",
        )
        run_blocks(found[first:])
    assert hv("move", "--list", config=config_of(folder)).ok().err.strip().startswith("no shard")
    if WRITE:
        write(outputs)
