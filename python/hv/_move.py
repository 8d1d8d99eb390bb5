"""Moving shards to other servers: what Datastore.move() and moves() return."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from types import TracebackType
from typing import TYPE_CHECKING, Any, Callable, NamedTuple

from ._hv import DatastoreError

if TYPE_CHECKING:
    from ._hv import Mover

STEP_MS = 250


class MoveStatus(NamedTuple):
    """How far a move is.

    ``phase`` is 'begun', 'schema', 'copying', 'indexing', 'catching up', 'verifying', 'switching',
    'cleaning', 'aborting', and at the end 'kept', 'done' or 'aborted'. What is not known is None.
    ``pause_ms`` is the longest time that callers were stopped."""

    shard: int
    source: str | None
    target: str | None
    kind: str | None
    phase: str
    step: str | None
    waits_for: str | None
    rows: int | None
    rows_total: int | None
    bytes: int | None
    bytes_total: int | None
    lag_bytes: int | None
    seconds: float
    pause_ms: float
    keep_until: datetime | None
    left_behind: str | None


class MoveInfo(NamedTuple):
    """A move as the servers' journals have it. ``step`` 'kept': it is over and can be undone;
    ``running``: a process is at work on it."""

    shard: int
    source: str
    target: str
    kind: str
    step: str
    running: bool
    on_source: bool
    on_target: bool
    begun: datetime
    changed: datetime
    keep_until: datetime | None
    error: str | None


class Moves(tuple):  # type: ignore[type-arg]
    """Moves, a tuple of MoveInfo; ``missing`` has the errors of servers that did not answer."""

    missing: list[DatastoreError]


def moment(us: int) -> datetime | None:
    return datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(microseconds=us) if us else None


def info_of(found: tuple[Any, ...]) -> MoveInfo:
    return MoveInfo._make((*found[:8], *map(moment, found[8:11]), found[11]))


def moves_of(lists: tuple[list[tuple[Any, ...]], list[DatastoreError]]) -> Moves:
    moves = Moves(map(info_of, lists[0]))
    moves.missing = lists[1]
    return moves


def options_of(options: dict[str, Any]) -> dict[str, str]:
    """As texts, without those that were not given. Numbers are seconds, of max_wal bytes."""

    def text(name: str, value: Any) -> str:
        if isinstance(value, timedelta):
            value = value.total_seconds()
        if isinstance(value, bool):
            return "on" if value else "off"
        if isinstance(value, float):
            return str(round(value)) if name == "max_wal" else f"{round(value * 1000)}ms"
        return str(value)

    return {name: text(name, value) for name, value in options.items() if value is not None}


class Move:
    """A shard on its way to another server, or back: call wait(), or advance() until it is true.

    Until it is over it is in the journals of both servers, so whatever becomes of this process,
    Datastore.move_resume() can go on, and move_abort() take it back. A `with` closes it, which
    leaves it there. Not for several threads at once."""

    def __init__(self, mover: Mover):
        self._mover = mover

    def advance(self, timeout: float = 1.0) -> bool:
        """Go on for about so many seconds. True: it is over."""
        return self._mover.advance(round(timeout * 1000))

    def wait(self, observer: Callable[[MoveStatus], object] | None = None) -> MoveStatus:
        """Go on to the end, and return how it ended. ``observer`` is called several times a
        second."""
        while not self._mover.advance(STEP_MS):
            if observer is not None:
                observer(self.status)
        return self.status

    @property
    def status(self) -> MoveStatus:
        """How far it is."""
        found = self._mover.status()
        return MoveStatus._make((*found[:14], moment(found[14]), found[15]))

    def close(self) -> None:
        """Let go of it. If it is not over, it stays in the journals."""
        self._mover.close()

    def __enter__(self) -> Move:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        try:
            now = self.status
        except (DatastoreError, RuntimeError):  # it is closed, or a thread is at work on it
            return "<Move>"
        return f"<Move: shard {now.shard} from {now.source} to {now.target}, {now.phase}>"
