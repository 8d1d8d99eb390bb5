"""Support for the tests on real servers: the servers, the built command, a relay that misbehaves.

    from harness import PostgresServer, TcpRelay, hv, store_config
"""

from .bouncer import PgBouncer
from .command import Result, build_dir, hv, make_shards, program, run, sanitizers, source_dir, spawn
from .config import store_config
from .delay_relay import DelayRelay
from .relay import TcpRelay
from .server import Database, PostgresServer
from .wait import eventually

__all__ = [
    "Database",
    "DelayRelay",
    "PgBouncer",
    "PostgresServer",
    "Result",
    "TcpRelay",
    "build_dir",
    "eventually",
    "hv",
    "make_shards",
    "program",
    "run",
    "sanitizers",
    "source_dir",
    "spawn",
    "store_config",
]
