"""The store: entities and connections, by logical shard."""

from __future__ import annotations

import contextlib
import math
import weakref
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Callable, Iterable, Iterator, Sequence

import psycopg2
from psycopg2.extensions import parse_dsn

from . import _hv, _many
from ._balance import (
    Balance,
    BalanceMove,
    BalanceServer,
    balance_of,
    check_jobs,
    make_moves,
    wishes_of,
)
from ._connector import PsycopgConnector, check_libpq, statement_logger
from ._hv import (
    ChangedError,
    ConnectionError,
    DatastoreError,
    Key,
    KeyTypeError,
    LentCursor,
    MovedError,
    PoolError,
    Reader,
    ShardAnswers,
    Transaction,
)
from ._many import Increment, Merge, Replacement
from ._move import Move, MoveInfo, Moves, MoveStatus, moves_of, options_of
from ._results import Count, Counts, Plan
from ._work import (
    Index,
    MigrationState,
    MigrationStatus,
    MigrationStep,
    RolloutEvent,
    SchemaGroup,
    SchemaReport,
    ShardAnswer,
    ShardMigrations,
    ShardWork,
    Summary,
)
from .entity import Change, Row, Value

__all__ = [
    "Balance",
    "BalanceMove",
    "BalanceServer",
    "ChangedError",
    "ConnectionError",
    "Count",
    "Counts",
    "Datastore",
    "DatastoreError",
    "Index",
    "KeyTypeError",
    "MigrationState",
    "MigrationStatus",
    "MigrationStep",
    "Move",
    "MoveInfo",
    "MoveStatus",
    "MovedError",
    "Moves",
    "Plan",
    "PoolError",
    "Reader",
    "RolloutEvent",
    "SchemaGroup",
    "SchemaReport",
    "ShardAnswer",
    "ShardAnswers",
    "ShardMigrations",
    "ShardWork",
    "Summary",
    "Transaction",
]

check_libpq()

_DURATIONS = {option["name"] for option in _hv.options() if option["type"] == "duration"}


