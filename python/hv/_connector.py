"""Opens and resets psycopg2's connections for a store.

The C library decides when; put and get then run on libpq's side of the same connections.
"""

from __future__ import annotations

import atexit
import functools
import logging
import math
import os
import weakref
from typing import TYPE_CHECKING, Any, Sequence

import psycopg2
from psycopg2 import extensions
from psycopg2.extras import DictConnection, LoggingConnection

from . import _hv
from ._cursor import DictCursor, LoggingCursor, guarded, register_types
from ._types import Types

if TYPE_CHECKING:
    from ._hv import _Log

# libpq raises shorter time-outs to this.
_LEAST_CONNECT_TIMEOUT = 2

# How long to wait for the reason why a connection was refused, in seconds.
_LONGEST_REFUSAL = 1


# Until 3.12 Python crashes if it ends before a thread that was just started has begun to run, and
# OpenSSL crashes if the process ends while a thread uses it.
atexit.register(_hv.end)


def check_libpq() -> None:
    """psycopg2 and this package share connections, so they must use the same libpq."""
    driver = psycopg2._psycopg.__file__
    theirs, ours = _hv.libpq_file_of(driver), _hv.libpq_file()
    if theirs != ours:
        raise ImportError(
            f"psycopg2 uses a libpq of its own, version {extensions.libpq_version()} in "
            f"{theirs or driver}; hv uses version {_hv.libpq_version()} in {ours}. They cannot "
            "share connections.\n"
            "HINT: Install psycopg2 from your distribution or from source, not psycopg2-binary."
        )


class _Lent(_hv.Lent, extensions.connection):
    """Closing or dropping a connection that the store has lent returns it to the store, which
    closes it."""

    _hv_store: weakref.ref[_hv.Store] | None = None
    _hv_pid = 0
    _hv_lent = False  # its borrower has it
    _hv_disconnected = False  # disconnect() closes it, lent or not
    _hv_types: frozenset[int] = frozenset()  # OIDs of types that were looked up
    _hv_transaction: weakref.ref[_hv.Transaction] | None = None  # the store's that is open on it

    def close(self) -> None:
        if self._hv_pid not in (0, os.getpid()):
            return  # a forked child must not end its parent's session
        self._hv_refuse("close()")
        store = self._hv_store() if self._hv_store is not None else None
        if store is None or not store._discard(self):
            super().close()

    def cursor(self, *args: Any, **kwargs: Any) -> Any:
        transaction = self._hv_transaction
        if transaction is None:
            return super().cursor(*args, **kwargs)
        if any(args[:1]) or kwargs.get("name") is not None:
            raise psycopg2.ProgrammingError(
                "a cursor of a transaction has no name: execute DECLARE and FETCH"
            )
        chosen: Any = kwargs.get("cursor_factory") or self.cursor_factory
        kwargs["cursor_factory"] = guarded(chosen or extensions.cursor)
        cursor = super().cursor(*args, **kwargs)
        cursor._hv_transaction = transaction
        return cursor

    def _hv_refuse(self, what: str) -> None:
        if self._hv_transaction is not None:
            raise psycopg2.ProgrammingError(
                f"{what} is not for a connection in a transaction of the store, which the store "
                "begins and ends"
            )


def _refused(name: str) -> Any:
    """A method of psycopg2's that does not go with a transaction of the store."""
    method = getattr(extensions.connection, name)

    @functools.wraps(method)
    def call(self: _Lent, *args: Any, **kwargs: Any) -> Any:
        self._hv_refuse(f"{name}()")
        return method(self, *args, **kwargs)

    return call


for _name in (
    "__enter__",
    "commit",
    "lobject",
    "reset",
    "rollback",
    "set_client_encoding",
    "set_isolation_level",
    "set_session",
    "tpc_begin",
    "tpc_recover",
):
    setattr(_Lent, _name, _refused(_name))


class Connection(_Lent, DictConnection):
    def cursor(self, *args: Any, **kwargs: Any) -> Any:
        chosen: Any = self.cursor_factory  # by the borrower
        kwargs.setdefault("cursor_factory", chosen or DictCursor)
        return super().cursor(*args, **kwargs)


class LoggedConnection(_Lent, LoggingConnection):
    """Logs the statements of its borrowers, with their values only if `log_parameters` is set."""

    _hv_log_parameters = False

    def filter(self, msg: Any, curs: Any) -> Any:
        return msg if self._hv_log_parameters else getattr(curs, "_hv_statement", None)

    def cursor(self, *args: Any, **kwargs: Any) -> Any:
        chosen: Any = self.cursor_factory
        kwargs.setdefault("cursor_factory", chosen or LoggingCursor)
        return super().cursor(*args, **kwargs)


