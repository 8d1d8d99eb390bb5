"""A store in another process, with threads that do what a test says, one step at a time.

    tool = StoreTool(config, pool_max=1)
    ann, bob = tool.threads("ann", "bob")
    ann.acquire(3).ok()
    waiting = bob.begin.acquire(3)          # does not wait for the answer
    eventually(lambda: tool.stats().waiting == 1)
    ann.release().ok()
    waiting.reply().ok()

The other half is tests/system/store_tool.c. Commands and their parameters are those of COMMANDS.
"""

import contextlib
import itertools
import json
import pathlib
import subprocess
import threading

import pytest

from . import command
from .command import make_shards
from .config import store_config
from .wait import eventually

COMMANDS = {
    "acquire": ("shard", "server", "conn"),
    "change_many": ("operations",),
    "change_stream": ("operations",),
    "close": ("timeout",),
    "close_trace": (),
    "connector": (),
    "delete": ("key", "condition", "blind"),
    "discard": ("conn",),
    "disconnect": (),
    "enter_pipeline": ("conn",),
    "fill": ("conn",),
    "fork": ("commands", "exit"),
    "exists": ("key",),
    "exists_many": ("keys",),
    "exists_stream": ("keys",),
    "get": ("key",),
    "get_many": ("keys",),
    "get_only": ("key", "names"),
    "get_only_many": ("keys", "names"),
    "hold": ("what", "on"),
    "increment": ("key", "attribute", "amount", "condition", "blind"),
    "interrupt": ("target", "quietly"),
    "meet": ("name", "count"),
    "merge": ("key", "dict", "remove", "condition", "blind"),
    "notifications": ("conn",),
    "open": ("config", "options", "log", "connector", "interrupts"),
    "put": ("shard", "kind", "dict"),
    "put_key": ("key", "kind", "dict"),
    "put_many": ("operations",),
    "queue_add": ("operations",),
    "queue_advance": ("timeout", "all"),
    "queue_free": (),
    "queue_new": (),
    "queue_poll": ("timeout",),
    "reinstantiate": (),
    "stop": (),
    "release": ("conn",),
    "release_foreign": ("conninfo",),
    "replace": ("key", "kind", "dict", "condition", "blind"),
    "reserve": ("shard", "count"),
    "send": ("sql", "conn"),
    "shard_of": ("hex",),
    "sql": ("sql", "conn"),
