"""Threads that put all the time while a test does something to their servers."""

import collections
import itertools
import threading

from harness import eventually


def keys_by_number(database, shards):
    """{"n" of each entity: [its keys]}"""
    found = collections.defaultdict(list)
    for shard in shards:
        for number, key in database.query(f"SELECT body -> 'n', id FROM shard{shard:04}.entities"):
            found[int(number)].append(key)
    return found


class Traffic:
    """Threads of a tool that put {"n": number} one after the other, in a `with`."""

    def __init__(self, tool, shards, threads):
        self.shards = shards
        self.numbers = itertools.count(1)
        self.replies = {}  # by number
        self.ending = threading.Event()
        self.threads = [
            threading.Thread(target=self._work, args=(thread, shards[i % len(shards)]))
            for i, thread in enumerate(tool.threads(*(f"traffic{i}" for i in range(threads))))
        ]

    def _work(self, thread, shard):
        while not self.ending.is_set():
            number = next(self.numbers)
            self.replies[number] = thread.put(shard, 1, {"n": str(number)})

    def flows(self, count=50):
        """Wait until this many more puts are done."""
        goal = len(self.replies) + count
        eventually(lambda: len(self.replies) >= goal, timeout=60, what="puts are done")

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        self.flows()
        return self

    def __exit__(self, *_):
        self.ending.set()
        for thread in self.threads:
            thread.join()

    def check(self, database):
        """Each put succeeded, and there is one entity for each, with its key."""
        for reply in self.replies.values():
            reply.ok()
        found = keys_by_number(database, self.shards)
        assert found == {number: [reply.key] for number, reply in self.replies.items()}

    def slowest(self):
        """The longest time of a put, in milliseconds."""
        return max(reply.ms for reply in self.replies.values())