class Datastore(_hv.Store):
    """PostgreSQL servers that hold logical shards between them.

    ``connections`` is a sequence with a dict for each server: libpq's parameters or a ``dsn``, as
    psycopg2.connect() takes them, but no factories, and ``shards``, the logical shards that it holds
    (``'1-9'`` is 1 to 8; lists and single shards too) or ``'auto'``: then the servers are asked.
    Errors and statistics use a server's ``name``, which is ``server 1`` and so on by default. No two
    servers may have the same name. ``move_host`` and the like say how the other servers reach this
    one when a shard moves: see docs/config.md.

    ``pool_max`` is the most connections for each server, ``pool_block_timeout`` how many seconds to
    wait for one. With a ``logger`` (a logging.Logger or a file) connections are
    LoggingConnections, and the store's own statements are logged as well, each with its server,
    shard, duration and outcome. No values are logged unless ``log_parameters=True`` asks for them.

    All other options of docs/config.md can be given by their names: ``lanes=4``,
    ``exactly_once=True``. Durations are numbers of seconds.

    Any number of threads may use a Datastore. A forked child makes connections of its own.
    """

    def __init__(
        self,
        connections: Sequence[Mapping[str, Any]],
        pool_max: int = 10,
        pool_block_timeout: float = 5,
        logger: Any = None,
        **options: Any,
    ) -> None:
        options = {"pool_max": pool_max, "pool_block_timeout": pool_block_timeout, **options}
        self._open(options, logger, [_server(n, given) for n, given in enumerate(connections, 1)])

    @classmethod
    def from_config(cls, path: str | None = None, logger: Any = None, **options: Any) -> Datastore:
        """Open the store that a configuration file describes; without ``path``, the file that `hv`
        finds."""
        self = cls.__new__(cls)
        self._open(options, logger, None, path)
        return self

    def _open(
        self,
        options: Mapping[str, Any],
        logger: Any,
        servers: Sequence[tuple[str, Mapping[str, str]]] | None,
        path: str | None = None,
    ) -> None:
        options = {name: _option(name, value) for name, value in options.items()}
        connector = self._connector = PsycopgConnector(weakref.ref(self), logger)
        log = statement_logger(logger) if logger is not None else None
        super().__init__(options, servers, path, connector, log)

    def disconnect(self) -> None:
        """Close every connection, lent ones too: the borrower's next use of one raises
        InterfaceError, but put_connection() still takes it. A statement that another thread is
        running on one fails.

        The next operation opens a new connection.
        """
        opened = self._connector.opened()
        super().disconnect()
        for connection in opened:
            self._close_lent(connection)

    def cursor(self, shard_id: int) -> LentCursor:
        """Return a context manager: a cursor on a borrowed connection to the shard's server.

        Name tables with their schema: ``shard0005.entities``. If psycopg2's UndefinedTable or
        InvalidSchemaName leaves the ``with``, and the shard has moved to another server, that
        becomes a MovedError: then the next cursor() is on the right one.
        """
        return LentCursor(self, shard_id)

    def cursor_server(self, server: int | str) -> LentCursor:
        """The same for a server, which is given by its name or its place among ``servers``."""
        return LentCursor(self, server=server)

    # ---- many at once ----

    def put_many(
        self,
        entities: Iterable[tuple[int | Key, int, Mapping[str, Value] | None]],
        return_errors: bool = False,
    ) -> list[Any]:
        """Store entities ``(shard_id, kind, attributes)``, or ``(key, kind, attributes)`` under keys
        from reserve(); return their keys in the same order.

        Each succeeds or fails by itself. With ``return_errors`` the list has a DatastoreError in
        the place of each one that failed; otherwise the first of these is raised when all are done,
        with the list as its ``results``.
        """
        return _many.collect(_many.put_stream(self, entities), return_errors)

    def get_many(
        self,
        keys: Iterable[Key],
        return_errors: bool = False,
        *,
        only: Iterable[str] | None = None,
        version: bool = False,
    ) -> list[Any]:
        """Fetch entities; return their rows, or None, in the order of ``keys``. ``only`` and
        ``version`` are as for get(), errors as for put_many()."""
        return _many.collect(_many.get_stream(self, keys, only, version), return_errors)

    def exists_many(self, keys: Iterable[Key], return_errors: bool = False) -> list[Any]:
        """Return, in the order of ``keys``, whether there are such entities. Errors are as for
        put_many()."""
        return _many.collect(_many.exists_stream(self, keys), return_errors)

    def replace_many(
        self,
        entities: Iterable[Replacement],
        return_errors: bool = False,
        *,
        if_: Mapping[str, Value] | None = None,
        if_absent: Iterable[str] = (),
        if_kind: int | None = None,
    ) -> list[Any]:
        """Replace entities ``(key, kind, attributes)``; return a list of what replace() returns.
        The condition is that of each of them. Errors are as for put_many(), ChangedErrors included.
        Several changes of one entity are made in their order."""
        make = _many.maker("replace", if_, if_absent, if_kind)
        return _many.collect(_many.change_stream(self, entities, make), return_errors)

    def merge_many(
        self,
        changes: Iterable[Merge],
        return_errors: bool = False,
        *,
        if_: Mapping[str, Value] | None = None,
        if_absent: Iterable[str] = (),
        if_kind: int | None = None,
    ) -> list[Any]:
        """Change entities ``(key, set)`` or ``(key, set, remove)``, as merge() does. Otherwise like
        replace_many()."""
        make = _many.maker("merge", if_, if_absent, if_kind)
        return _many.collect(_many.change_stream(self, changes, make), return_errors)

    def increment_many(
        self,
        changes: Iterable[Increment],
        return_errors: bool = False,
        *,
        if_: Mapping[str, Value] | None = None,
        if_absent: Iterable[str] = (),
        if_kind: int | None = None,
    ) -> list[Any]:
        """Add to attributes ``(key, attribute)`` or ``(key, attribute, amount)``, as increment()
        does, and return their new values. Otherwise like replace_many()."""
        make = _many.maker("increment", if_, if_absent, if_kind)
        return _many.collect(_many.change_stream(self, changes, make), return_errors)

    def delete_many(
        self,
        keys: Iterable[Key],
        return_errors: bool = False,
        *,
        if_: Mapping[str, Value] | None = None,
        if_absent: Iterable[str] = (),
        if_kind: int | None = None,
    ) -> list[Any]:
        """Delete entities, as delete() does. Otherwise like replace_many()."""
        make = _many.maker("delete", if_, if_absent, if_kind)
        return _many.collect(_many.change_stream(self, keys, make), return_errors)

    def change_many(self, changes: Iterable[Change], return_errors: bool = False) -> list[Any]:
        """Make changes of any kind, each with its own condition; return a list of what replace(),
        merge(), increment() and delete() return. Otherwise like replace_many()."""
        return _many.collect(_many.change_stream(self, changes), return_errors)

    # ---- moving shards ----

    def move(self, shard_id: int, to: str, **options: Any) -> Move:
        """Begin to move a shard to a server while it is used, as `hv move` does; go on with
        wait(). Options, with the meaning and the defaults that they have there: ``keep_undo``,
        ``max_pause`` and ``max_wait`` (seconds, timedelta, or text such as '1h'), ``max_wal``
        ('16GB'), ``offline`` and ``verify`` (bool)."""
        return Move(self._move_begin("move", shard_id, to, options_of(options)))

    def move_resume(self, shard_id: int, **options: Any) -> Move:
        """Go on with a move that was interrupted, here or on another machine."""
        return Move(self._move_begin("resume", shard_id, None, options_of(options)))

    def move_abort(self, shard_id: int, **options: Any) -> Move:
        """Take a move back. One that is switched already is brought to its end."""
        return Move(self._move_begin("abort", shard_id, None, options_of(options)))

    def move_undo(self, shard_id: int, **options: Any) -> Move:
        """Go back with a shard that was moved with ``keep_undo``, and all that was written since."""
        return Move(self._move_begin("undo", shard_id, None, options_of(options)))

    def move_clean(self, shard_id: int, **options: Any) -> Move:
        """Drop the old copy of such a shard before its time is over."""
        return Move(self._move_begin("clean", shard_id, None, options_of(options)))

    def moves(self) -> Moves:
        """The moves that are under way or can be undone, on all servers."""
        return moves_of(self._move_list())

    def plan(
        self,
        by: str = "size",
        *,
        weight: Mapping[str, float] | None = None,
        drain: str | Iterable[str] = (),
        max_moves: int | None = None,
    ) -> Balance:
        """Plan which shards should move so that servers have equal shares, as `hv plan` does;
        nothing is moved. ``by`` is 'size', 'rows', 'writes' or 'count'. With ``weight={'big': 2}``
        that server is to have twice the share of others; a server that ``drain`` names, none. At
        most ``max_moves`` moves, the most useful ones. It takes a second."""
        return balance_of(by, self._plan(wishes_of(by, weight, drain, max_moves)))

    def rebalance(
        self,
        by: str = "size",
        *,
        weight: Mapping[str, float] | None = None,
        drain: str | Iterable[str] = (),
        max_moves: int | None = None,
        jobs: int = 1,
        observer: Callable[[MoveStatus], object] | None = None,
        return_errors: bool = False,
        **options: Any,
    ) -> list[Any]:
        """Make the moves of plan(), ``jobs`` at a time, and return the MoveStatus of each, as it
        ended, in the order of the plan. ``observer`` is called with each one several times a second;
        all other options are those of move().

        A move that fails does not keep the others from being made. With ``return_errors`` its
        DatastoreError is in its place; otherwise the first of these is raised when all are done,
        with the list as its ``results``. After Ctrl-C, and if ``observer`` raises an exception, the
        moves that were begun stay in the journals: see move_resume() and move_abort()."""
        check_jobs(jobs)
        self._move_check(options_of(options))
        moves = self.plan(by, weight=weight, drain=drain, max_moves=max_moves).moves
        return _many.settle(make_moves(self, moves, jobs, observer, options), return_errors)

    # ---- more than fits in memory ----

    def put_stream(
        self, entities: Iterable[tuple[int | Key, int, Mapping[str, Value] | None]]
    ) -> Iterator[tuple[int, Key | DatastoreError]]:
        """Like put_many(), for more than fits in memory: return an iterator of ``(position, key)``,
        or ``(position, error)``, in no particular order.

        Iterate to the end: an entity whose position did not come up may or may not be stored.
        """
        return _many.put_stream(self, entities)

    def get_stream(
        self, keys: Iterable[Key], *, only: Iterable[str] | None = None, version: bool = False
    ) -> Iterator[tuple[int, Row | None | DatastoreError]]:
        """Like get_many(), for more than fits in memory: return an iterator of ``(position, row)``,
        or ``(position, error)``."""
        return _many.get_stream(self, keys, only, version)

    def exists_stream(self, keys: Iterable[Key]) -> Iterator[tuple[int, bool | DatastoreError]]:
        """Like exists_many(), for more than fits in memory: return an iterator of
        ``(position, bool)``, or ``(position, error)``."""
        return _many.exists_stream(self, keys)

    def replace_stream(
        self,
        entities: Iterable[Replacement],
        *,
        if_: Mapping[str, Value] | None = None,
        if_absent: Iterable[str] = (),
        if_kind: int | None = None,
    ) -> Iterator[tuple[int, bool | DatastoreError]]:
        """Like replace_many(), for more than fits in memory: return an iterator of
        ``(position, bool)``, or ``(position, error)``. Iterate to the end, as with put_stream()."""
        make = _many.maker("replace", if_, if_absent, if_kind)
        return _many.change_stream(self, entities, make)

    def merge_stream(
        self,
        changes: Iterable[Merge],
        *,
        if_: Mapping[str, Value] | None = None,
        if_absent: Iterable[str] = (),
        if_kind: int | None = None,
    ) -> Iterator[tuple[int, bool | DatastoreError]]:
        """Like merge_many(); otherwise like replace_stream()."""
        make = _many.maker("merge", if_, if_absent, if_kind)
        return _many.change_stream(self, changes, make)

    def increment_stream(
        self,
        changes: Iterable[Increment],
        *,
        if_: Mapping[str, Value] | None = None,
        if_absent: Iterable[str] = (),
        if_kind: int | None = None,
    ) -> Iterator[tuple[int, int | Decimal | None | DatastoreError]]:
        """Like increment_many(): ``(position, new value)``; otherwise like replace_stream()."""
        make = _many.maker("increment", if_, if_absent, if_kind)
        return _many.change_stream(self, changes, make)

    def delete_stream(
        self,
        keys: Iterable[Key],
        *,
        if_: Mapping[str, Value] | None = None,
        if_absent: Iterable[str] = (),
        if_kind: int | None = None,
    ) -> Iterator[tuple[int, bool | DatastoreError]]:
        """Like delete_many(); otherwise like replace_stream()."""
        make = _many.maker("delete", if_, if_absent, if_kind)
        return _many.change_stream(self, keys, make)

    def change_stream(self, changes: Iterable[Change]) -> Iterator[tuple[int, Any]]:
        """Like change_many(); otherwise like replace_stream()."""
        return _many.change_stream(self, changes)

    def __enter__(self) -> Datastore:
        return self

    def __exit__(self, *exc: object) -> None:
        if exc[0] is None:
            self.close()
            return
        with contextlib.suppress(PoolError):  # the first exception is to be raised
            self.close(timeout=0)


