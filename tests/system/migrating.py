"""For the tests of migrations: directories of files, the tool that runs them, and what the shards
have afterwards."""

import hashlib
import json
import subprocess

from harness import program, spawn

LEDGER = "hypervault_migrations"


class Files:
    """A directory of migrations."""

    def __init__(self, path):
        self.path = path
        path.mkdir(exist_ok=True)

    def write(self, name, text):
        data = text if isinstance(text, bytes) else text.encode("utf-8")
        (self.path / name).write_bytes(data)
        return self

    def digest(self, name):
        return hashlib.sha256((self.path / name).read_bytes()).hexdigest()

    def remove(self, name):
        (self.path / name).unlink()


class Outcome:
    """The lines of the tool: its events and its outcome."""

    def __init__(self, text):
        *events, last = [json.loads(line) for line in text.splitlines()]
        self.events = events
        self.__dict__.update(last)
        self.last = last

    def __repr__(self):
        return json.dumps(self.last, indent=1)

    def works(self):
        """How many shards are in each state."""
        count = {}
        for entry in self.summary:
            count[entry["work"]] = count.get(entry["work"], 0) + 1
        return count

    def ok(self):
        assert self.status == "HV_OK", self
        return self

    def failed(self):
        """The errors of the shards that have failed, by shard."""
        return {e["shard"]: e["error"] for e in self.summary if e["work"] == "failed"}


def arguments(config, command, files, options):
    path = files.path if isinstance(files, Files) else files
    return [config, command, path, *(f"{name}={value}" for name, value in options.items())]


def migrate(config, files, **options):
    return Outcome(program("migrate_tool", *arguments(config, "migrate", files, options)).ok().out)


def status(config, files, **options):
    return Outcome(program("migrate_tool", *arguments(config, "status", files, options)).ok().out)


def plan(config, files, **options):
    return Outcome(program("migrate_tool", *arguments(config, "plan", files, options)).ok().out)


def begin(config, files, **options):
    """Start migrate, and return the process."""
    options = {"events": 1, **options}
    return spawn("migrate_tool", *arguments(config, "migrate", files, options))


def outcome_of(process):
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, (process.returncode, err)
    return Outcome(out.decode("utf-8"))


def crash(config, files, event):
    """Run it up to this event, and kill it there. False if it had ended before."""
    done = program("migrate_tool", *arguments(config, "migrate", files, {"crash": event}))
    assert done.code in (0, -9), done
    return done.code == -9


def kill(process):
    process.kill()
    try:
        process.communicate(timeout=60)
    except subprocess.TimeoutExpired:  # pragma: no cover
        raise AssertionError("it does not end") from None


def states(config, files):
    """For each shard the states of its files."""
    found = status(config, files).ok()
    return {s["shard"]: [state for state, _ in s["files"]] for s in found.shards}


def ledger(database, shard):
    """The rows of a shard's ledger: id → (name, digest, finished, done, begun)."""
    rows = database.query(
        f"SELECT id, name, digest, finished, done, begun FROM shard{shard:04}.{LEDGER}"
    )
    return {row[0]: tuple(row[1:]) for row in rows}
