"""Runs the built programs: the command hv, and the C programs of the tests and examples."""

import json
import os
import pathlib
import subprocess

from . import scratch
from .wait import eventually

_SANITIZERS = ("ASAN_OPTIONS", "LSAN_OPTIONS", "TSAN_OPTIONS", "UBSAN_OPTIONS")
TIMEOUT = 400  # seconds: far longer than any command takes


def source_dir():
    """The root of the source tree."""
    return pathlib.Path(__file__).resolve().parents[3]


def build_dir():
    """The build folder: $HV_BUILD, or build/ in the source tree."""
    return pathlib.Path(os.environ.get("HV_BUILD", source_dir() / "build")).resolve()


def sanitizers():
    """The names of the sanitizers that the build has: {"address", "undefined"}, for example."""
    options = (build_dir() / "meson-info" / "intro-buildoptions.json").read_text("utf-8")
    (value,) = (each["value"] for each in json.loads(options) if each["name"] == "b_sanitize")
    return set() if value == "none" else set(value.split(","))


def _sanitizer_reports():
    """The folder into which programs built with a sanitizer write their findings."""
    folder = pathlib.Path(scratch.root(), "sanitizers")
    folder.mkdir(exist_ok=True)
    return folder


def take_sanitizer_reports():
    """The text of all reports since the last call; empty if all is well."""
    texts = []
    for path in sorted(_sanitizer_reports().iterdir()):
        texts.append(path.read_text(encoding="utf-8", errors="replace"))
        path.unlink()
    return "\n".join(texts)


def clean_environment(env=None, config=None):
    """A clean environment, without the caller's PG… and HYPERVAULT_… variables."""
    home = os.path.join(scratch.root(), "home")
    os.makedirs(home, exist_ok=True)
    clean = {"PATH": os.environ["PATH"]}
    for name in _SANITIZERS:
        clean[name] = f"{os.environ.get(name, '')}:log_path={_sanitizer_reports()}/report"
    clean.update(HOME=home, LC_ALL="C.UTF-8", TZ="America/St_Johns", TERM="dumb")
    if config is not None:
        clean["HYPERVAULT_CONFIG"] = str(config)
    clean.update(env or {})
    return {name: value for name, value in clean.items() if value is not None}


class Result:
    """A command's output and exit status."""

    def __init__(self, args, code, out, err):
        self.args = args
        self.code = code
        self.out_bytes = out
        self.err_bytes = err

    @property
    def out(self):
        return self.out_bytes.decode("utf-8")

    @property
    def err(self):
        return self.err_bytes.decode("utf-8", "replace")

    @property
    def lines(self):
        return self.out.splitlines()

    def json(self):
        """The output as one JSON value."""
        return json.loads(self.out_bytes)

    def ndjson(self):
        """The output as a list of JSON values, one for each line."""
        return [json.loads(line) for line in self.out_bytes.splitlines()]

    def ok(self):
        """Return the result itself if the command ended with 0; otherwise fail with its output."""
        assert self.code == 0, str(self)
        return self

    def __repr__(self):
        command = " ".join(map(str, self.args))
        out = self.out_bytes.decode("utf-8", "replace")
        return f"$ {command}\n{out[-4000:]}{self.err[-4000:]}[ended with {self.code}]"


def _path(program):
    path = build_dir() / program
    assert path.exists(), f"{path} is not built: run dev/build, or set HV_BUILD"
    return str(path)


def run(path, *args, config=None, input=None, env=None, cwd=None, timeout=TIMEOUT):
    """Run a program and return a Result. `input` is text or bytes; without it stdin is empty."""
    if isinstance(input, str):
        input = input.encode("utf-8")
    command = [str(path), *map(str, args)]
    done = subprocess.run(
        command,
        input=input if input is not None else b"",
        capture_output=True,
        env=clean_environment(config=config, env=env),
        cwd=cwd or scratch.root(),
        timeout=timeout,
        check=False,
    )
    return Result(command, done.returncode, done.stdout, done.stderr)


def hv(*args, **how):
    """Run the command hv, as run() does: hv("put", "5", config=path).ok().out"""
    return run(_path("cli/hv"), *args, **how)


def program(name, *args, **how):
    """Run a C program, as run() does: by its path below the build folder, or by its name if it is
    one of tests/system."""
    return run(_path(name if "/" in name else f"tests/system/{name}"), *args, **how)


def spawn(path, *args, config=None, env=None, cwd=None, **popen):
    """Start a program and return the Popen, with pipes for all three streams unless other ones are
    given. `path` is "hv" or what program() takes. The program ends with the thread that started it.
    """
    path = _path("cli/hv" if path == "hv" else path if "/" in path else f"tests/system/{path}")
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", "--", path, *map(str, args)],
        env=clean_environment(config=config, env=env),
        cwd=cwd or scratch.root(),
        **{**streams, **popen},
    )


def make_shards(config, *databases, env=None):
    """`hv init`, then wait until its connections to these databases are gone, so that all later
    ones belong to the test."""
    hv("init", config=config, env=env).ok()
    for database in databases:
        eventually(lambda: database.clients() == [], what="hv init is gone")
