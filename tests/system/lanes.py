"""Keeping a store's only lane, so that all operations that come meanwhile wait in one batch."""

import contextlib

from harness import eventually

HELD_SHARD = 1  # what keeps the lane puts here


@contextlib.contextmanager
def lane_kept(tool):
    """An operation that is done but for its log callback keeps the only lane. Needs a log."""
    tool.main.put(HELD_SHARD, 0, {}).ok()  # there is a connection: opening one has a log too
    tool.main.hold("log", True)
    holder = tool.threads("holder")[0].begin.put(HELD_SHARD, 0, {})
    eventually(lambda: tool.main.hold("log", True).waiting == 1)
    try:
        yield
    finally:
        tool.threads("letting_go")[0].hold("log", False)
    holder.reply().ok()
