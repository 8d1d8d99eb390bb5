"""What the system tests stand on: PostgreSQL servers, the built command, a relay that misbehaves.

    from harness import PostgresServer, TcpRelay, hv, store_config
"""

from .command import Result, build_dir, hv, program, run, source_dir, spawn
from .config import store_config
from .relay import TcpRelay
from .server import Database, PostgresServer
from .wait import eventually

__all__ = [
    "Database",
    "PostgresServer",
    "Result",
    "TcpRelay",
    "build_dir",
    "eventually",
    "hv",
    "program",
    "run",
    "source_dir",
    "spawn",
    "store_config",
]
