"""Puts over connections that are cut at any byte and servers that go down: with the option
exactly_once there is one entity for each put; without it, nothing is told that may be wrong."""

import collections
import contextlib
import itertools
import threading
import time

import pytest

from harness import eventually, hv, store_config
from harness.store_tool import make_tool, step  # noqa: F401

pytestmark = pytest.mark.threads

DIRECTIONS = ("to_server", "to_client")


@pytest.fixture
def one(make_server):
    """A server of the test's own, by TCP: its database."""
    return make_server("one", tcp=True).create_database("test")


@pytest.fixture
def relayed(one, relay, tmp_path):
    """A function that makes a store of one server behind a relay: its path, and the relay."""

    def make(shards="3", **options):
        between = relay(one.server)
        servers = {"one": (between.params(one.dbname), shards)}
        path = store_config(tmp_path / "relayed.conf", servers, **options)
        hv("init", config=path).ok()
        return path, between

    return make


@pytest.fixture
def stored(one):
    """A function that says which keys have the entities that were put as {"n": number}."""
    with one.connect(application_name="test harness") as connection, connection.cursor() as cursor:

        def keys(number, shard=3):
            cursor.execute(
                f"SELECT id FROM shard{shard:04}.entities WHERE body -> 'n' = %s", [str(number)]
            )
            return [row[0] for row in cursor.fetchall()]

        yield keys


def keys_by_number(database, shards):
    """{"n" of each entity: [its keys]}"""
    found = collections.defaultdict(list)
    for shard in shards:
        for number, key in database.query(f"SELECT body -> 'n', id FROM shard{shard:04}.entities"):
            found[int(number)].append(key)
    return found


# ---- cut at any byte ----


class Sweep:
    """An operation, done over a connection that is cut at one place after the other.

    operation   does it, with the number of the turn
    prepare     brings the connection into the state in which it is to be cut
    """

    def __init__(self, between, operation, prepare):
        self.between = between
        self.operation = operation
        self.prepare = prepare
        self.numbers = itertools.count(1)
        prepare()
        before = dict(between.bytes)
        operation(next(self.numbers)).ok()
        self.lengths = {way: between.bytes[way] - before[way] for way in DIRECTIONS}

    def __iter__(self):
        """For each place: direction, bytes let through, number of the turn, reply."""
        for direction in DIRECTIONS:
            for count in range(1, self.lengths[direction] + 1):
                self.prepare()
                number = next(self.numbers)
                yield direction, count, number, self.cut(direction, count, number)

    def cut(self, direction, count, number):
        before = self.between.connections
        self.between.cut_in(direction, count)
        reply = self.operation(number)
        eventually(lambda: self.between.open == self.between.connections - before)
        return reply

    def is_whole(self, direction, count):
        """Was the answer complete? Then it does not matter that the connection ended."""
        return direction == "to_client" and count == self.lengths["to_client"]

    def is_told(self, direction, count):
        """Had the server got the whole request?"""
        return direction == "to_client" or count == self.lengths["to_server"]


def test_a_put_that_is_cut_anywhere_is_told_as_it_is(make_tool, relayed, stored):
    config, between = relayed()
    ann = make_tool(config).main
    sweep = Sweep(
        between, lambda number: ann.put(3, 1, {"n": str(number)}), lambda: ann.put(3, 2, {}).ok()
    )
    for direction, count, number, reply in sweep:
        where = f"{direction} {count} of {sweep.lengths}"
        if sweep.is_whole(direction, count):
            assert stored(number) == [reply.ok().key]
        else:
            assert reply.status == "HV_OUTCOME_UNKNOWN", where
            if direction == "to_client":
                eventually(lambda: len(stored(number)) == 1, what=where)
            elif not sweep.is_told(direction, count):
                assert stored(number) == [], where


def test_exactly_once_a_put_that_is_cut_anywhere_is_stored_once(make_tool, relayed, stored):
    config, between = relayed(exactly_once="on")
    ann = make_tool(config).main
    sweep = Sweep(
        between, lambda number: ann.put(3, 1, {"n": str(number)}), lambda: ann.put(3, 2, {}).ok()
    )
    for direction, count, number, reply in sweep:
        assert stored(number) == [reply.ok().key], f"{direction} {count} of {sweep.lengths}"


def test_exactly_once_a_shards_first_put_that_is_cut_anywhere_is_stored_once(
    make_tool, relayed, stored
):
    """It reserves its key, and nothing is prepared: two exchanges, and longer ones."""
    config, between = relayed("0-1000", exactly_once="on")
    ann = make_tool(config).main

    def connect():
        ann.acquire(0).ok()
        ann.release().ok()

    # The number of the turn is the shard, so every put is its shard's first.
    sweep = Sweep(between, lambda number: ann.put(number, 1, {"n": str(number)}), connect)
    for direction, count, number, reply in sweep:
        where = f"{direction} {count} of {sweep.lengths}"
        assert stored(number, shard=number) == [reply.ok().key], where


def test_a_keyed_put_that_is_cut_anywhere_may_be_repeated(make_tool, relayed, stored):
    config, between = relayed()
    ann = make_tool(config).main
    keys = ann.reserve(3, 1000).ok().keys
    sweep = Sweep(
        between,
        lambda number: ann.put_key(keys[number], 1, {"n": str(number)}),
        lambda: ann.put_key(keys[0], 2, {}).ok(),
    )
    for direction, count, number, reply in sweep:
        where = f"{direction} {count} of {sweep.lengths}"
        if sweep.is_whole(direction, count):
            reply.ok()
        else:
            assert reply.status == "HV_OUTCOME_UNKNOWN", where
        ann.put_key(keys[number], 1, {"n": str(number)}).ok()
        assert stored(number) == [keys[number]], where


def test_a_reservation_that_is_cut_anywhere_is_repeated_unseen(make_tool, relayed):
    config, between = relayed()
    ann = make_tool(config).main
    sweep = Sweep(between, lambda number: ann.reserve(3, 2), lambda: ann.reserve(3, 1).ok())
    seen = set()
    for direction, count, _, reply in sweep:
        keys = reply.ok().keys
        assert len(keys) == 2 and seen.isdisjoint(keys), f"{direction} {count} of {sweep.lengths}"
        seen.update(keys)


LONG = {"text": "x" * 16_000_000}


def test_a_put_that_is_cut_before_all_of_it_was_sent_is_not_unknown_and_is_repeated(
    make_tool, relayed, one
):
    """It is too long for the sockets' buffers: the client has more to send when it is cut."""
    config, between = relayed()
    tool = make_tool(config)
    for turn in range(1, 6):
        tool.main.put(3, 2, {}).ok()
        between.cut_in("to_server", turn * 1_000_000)
        tool.main.put(3, 1, LONG).ok()
        assert tool.stats().opened == 1 + turn
        assert one.value("SELECT count(*) FROM shard0003.entities WHERE type = 1") == turn
    between.cut_in("to_server", 1_000_000)
    between.refuse()
    tool.main.put(3, 1, LONG).gives("HV_UNAVAILABLE")
    assert one.value("SELECT count(*) FROM shard0003.entities WHERE type = 1") == turn
