"""For the tests of indexes and of drift: index_tool, and tables with something in them."""

import json
from collections import Counter

from harness import program, spawn


class Outcome:
    """What index_tool has printed."""

    def __init__(self, lines):
        *self.events, self.last = [json.loads(line) for line in lines]
        self.status = self.last["status"]
        self.error = self.last["error"]

    def __repr__(self):
        return json.dumps(self.last, ensure_ascii=False)[:4000]

    @property
    def works(self):
        """{state: how many shards}"""
        return dict(Counter(one["work"] for one in self.last["summary"]))

    def failures(self):
        """{shard: error}"""
        return {one["shard"]: one["error"] for one in self.last["summary"] if one["error"]}

    def shards(self, work):
        return [one["shard"] for one in self.last["summary"] if one["work"] == work]

    def ok(self):
        assert self.status == "HV_OK", self
        return self

    def fails(self, status):
        assert self.status == status, self
        return self.error


def arguments(config, command, words, options):
    return [config, command, *words, *(f"{name}={value}" for name, value in options.items())]


def index_tool(config, command, *words, **options):
    """Run it: index_tool(config, "create", "attribute=user", kind=2, shards="1-5")"""
    result = program("index_tool", *arguments(config, command, words, options))
    return Outcome(result.ok().lines)


def start_tool(config, command, *words, **options):
    """The same, as a process."""
    return spawn("index_tool", *arguments(config, command, words, options))


def finish_tool(process):
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err.decode()
    return Outcome(out.decode().splitlines())


def indexes(config, **options):
    """{name: what index_tool says of it}"""
    found = index_tool(config, "list", **options).ok().last["indexes"]
    return {one["name"]: one for one in found}


def groups(config, **options):
    """The groups of shards that are alike, the largest first."""
    checked = index_tool(config, "check", **options).ok().last
    assert checked["failures"] == []
    return checked["groups"]


def fill(database, shards, count, first=1):
    """So many entities in each shard, of three kinds, two with each user."""
    for shard in shards:
        database.sql(
            f"INSERT INTO shard{shard:04}.entities (id, type, body) SELECT"
            f" number << 23 | {shard << 10}, number % 3,"
            " hstore(ARRAY['n', number::text, 'user', (number / 2)::text])"
            f" FROM generate_series({first}::bigint, {first + count - 1}) number"
        )
