"""Cursors that recognise hstore, whatever OID it has.

psycopg2 knows a type by the OID that it had when the connection was opened. A recreated type
(`pg_restore --clean`) has another one, and its values would be returned as text.
"""

from __future__ import annotations

import contextlib
import functools
from typing import Any

from psycopg2 import InterfaceError, extensions, extras, sql

from . import _hv

# psycopg2's own look-up of these depends on the search_path.
_HSTORE_TYPES = """
    SELECT t.oid, t.typarray FROM pg_catalog.pg_extension e
    JOIN pg_catalog.pg_type t ON t.typnamespace OPERATOR(pg_catalog.=) e.extnamespace
    WHERE e.extname OPERATOR(pg_catalog.=) 'hstore' AND t.typname OPERATOR(pg_catalog.=) 'hstore'
"""

# PostgreSQL's own types have smaller OIDs (FirstNormalObjectId).
FIRST_OID = 16384

_END = object()


def register_types(conn: Any) -> None:
    """Make the connection's cursors return dicts for hstore, if the database has it."""
    with conn.cursor(cursor_factory=extensions.cursor) as cursor:  # whose statements are not logged
        cursor.execute(_HSTORE_TYPES)
        oids = cursor.fetchone()
    if oids is not None:  # otherwise put and get will report that it is missing
        extras.register_hstore(conn, oid=oids[0], array_oid=oids[1])
        conn._hv_types = conn._hv_types.union(oids)


class _Casting(extensions.cursor):
    """Checks the types of each result when its first rows are fetched."""

    _hv_seen: Any = None  # the description of the result that was checked
    _hv_casts: tuple[tuple[int, Any], ...] = ()  # columns that psycopg2 has left as text

    def _hv_look(self) -> bool:
        """Are there columns to be cast?"""
        columns = self.description
        if columns is self._hv_seen:
            return bool(self._hv_casts)
        self._hv_seen, self._hv_casts = columns, ()
        known = self.connection._hv_types
        unknown = {
            column.type_code
            for column in columns or ()
            if column.type_code >= FIRST_OID and column.type_code not in known
        }
        if unknown:
            self._hv_learn(unknown)
        return bool(self._hv_casts)

    def _hv_learn(self, unknown: set[int]) -> None:
        conn: Any = self.connection
        conn._hv_types = conn._hv_types.union(unknown)  # so that they are looked up only once
        register_types(conn)
        self._hv_casts = tuple(
            (place, conn.string_types[column.type_code])
            for place, column in enumerate(self.description or ())
            if column.type_code in unknown and column.type_code in conn.string_types
        )

    def _hv_cast(self, row: Any) -> Any:
        values = row if isinstance(row, list) else list(row)  # a DictRow is a list
        for place, cast in self._hv_casts:
            if isinstance(values[place], str):
                values[place] = cast(values[place], self)
        return row if values is row else tuple(values)

    def fetchone(self) -> Any:
        row = super().fetchone()
        return self._hv_cast(row) if row is not None and self._hv_look() else row

    def fetchmany(self, size: int | None = None) -> list[Any]:
        rows = super().fetchmany(self.arraysize if size is None else size)
        return [self._hv_cast(row) for row in rows] if rows and self._hv_look() else rows

    def fetchall(self) -> list[Any]:
        rows = super().fetchall()
        return [self._hv_cast(row) for row in rows] if rows and self._hv_look() else rows

    def __iter__(self) -> Any:
        # super()'s iterator may be the cursor itself, on which iter() would call this again.
        rows = iter(super().__iter__().__next__, _END)
        for row in rows:
            if not self._hv_look():
                yield row
                yield from rows
                return
            yield self._hv_cast(row)


class DictCursor(_Casting, extras.DictCursor):
    pass


class LoggingCursor(_Casting, extras.LoggingCursor):
    """Keeps the statement as the borrower wrote it, without the values."""

    _hv_statement = ""

    def execute(self, query: Any, vars: Any = None) -> None:
        self._hv_statement = _written(query, self)
        super().execute(query, vars)

    def callproc(self, procname: Any, vars: Any = None) -> None:
        self._hv_statement = f"SELECT * FROM {procname}(...)"
        super().callproc(procname, vars)


class _Guarded:
    """Executes its statements within the transaction that its connection was in when it was made."""

    _hv_transaction: Any = None  # a weak reference
    connection: Any

    def _hv_learn(self, unknown: set[int]) -> None:
        """Rows may be fetched when no statement can be executed any more: then they have text."""
        if self.connection.info.transaction_status != extensions.TRANSACTION_STATUS_INERROR:
            base: Any = super()
            with contextlib.suppress(InterfaceError):
                _hv.in_transaction(self._hv_transaction, base._hv_learn, unknown)

    def execute(self, *args: Any, **kwargs: Any) -> Any:
        base: Any = super()
        return _hv.in_transaction(self._hv_transaction, base.execute, *args, **kwargs)

    def executemany(self, *args: Any, **kwargs: Any) -> Any:
        base: Any = super()
        return _hv.in_transaction(self._hv_transaction, base.executemany, *args, **kwargs)

    def callproc(self, *args: Any, **kwargs: Any) -> Any:
        base: Any = super()
        return _hv.in_transaction(self._hv_transaction, base.callproc, *args, **kwargs)

    def copy_from(self, *args: Any, **kwargs: Any) -> Any:
        base: Any = super()
        return _hv.in_transaction(self._hv_transaction, base.copy_from, *args, **kwargs)

    def copy_to(self, *args: Any, **kwargs: Any) -> Any:
        base: Any = super()
        return _hv.in_transaction(self._hv_transaction, base.copy_to, *args, **kwargs)

    def copy_expert(self, *args: Any, **kwargs: Any) -> Any:
        base: Any = super()
        return _hv.in_transaction(self._hv_transaction, base.copy_expert, *args, **kwargs)


@functools.lru_cache(100)
def guarded(factory: Any) -> Any:
    """The same cursor class for a transaction."""
    return type(factory.__name__, (_Guarded, factory), {"__module__": factory.__module__})


def _written(query: Any, cursor: Any) -> str:
    """A statement's text, with `%s` in place of the literals that were composed into it."""
    if isinstance(query, sql.Composed):
        return "".join(_written(part, cursor) for part in query.seq)
    if isinstance(query, sql.Literal):
        return "%s"
    if isinstance(query, sql.Composable):
        return query.as_string(cursor)
    return query.decode("utf-8", "replace") if isinstance(query, bytes) else str(query)
