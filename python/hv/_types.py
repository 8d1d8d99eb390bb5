"""psycopg2's types on SQL and values that do not pass through a cursor: for each_shard()."""

from __future__ import annotations

import contextlib
import re
import weakref
from typing import Any, Iterable, Mapping, Sequence

import psycopg2
from psycopg2 import extensions
from psycopg2.sql import Composable

from . import _hv
from ._cursor import FIRST_OID, register_types


class Types:
    """Any thread may call its methods."""

    def __init__(self, store: weakref.ref[_hv.Store]) -> None:
        self._store = store
        # For each server a cursor of a connection that is closed, so that nobody else changes its
        # encoding or its types. It can cast values, and no more.
        self._casters: dict[str, Any] = {}

    # ---- values ----

    def learn(self, servers: Iterable[str]) -> None:
        """Learn the types of servers while no work has their connections. One that cannot be reached
        is left out: what is to be done there will say so."""
        for server in servers:
            if server not in self._casters:
                with contextlib.suppress(_hv.DatastoreError):
                    self._casters[server] = self._make(server, set())

    def caster(self, server: str, oids: Sequence[int]) -> Any:
        """An object whose cast(oid, bytes) makes a value from the server, or None where there are
        no columns."""
        caster = self._casters.get(server)
        if not oids:
            return None
        known = frozenset() if caster is None else caster.connection._hv_types
        unknown = {oid for oid in oids if oid >= FIRST_OID and oid not in known}
        if caster is None or unknown:  # a type was recreated, or the server was away before
            try:
                caster = self._casters[server] = self._make(server, unknown)
            except _hv.DatastoreError:
                if caster is None:
                    raise
        return caster

    def _make(self, server: str, unknown: set[int]) -> Any:
        store = self._store()
        assert store is not None  # it is the caller's
        conn: Any = store.get_connection_server(server)
        try:
            if unknown:
                with contextlib.suppress(psycopg2.Error):
                    register_types(conn)
                conn._hv_types = conn._hv_types.union(unknown)  # they are looked up only once
            return conn.cursor(cursor_factory=extensions.cursor)
        finally:
            conn.close()

    # ---- statements ----

    def statement(self, sql: Any, args: Any, skip: Any) -> str:
        """The SQL with its arguments as literals."""
        if args is None and isinstance(sql, str):
            return sql
        if not isinstance(sql, (str, bytes, Composable)):
            raise TypeError(f"sql must be str, bytes or Composable, not {type(sql).__name__}")
        if isinstance(args, (str, bytes)) or not isinstance(args, (Mapping, Sequence, type(None))):
            raise TypeError(f"args must be a sequence or a mapping, not {type(args).__name__}")
        store = self._store()
        assert store is not None
        conn = self._borrow(store, {skip} if isinstance(skip, str) else set(skip or ()))
        try:
            with conn.cursor(cursor_factory=extensions.cursor) as cursor:
                text: bytes = cursor.mogrify(sql, _literals(args))
                return text.decode("utf-8")
        finally:
            store.put_connection(conn)

    def _borrow(self, store: _hv.Store, skipped: set[Any]) -> Any:
        """A connection to any server that is not to be left out, for its encoding."""
        servers = [name for name in store.servers if name not in skipped] or store.servers
        for server in servers[:-1]:
            with contextlib.suppress(_hv.ConnectionError):
                return store.get_connection_server(server)
        return store.get_connection_server(servers[-1])


class _Literal:
    """A value whose text keeps "@shard", which the library would replace in a literal too."""

    _LITERAL = re.compile(rb"[eE]?'(?:[^']|'')*'")

    def __init__(self, value: Any) -> None:
        self._adapted: Any = extensions.adapt(value)

    def __conform__(self, protocol: Any) -> _Literal | None:
        return self if protocol is extensions.ISQLQuote else None

    def prepare(self, conn: Any) -> None:
        if hasattr(self._adapted, "prepare"):
            self._adapted.prepare(conn)

    def getquoted(self) -> bytes:
        quoted: Any = self._adapted.getquoted()
        quoted = quoted if isinstance(quoted, bytes) else quoted.encode("utf-8")
        return self._LITERAL.sub(self._escape, quoted)

    @staticmethod
    def _escape(found: re.Match[bytes]) -> bytes:
        text = found.group()
        if b"@shard" not in text:
            return text
        if text[:1] == b"'":
            text = b"E" + text.replace(b"\\", b"\\\\")
        return text.replace(b"@shard", rb"\x40shard")


def _literals(args: Any) -> Any:
    if args is None:
        return None
    if isinstance(args, Mapping):
        return {name: _literal(value) for name, value in args.items()}
    return tuple(_literal(value) for value in args)


def _literal(value: Any) -> Any:
    return value if isinstance(value, extensions.AsIs) else _Literal(value)
