"""Operations over a connection that is cut at one byte after the other."""

import itertools

import pytest

from harness import eventually, make_shards, store_config

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
        make_shards(path, one)
        eventually(lambda: between.open == 0)  # hv has ended, but the relay may not have noticed yet
        return path, between

    return make


class Sweep:
    """An operation, done over a connection that is cut at one place after the other.

    operation   does it, with the number of the turn
    prepare     brings the connection into the state in which it is to be cut
    step        from one place to the next, in bytes
    outcome     its status where nothing is cut
    """

    def __init__(self, between, operation, prepare, step=1, outcome="HV_OK"):
        self.between = between
        self.operation = operation
        self.prepare = prepare
        self.step = step
        self.outcome = outcome
        self.numbers = itertools.count(1)
        measured = [self._measure() for _ in range(3)]
        # The shortest: where a second passed before it, a put has to reserve its key first.
        self.lengths = {way: min(lengths[way] for lengths in measured) for way in DIRECTIONS}

    def _measure(self):
        self.prepare()
        before = dict(self.between.bytes)
        self.operation(next(self.numbers)).gives(self.outcome)
        return {way: self.between.bytes[way] - before[way] for way in DIRECTIONS}

    def __iter__(self):
        """For each place: direction, bytes let through, number of the turn, reply."""
        for direction in DIRECTIONS:
            for count in range(1, self.lengths[direction] + 1, self.step):
                self.prepare()
                number = next(self.numbers)
                yield direction, count, number, self.cut(direction, count, number)

    def cut(self, direction, count, number):
        before = self.between.connections
        self.between.cut_in(direction, count)
        reply = self.operation(number)
        eventually(
            lambda: self.between.open == self.between.connections - before, interval=0.001
        )
        return reply

    def is_whole(self, direction, count):
        """Was the answer complete? Then it does not matter that the connection ended."""
        return direction == "to_client" and count == self.lengths["to_client"]

    def is_sent_whole(self, direction, count):
        """Had the server got the whole request?"""
        return direction == "to_client" or count == self.lengths["to_server"]
