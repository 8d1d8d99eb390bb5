"""Shards move back and forth under callers that do everything, with the model test of entities as the
judge: what was acknowledged is there, once, every read fits, and no caller sees an error.

$HV_TEST_MOVES is the number of moves (100 for a thorough run), $HV_TEST_SEED the seed.
"""

import os
import random
import threading
import time

import pytest
import test_changes_model
from harness import make_shards
from harness.moving import (
    assert_nothing_left,
    has_shard,
    moving_servers,
    reached,
    run_move,
    shared_moving_servers,
)
from harness.config import store_config
from harness.store_tool import Reply, make_tool  # noqa: F401
from changing import content

FIXTURES = (moving_servers, shared_moving_servers)

pytestmark = [pytest.mark.threads]

MOVES = int(os.environ.get("HV_TEST_MOVES", "4"))
SEED = int(os.environ.get("HV_TEST_SEED", "1"))


class Unversioned(test_changes_model.Entity):
    """A version is the row's place in its server: it is another one after a move."""

    def take(self, operation, reply):
        fields = {name: value for name, value in reply.fields.items() if name != "version"}
        super().take(operation, Reply(fields))


class MovingRun(test_changes_model.Run):
    def __init__(self, tool, seed):
        super().__init__(tool, seed, 10**9)
        self.ended = False
        for mine in self.entities:
            for entity in mine:
                entity.__class__ = Unversioned

    def is_over(self):
        return self.ended or bool(self.wrong)

    @staticmethod
    def _with_version(chance, entity, operation):
        return operation

    @staticmethod
    def _of(database, databases, keys):
        """Those whose shards are there now."""
        shards = {shard for shard in range(1, 10) if has_shard(database, shard)}
        return [key for key in keys if (key >> 10 & 8191) in shards]


@pytest.fixture
def moving_model_store(tmp_path, moving_servers):
    one, two = moving_servers
    path = store_config(
        tmp_path / "model.conf",
        {"one": (reached(one), "1-5"), "two": (reached(two), "5-9")},
        operation_timeout="60s",
        pool_block_timeout="30s",
        pool_max=6,
    )
    make_shards(path, one, two)
    return path


class Finder:
    """Counts everything and finds the newest, all the time: each is a question about all shards."""

    def __init__(self, thread, model):
        self.thread, self.model, self.asked = thread, model, 0
        self._runner = threading.Thread(target=self._run)
        self._runner.start()

    def _run(self):
        try:
            while not self.model.is_over():
                self.thread.count({}).ok()
                self.asked += 1
                time.sleep(0.01)
        except BaseException as error:
            self.model.wrong.append(error)

    def join(self):
        self._runner.join()


def test_shards_move_back_and_forth_under_callers(make_tool, moving_model_store, moving_servers):
    chance = random.Random(SEED)
    one, two = moving_servers
    tool = make_tool(moving_model_store)
    model = MovingRun(tool, SEED)
    (thread,) = tool.threads("finder")
    pauses = []
    with model:
        finder = Finder(thread, model)
        try:
            for number in range(MOVES):
                shard = chance.choice((1, 2, 4, 5, 7, 8))
                target = 1 if has_shard(one, shard) else 0
                keep = {"keep_undo": "1h"} if number % 3 == 2 else {}
                moved = run_move(moving_model_store, "move", shard, target, **keep).ok()
                pauses.append(moved.pause_ms)
                if keep:
                    run_move(moving_model_store, "undo", shard).ok("done")
                assert not model.wrong
        finally:
            model.ended = True
        finder.join()
    unexpected = set(model.statuses) - {
        "HV_OK", "HV_NOT_FOUND", "HV_CHANGED", "HV_CONFLICT", "HV_REFUSED", "HV_INVALID"
    }
    print(f"{model.done} operations, {finder.asked} counts, pauses {pauses}, {model.statuses}")
    assert not unexpected, model.statuses
    assert model.done > 100 and finder.asked > 0
    model.check((one, two))
    assert_nothing_left(one, two)