class _Refused(Exception):
    """The server refuses a connection."""

    def __init__(self, message: str, pgcode: str) -> None:
        super().__init__(message)
        self.pgcode = pgcode


class PsycopgConnector:
    """Opens and closes connections for one store. Any thread may call its methods."""

    def __init__(self, store: weakref.ref[_hv.Store], logger: Any) -> None:
        self._store = store  # weak, since the store refers to this connector
        self._logger = logger
        self._opened: dict[int, weakref.ref[_Lent]] = {}  # each step on it is atomic
        self.types = Types(store)

    def opened(self) -> list[_Lent]:
        """The connections that this process has opened and that still exist."""
        found = [reference() for reference in self._opened.copy().values()]
        return [conn for conn in found if conn is not None and conn._hv_pid == os.getpid()]

    def open(self, parameters: dict[str, Any], timeout: float) -> extensions.connection:
        """Open a connection. Called in the C module's own threads, which handle no signals.

        Raises psycopg2's exceptions, and _Refused."""
        longest = max(_LEAST_CONNECT_TIMEOUT, math.ceil(timeout))
        given = parameters.get("connect_timeout", "")
        if not given.isdigit() or not 0 < int(given) < longest:
            parameters["connect_timeout"] = str(longest)
        factory: type[_Lent] = Connection if self._logger is None else LoggedConnection
        try:
            conn: Any = psycopg2.connect(connection_factory=factory, **parameters)
        except psycopg2.OperationalError as error:
            # psycopg2 does not report the SQLSTATE of a refused connection, which decides whether
            # trying again can help. So the server is asked once more.
            reason = (
                None if error.pgcode else _hv.refusal(parameters, min(timeout, _LONGEST_REFUSAL))
            )
            if reason is None:
                raise
            raise _Refused(*reason) from error
        try:
            conn.autocommit = True
            if self._logger is not None:
                conn.initialize(self._logger)
                store = self._store()
                conn._hv_log_parameters = store is not None and store._log_parameters
            register_types(conn)
            conn._hv_store, conn._hv_pid = self._store, os.getpid()
            self._remember(conn)
        except BaseException:
            conn.close()
            raise
        return conn  # type: ignore[no-any-return]

    def _remember(self, conn: _Lent) -> None:
        opened, number = self._opened, id(conn)
        # The callback runs no Python code, in which the exception of a signal's handler would be
        # lost. The reference that it is passed becomes the default of pop().
        opened[number] = weakref.ref(conn, functools.partial(opened.pop, number))

    def reset(self, conn: extensions.connection) -> bool:
        """Undo a borrower's settings on psycopg2's side; False if the connection must be closed."""
        at_rest = (
            extensions.TRANSACTION_STATUS_IDLE,
            extensions.TRANSACTION_STATUS_INTRANS,
            extensions.TRANSACTION_STATUS_INERROR,
        )
        if conn.closed or conn.get_transaction_status() not in at_rest:
            return False
        try:
            conn.rollback()
            conn.set_session("default", "default", "default", autocommit=True)
            conn.set_client_encoding("UTF8")
        except psycopg2.Error:
            return False
        return True


def statement_logger(logger: Any) -> _Log:
    """A log callback for the library's statements, beside those that LoggingConnection logs: a line
    for each, and with a logging.Logger also the record's attributes hv_server, hv_shard,
    hv_duration, hv_status and hv_sqlstate."""
    has_records = isinstance(logger, (logging.Logger, logging.LoggerAdapter))

    def log(
        statement: str,
        parameters: Sequence[str | None],
        server: str,
        shard: int,
        duration_us: int,
        status: str,
        sqlstate: str | None,
    ) -> None:
        values = ", ".join(
            f"${number} = " + ("NULL" if value is None else "'" + value.replace("'", "''") + "'")
            for number, value in enumerate(parameters, 1)
        )
        notes = [values] if values else []
        notes.append(server + (f", shard {shard}" if shard >= 0 else ""))
        notes.append(f"{duration_us / 1000:.3f} ms")
        notes.append(status if sqlstate is None else f"{status} {sqlstate}")
        text = f"{statement} -- {'; '.join(notes)}"
        if not has_records:
            logger.write(text + os.linesep)
            return
        extra = {
            "hv_server": server,
            "hv_shard": shard if shard >= 0 else None,
            "hv_duration": duration_us / 1e6,
            "hv_status": status,
            "hv_sqlstate": sqlstate,
        }
        logger.debug(text, extra=extra)

    return log