# Arguments of psycopg2.connect() that a store does not take.
_NOT_TAKEN = {
    "connection_factory": "The store's connections are of a class of its own, a DictConnection. "
    "Set up each when it is borrowed.",
    "cursor_factory": "Choose it for each cursor of a borrowed connection: "
    "conn.cursor(cursor_factory=...).",
    "async": "See hv.aio for event loops.",
    "async_": "See hv.aio for event loops.",
}


def _bad_config(message: str, hint: str | None = None) -> DatastoreError:
    error = DatastoreError(message if hint is None else f"{message}\nHINT:  {hint}")
    error.status, error.message, error.hint = "HV_BAD_CONFIG", message, hint
    return error


def _with_dsn(number: int, given: Mapping[str, Any]) -> dict[str, Any]:
    """A server's parameters, including those of its dsn, which the others override."""
    own = {name: value for name, value in given.items() if name != "dsn" and value is not None}
    if given.get("dsn") is None:
        return own
    parsed: dict[str, Any]
    try:
        parsed = dict(parse_dsn(given["dsn"]))
    except (TypeError, psycopg2.Error):  # their messages may contain a password
        message = f"the dsn of connection {number} is not a connection string"
        raise _bad_config(message) from None
    if "database" in own:
        parsed.pop("dbname", None)
    return {**parsed, **own}


def _server(number: int, given: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
    """A server's name and parameters, as the library takes them."""
    if not isinstance(given, Mapping):
        # Only its type, since its value may contain a password.
        raise _bad_config(f"connection {number} is of type {type(given).__name__}, not a dict")
    parameters = {str(name): str(value) for name, value in _with_dsn(number, given).items()}
    for name, hint in _NOT_TAKEN.items():
        if name in parameters:
            raise _bad_config(f"connection {number}: a Datastore does not take {name}", hint)
    if "shards" not in parameters:
        raise _bad_config(f"connection {number} does not say which shards it holds")
    return parameters.pop("name", f"server {number}"), parameters


def _option(name: str, value: Any) -> str:
    """An option's value as text."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if name in _DURATIONS and isinstance(value, (int, float)) and math.isfinite(value):
        return f"{value:.6f}s"
    return str(value)
