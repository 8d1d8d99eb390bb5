"""Distributing shards over servers: what Datastore.plan() returns, and how its moves are made."""

from __future__ import annotations

import collections
import concurrent.futures
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Callable, Iterable, NamedTuple

from ._hv import DatastoreError, Stop

if TYPE_CHECKING:
    from ._move import MoveStatus
    from .datastore import Datastore

MOST_JOBS = 64


class BalanceMove(NamedTuple):
    """A shard that is to move. ``rows``, ``seconds`` and ``wal_bytes``, the WAL that the source has
    to keep meanwhile, are as expected."""

    shard: int
    source: str
    target: str
    bytes: int
    rows: int
    seconds: int
    wal_bytes: int


class BalanceServer(NamedTuple):
    """A server, as it stands and as it will. ``load`` is in the unit of the plan's ``by``."""

    server: str
    weight: float
    drained: bool
    shards_before: int
    shards_after: int
    bytes_before: int
    bytes_after: int
    load_before: int
    load_after: int


class Balance(NamedTuple):
    """A plan: the moves that are worth it, the most useful first, and all servers."""

    by: str
    moves: tuple[BalanceMove, ...]
    servers: tuple[BalanceServer, ...]


def wishes_of(
    by: str,
    weight: Mapping[str, float] | None,
    drain: str | Iterable[str],
    max_moves: int | None,
) -> list[tuple[str, str]]:
    """What is wished, as the library takes it."""
    if weight is not None and not isinstance(weight, Mapping):
        message = "weight must be a mapping of servers to numbers, not "
        raise TypeError(message + type(weight).__name__)
    wishes = [("by", by)]
    wishes += [("weight", f"{server}={share}") for server, share in (weight or {}).items()]
    wishes += [("drain", server) for server in ([drain] if isinstance(drain, str) else drain)]
    if max_moves is not None:
        wishes.append(("max_moves", str(max_moves)))
    return wishes


def balance_of(by: str, lists: tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]) -> Balance:
    moves, servers = lists
    return Balance(by, tuple(map(BalanceMove._make, moves)), tuple(map(BalanceServer._make, servers)))


def check_jobs(jobs: int) -> None:
    if not isinstance(jobs, int) or isinstance(jobs, bool):
        raise TypeError(f"jobs must be int, not {type(jobs).__name__}")
    if not 1 <= jobs <= MOST_JOBS:
        error = DatastoreError(f"jobs is out of range: {jobs}\nHINT:  Allowed: 1 to {MOST_JOBS}.")
        error.status, error.message = "HV_INVALID", f"jobs is out of range: {jobs}"
        error.hint = f"Allowed: 1 to {MOST_JOBS}."
        raise error


class Watcher:
    """An observer, which several threads call, and whose own errors are not those of a move."""

    def __init__(self, observer: Callable[[MoveStatus], object] | None) -> None:
        self._observer = observer
        self._lock = threading.Lock()
        self._failure: BaseException | None = None

    def __call__(self, status: MoveStatus) -> None:
        if self._observer is None:
            return
        with self._lock:
            try:
                self._observer(status)
            except BaseException as failure:
                self._failure = failure
                raise

    def check(self, error: DatastoreError) -> None:
        """In an `except` clause: raise it again if it is the observer's."""
        if error is self._failure:
            raise error


def make_moves(
    store: Datastore,
    moves: Iterable[BalanceMove],
    jobs: int,
    observer: Callable[[MoveStatus], object] | None,
    options: dict[str, Any],
) -> list[Any]:
    """Make moves, ``jobs`` at a time. An error is the result of its move, and the others go on.

    A thread for each job; a single one is the caller's. If the caller is interrupted, or the observer
    raises an exception, the moves end where they are, and stay in the journals."""
    waiting = collections.deque(enumerate(moves))
    results: list[Any] = [None] * len(waiting)
    watcher = Watcher(observer)

    def work() -> None:
        while (turn := take(waiting)) is not None:
            place, planned = turn
            try:
                with store.move(planned.shard, planned.target, **options) as move:
                    results[place] = move.wait(watcher)
            except DatastoreError as error:
                watcher.check(error)
                results[place] = error

    def run(stop: Stop) -> None:
        stop.run(work)

    if jobs == 1 or len(waiting) < 2:
        work()
        return results
    stops = [Stop() for _ in range(min(jobs, len(waiting)))]
    with concurrent.futures.ThreadPoolExecutor(len(stops), "hv") as threads:
        try:
            running = [threads.submit(run, stop) for stop in stops]
            concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_EXCEPTION)
            for done in running:
                if done.done():
                    done.result()
        except BaseException:
            waiting.clear()
            for stop in stops:
                stop.set()
            raise
    return results


def take(waiting: collections.deque[tuple[int, BalanceMove]]) -> tuple[int, BalanceMove] | None:
    """The next one, unless there is none; another thread may take it at the same time."""
    try:
        return waiting.popleft()
    except IndexError:
        return None
