"""Entities for asyncio: many operations of one event loop at once, without threads.

    async with aio.Session(db) as session:
        key = await session.put(12, 1, {"beep": "boop"})
        row = await session.get(key)
"""

from __future__ import annotations

import asyncio
import collections
import concurrent.futures
import contextlib
import functools
import os
import warnings
import weakref
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Awaitable, Callable, Iterable, Mapping, TypeVar

from . import _hv
from ._aio import Observed, ShardAnswers, closed_error, forget, new_thread, until_end
from ._balance import Balance, Watcher, check_jobs, take
from ._hv import DatastoreError, Key, KeyTypeError, Queue
from ._many import MOST, MOST_BYTES, Increment, Merge, Replacement, maker, names, settle
from ._move import Move, Moves, MoveStatus, options_of
from ._results import Count, Counts, Plan
from ._work import Index, MigrationStatus, MigrationStep, SchemaReport, Summary
from .entity import Change, Row, Value

if TYPE_CHECKING:
    from .datastore import Datastore

__all__ = ["Reader", "Session", "ShardAnswers", "Transaction"]

_T = TypeVar("_T")

# After so many rows that were there already, a reader lets the loop's other tasks run.
_ROWS = 100

# How often a thread that waits for a coroutine checks whether its loop is still there, in seconds.
_CHECK_LOOP = 1


class Session:
    """The operations of one event loop on a Datastore. Make and use it within that loop.

    Operations that tasks start at the same time go to each server together, in batches of up to a
    thousand. A session uses up to two connections of each server's pool, and none while it has
    nothing to do.

    Cancelling an operation (task.cancel(), asyncio.wait_for()) only stops waiting for it: the
    operation goes on, and a write may happen.
    """

    def __init__(self, store: Datastore) -> None:
        self._loop = asyncio.get_running_loop()
        self._store = store
        self._queue = Queue(store)
        self._waiting: set[asyncio.Future[Any]] = set()
        self._readers: weakref.WeakSet[Reader] = weakref.WeakSet()
        self._answers: weakref.WeakSet[ShardAnswers] = weakref.WeakSet()
        # What threads do, and what asks them to end it.
        self._threads: dict[asyncio.Future[Any], Callable[[], object] | None] = {}
        self._drained: asyncio.Future[None] | None = None
        self._closing = False
        self._closed = False
        # Weak: a session that is lost before its caller gets it must not live as long as the loop.
        self._loop.add_reader(self._queue.fileno(), _advance, weakref.ref(self))

    # ---- operations ----

    def shard_of(self, value: str | bytes | bytearray | memoryview) -> int:
        """Like Datastore.shard_of(). It waits for nothing, so it is not awaited."""
        return self._store.shard_of(value)

    async def put(
        self,
        shard_id: int,
        kind: int,
        attributes: Mapping[str, Value] | None = None,
        /,
        **kwargs: Value,
    ) -> Key:
        """Like Datastore.put()."""
        key: Key = await self._put(shard_id, kind, _both(attributes, kwargs))
        return key

    async def put_key(
        self,
        key: Key,
        kind: int,
        attributes: Mapping[str, Value] | None = None,
        /,
        **kwargs: Value,
    ) -> None:
        """Like Datastore.put_key()."""
        if not isinstance(key, Key):
            error = KeyTypeError(f"key must be of type Key, not {type(key).__name__}")
            error.status, error.message = "HV_INVALID", str(error)
            raise error
        await self._put(key, kind, _both(attributes, kwargs))

    async def get(
        self, key: Key, *, only: Iterable[str] | None = None, version: bool = False
    ) -> Row | None:
        """Like Datastore.get()."""
        row: Row | None = await self._get(key, only, version)
        return row

    async def exists(self, key: Key) -> bool:
        """Like Datastore.exists()."""
        there: bool = await self._exists(key)
        return there

    async def replace(
        self,
        key: Key,
        kind: int,
        attributes: Mapping[str, Value] | None = None,
        *,
        if_: Mapping[str, Value] | None = None,
        if_absent: Iterable[str] = (),
        if_kind: int | None = None,
        if_version: str | None = None,
    ) -> bool:
        """Like Datastore.replace()."""
        change = Change.replace(
            key,
            kind,
            attributes,
            if_=if_,
            if_absent=if_absent,
            if_kind=if_kind,
            if_version=if_version,
        )
        done: bool = await self._change(change)
        return done

    async def merge(
        self,
        key: Key,
        set: Mapping[str, Value] | None = None,
        remove: Iterable[str] = (),
        *,
        if_: Mapping[str, Value] | None = None,
        if_absent: Iterable[str] = (),
        if_kind: int | None = None,
        if_version: str | None = None,
    ) -> bool:
        """Like Datastore.merge()."""
        change = Change.merge(
            key,
            set,
            remove,
            if_=if_,
            if_absent=if_absent,
            if_kind=if_kind,
            if_version=if_version,
        )
        done: bool = await self._change(change)
        return done

    async def increment(
        self,
        key: Key,
        attribute: str,
        amount: int | Decimal | str = 1,
        *,
        if_: Mapping[str, Value] | None = None,
        if_absent: Iterable[str] = (),
        if_kind: int | None = None,
        if_version: str | None = None,
    ) -> int | Decimal | None:
        """Like Datastore.increment()."""
        change = Change.increment(
            key,
            attribute,
            amount,
            if_=if_,
            if_absent=if_absent,
            if_kind=if_kind,
            if_version=if_version,
        )
        value: int | Decimal | None = await self._change(change)
        return value

    async def delete(
        self,
        key: Key,
        *,
        if_: Mapping[str, Value] | None = None,
        if_absent: Iterable[str] = (),
        if_kind: int | None = None,
        if_version: str | None = None,
    ) -> bool:
        """Like Datastore.delete()."""
        change = Change.delete(
            key, if_=if_, if_absent=if_absent, if_kind=if_kind, if_version=if_version
        )
        done: bool = await self._change(change)
        return done

    async def put_many(
        self,
        entities: Iterable[tuple[int | Key, int, Mapping[str, Value] | None]],
        return_errors: bool = False,
    ) -> list[Any]:
        """Like Datastore.put_many(). If it is cancelled, some of the entities are stored."""
        return await self._many(self._put, entities, return_errors)

    async def get_many(
        self,
        keys: Iterable[Key],
        return_errors: bool = False,
        *,
        only: Iterable[str] | None = None,
        version: bool = False,
    ) -> list[Any]:
        """Like Datastore.get_many()."""
        only = names(only)
        return await self._many(self._get, ((key, only, version) for key in keys), return_errors)

    async def exists_many(self, keys: Iterable[Key], return_errors: bool = False) -> list[Any]:
        """Like Datastore.exists_many()."""
        return await self._many(self._exists, ((key,) for key in keys), return_errors)

    async def replace_many(
        self,
        entities: Iterable[Replacement],
        return_errors: bool = False,
        *,
        if_: Mapping[str, Value] | None = None,
        if_absent: Iterable[str] = (),
        if_kind: int | None = None,
    ) -> list[Any]:
        """Like Datastore.replace_many()."""
        make = maker("replace", if_, if_absent, if_kind)
        return await self._change_many(make, entities, return_errors)

    async def merge_many(
        self,
        changes: Iterable[Merge],
        return_errors: bool = False,
        *,
        if_: Mapping[str, Value] | None = None,
        if_absent: Iterable[str] = (),
        if_kind: int | None = None,
    ) -> list[Any]:
        """Like Datastore.merge_many()."""
        make = maker("merge", if_, if_absent, if_kind)
        return await self._change_many(make, changes, return_errors)

    async def increment_many(
        self,
        changes: Iterable[Increment],
        return_errors: bool = False,
        *,
        if_: Mapping[str, Value] | None = None,
        if_absent: Iterable[str] = (),
        if_kind: int | None = None,
    ) -> list[Any]:
        """Like Datastore.increment_many()."""
        make = maker("increment", if_, if_absent, if_kind)
        return await self._change_many(make, changes, return_errors)

    async def delete_many(
        self,
        keys: Iterable[Key],
        return_errors: bool = False,
        *,
        if_: Mapping[str, Value] | None = None,
        if_absent: Iterable[str] = (),
        if_kind: int | None = None,
    ) -> list[Any]:
        """Like Datastore.delete_many()."""
        make = maker("delete", if_, if_absent, if_kind)
        return await self._change_many(make, keys, return_errors)

    async def change_many(
        self, changes: Iterable[Change], return_errors: bool = False
    ) -> list[Any]:
        """Like Datastore.change_many()."""
        return await self._many(self._change, ((change,) for change in changes), return_errors)

    # ---- finding, counting, following ----

    def find(self, *args: Any, **kwargs: Any) -> Reader:
        """Like Datastore.find(), for `async for`."""
        self._check_open()
        return Reader(self, self._store.find(*args, **kwargs))

    def feed(self, *args: Any, **kwargs: Any) -> Reader:
        """Like Datastore.feed(), for `async for`."""
        self._check_open()
        return Reader(self, self._store.feed(*args, **kwargs))

    async def count(self, *args: Any, **kwargs: Any) -> Count | Counts:
        """Like Datastore.count(). A thread waits for it; cancelling this does not end it."""
        return await self._in_thread(self._store.count, *args, **kwargs)

    async def where(self, shard_id: int) -> str:
        """Like Datastore.where()."""
        return await self._in_thread(self._store.where, shard_id)

    async def explain(self, *args: Any, **kwargs: Any) -> list[Plan]:
        """Like Datastore.explain(). A thread waits for it; cancelling this does not end it."""
        return await self._in_thread(self._store.explain, *args, **kwargs)

    async def locate_shards(self) -> None:
        """Ask all servers which shards they hold: see Datastore.locate_shards()."""
        await self._in_thread(self._store.locate_shards)

    async def config_write(self, path: str | os.PathLike[str] | None = None) -> None:
        """Write that into a configuration file: see Datastore.config_write()."""
        await self._in_thread(self._store.config_write, path)

    async def doctor(
        self, source: str | None = None, target: str | None = None, shard_id: int | None = None
    ) -> list[dict[str, Any]]:
        """Find out what would keep shards from moving: see Datastore.doctor()."""
        return await self._in_thread(self._store.doctor, source, target, shard_id)

    async def move(
        self,
        shard_id: int,
        to: str,
        observer: Callable[[MoveStatus], object] | None = None,
        **options: Any,
    ) -> MoveStatus:
        """Move a shard to a server, and return how it ended; a thread waits for it. If this is
        cancelled, or the observer raises an exception, the move ends where it is, and stays in the
        journals: see Datastore.move_resume()."""
        return await self._moved(self._store.move, observer, shard_id, to, **options)

    async def move_resume(self, shard_id: int, **options: Any) -> MoveStatus:
        """Like Datastore.move_resume(), to the end."""
        return await self._moved(self._store.move_resume, None, shard_id, **options)

    async def move_abort(self, shard_id: int, **options: Any) -> MoveStatus:
        """Like Datastore.move_abort(), to the end."""
        return await self._moved(self._store.move_abort, None, shard_id, **options)

    async def move_undo(self, shard_id: int, **options: Any) -> MoveStatus:
        """Like Datastore.move_undo(), to the end."""
        return await self._moved(self._store.move_undo, None, shard_id, **options)

    async def move_clean(self, shard_id: int, **options: Any) -> MoveStatus:
        """Like Datastore.move_clean(), to the end."""
        return await self._moved(self._store.move_clean, None, shard_id, **options)

    async def moves(self) -> Moves:
        """Like Datastore.moves()."""
        return await self._in_thread(self._store.moves)

    async def moves_sweep(self) -> int:
        """Like Datastore.moves_sweep()."""
        return await self._in_thread(self._store.moves_sweep)

    async def plan(
        self,
        by: str = "size",
        *,
        weight: Mapping[str, float] | None = None,
        drain: str | Iterable[str] = (),
        max_moves: int | None = None,
    ) -> Balance:
        """Like Datastore.plan()."""
        wishes = {"weight": weight, "drain": drain, "max_moves": max_moves}
        return await self._work(self._store.plan, (by,), wishes)

    async def rebalance(
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
        """Like Datastore.rebalance(). If this is cancelled, the moves that were begun stay in the
        journals."""
        check_jobs(jobs)
        self._store._move_check(options_of(options))
        planned = await self.plan(by, weight=weight, drain=drain, max_moves=max_moves)
        waiting = collections.deque(enumerate(planned.moves))
        results: list[Any] = [None] * len(waiting)
        watcher = Watcher(observer)

        async def work() -> None:
            while (turn := take(waiting)) is not None:
                place, move = turn
                try:
                    results[place] = await self.move(move.shard, move.target, watcher, **options)
                except DatastoreError as error:
                    watcher.check(error)
                    results[place] = error

        tasks = [asyncio.ensure_future(work()) for _ in range(min(jobs, len(waiting)))]
        try:
            await asyncio.gather(*tasks)
        finally:  # it may have been cancelled, or the observer has raised an exception
            waiting.clear()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return settle(results, return_errors)

    async def _moved(
        self,
        begin: Callable[..., Move],
        observer: Callable[[MoveStatus], object] | None,
        *args: Any,
        **options: Any,
    ) -> MoveStatus:
        def work(observer: Callable[[MoveStatus], object] | None) -> MoveStatus:
            with begin(*args, **options) as move:
                return move.wait(observer)

        return await self._work(work, (), {"observer": observer})

    async def _in_thread(self, function: Callable[..., _T], *args: Any, **kwargs: Any) -> _T:
        self._check_open()
        result: _T = await self._run(functools.partial(function, *args, **kwargs), None)
        return result

    async def _run(self, call: Callable[[], Any], end: Callable[[], object] | None) -> Any:
        """Wait for a call in a thread, as close() does. If this is cancelled, `end` asks the thread
        to end, which is still waited for; without it, the thread goes on."""
        thread = new_thread()
        try:
            done: asyncio.Future[Any] = self._loop.run_in_executor(thread, call)
        finally:
            thread.shutdown(wait=False)
        self._threads[done] = end
        done.add_done_callback(self._forget_thread)
        return await until_end(done, end)

    def _forget_thread(self, done: asyncio.Future[Any]) -> None:
        self._threads.pop(done, None)

    # ---- work on all shards ----

    # A thread does it. Cancelling it ends the work, and waits for that end. An `observer` is called
    # by the loop.

    def each_shard(self, *args: Any, **kwargs: Any) -> ShardAnswers:
        """Like Datastore.each_shard(), for `async for`."""
        self._check_open()
        return ShardAnswers(self, args, kwargs)

    async def migrate(self, *args: Any, **kwargs: Any) -> Summary:
        """Like Datastore.migrate(). Cancelling this ends the work."""
        return await self._work(self._store.migrate, args, kwargs)

    async def migrate_status(self, *args: Any, **kwargs: Any) -> MigrationStatus:
        """Like Datastore.migrate_status()."""
        return await self._work(self._store.migrate_status, args, kwargs)

    async def migrate_plan(self, *args: Any, **kwargs: Any) -> list[MigrationStep]:
        """Like Datastore.migrate_plan()."""
        return await self._work(self._store.migrate_plan, args, kwargs)

    async def index_create(self, *args: Any, **kwargs: Any) -> Summary:
        """Like Datastore.index_create(). Cancelling this ends the work."""
        return await self._work(self._store.index_create, args, kwargs)

    async def index_drop(self, *args: Any, **kwargs: Any) -> Summary:
        """Like Datastore.index_drop(). Cancelling this ends the work."""
        return await self._work(self._store.index_drop, args, kwargs)

    async def index_list(self, *args: Any, **kwargs: Any) -> list[Index]:
        """Like Datastore.index_list()."""
        return await self._work(self._store.index_list, args, kwargs)

    async def schema_check(self, *args: Any, **kwargs: Any) -> SchemaReport:
        """Like Datastore.schema_check()."""
        return await self._work(self._store.schema_check, args, kwargs)

    async def _work(
        self, function: Callable[..., _T], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> _T:
        self._check_open()
        stop = _hv.Stop()
        observed = Observed(self._loop, kwargs, lambda: stop.set)
        call = functools.partial(function, *args, **observed.put_into(kwargs))
        try:
            result: _T = await self._run(functools.partial(stop.run, call), stop.set)
        except DatastoreError:
            observed.check()
            raise
        observed.check()
        return result

    # ---- transactions ----

    def transaction(
        self,
        shard_id: int,
        *,
        isolation: _hv._Isolation = "read committed",
        timeout: float | None = None,
    ) -> Transaction:
        """Like Datastore.transaction(), for `async with`."""
        self._check_open()
        return Transaction(
            self._store.transaction(shard_id, isolation=isolation, timeout=timeout), new_thread()
        )

    async def run_transaction(
        self,
        shard_id: int,
        function: Callable[[Transaction], Awaitable[_T]],
        *,
        isolation: _hv._Isolation = "read committed",
        timeout: float | None = None,
    ) -> _T:
        """Like Datastore.run_transaction(), for a function whose result is awaited. If this is
        cancelled, so is the function, and the transaction is rolled back."""
        self._check_open()
        self._store._check_transaction()
        running = _Running(self._loop, function)
        work = functools.partial(
            self._store.run_transaction,
            shard_id,
            running.call,
            isolation=isolation,
            timeout=timeout,
        )
        result: _T = await self._run(work, running.cancel)
        return result

    async def _change_many(
        self, make: Callable[[Any], Change], items: Iterable[Any], return_errors: bool
    ) -> list[Any]:
        def begin(item: Any) -> asyncio.Future[Any]:
            return self._change(make(item))

        return await self._many(begin, ((item,) for item in items), return_errors)

    def _put(
        self, where: int | Key, kind: int, attributes: Mapping[str, Value] | None
    ) -> asyncio.Future[Any]:
        return self._add(self._queue.put, where, kind, attributes)

    def _get(self, key: Key, only: Iterable[str] | None, version: bool) -> asyncio.Future[Any]:
        return self._add(self._queue.get, key, only=only, version=version)

    def _exists(self, key: Key) -> asyncio.Future[Any]:
        return self._add(self._queue.exists, key)

    def _change(self, change: Change) -> asyncio.Future[Any]:
        return self._add(self._queue.change, change)

    def _add(self, add: Callable[..., None], *args: Any, **kwargs: Any) -> asyncio.Future[Any]:
        future = self._begin()
        add(future, *args, **kwargs)
        self._waiting.add(future)
        return future

    def _begin(self) -> asyncio.Future[Any]:
        self._check_open()
        return self._loop.create_future()

    def _check_open(self) -> None:
        if self._closing:
            raise closed_error("the session is closed")

    async def _many(
        self,
        begin: Callable[..., asyncio.Future[Any]],
        items: Iterable[tuple[Any, ...]],
        return_errors: bool,
    ) -> list[Any]:
        most, most_bytes = (each * len(self._store.servers) for each in (MOST, MOST_BYTES))
        begun: list[asyncio.Future[Any]] = []
        results: list[Any] = []

        async def wait_for_oldest() -> None:
            try:
                results.append(await begun[len(results)])
            except DatastoreError as error:
                results.append(error)

        try:
            for item in items:
                try:
                    begun.append(begin(*item))
                except DatastoreError as error:
                    begun.append(self._loop.create_future())
                    begun[-1].set_exception(error)
                while len(results) < len(begun) and (
                    self._queue.pending >= most or self._queue.pending_bytes >= most_bytes
                ):
                    await wait_for_oldest()
            while len(results) < len(begun):
                await wait_for_oldest()
        finally:
            for future in begun[len(results) :]:
                forget(future)
        return settle(results, return_errors)

    # ---- the loop's part ----

    def _advance(self) -> None:
        if self._closed:
            return
        try:
            self._queue.deliver(self._settle)
            if self._drained is not None and not self._drained.done() and not self.pending:
                self._drained.set_result(None)
        except BaseException:  # raised by a signal's handler: go on with the rest later
            self._loop.call_soon(_advance, weakref.ref(self))
            raise

    def _settle(self, future: asyncio.Future[Any], result: Any) -> None:
        """Take the result of an operation. This may be called again if it was interrupted."""
        if not future.done():  # otherwise it was cancelled
            if isinstance(result, DatastoreError):
                future.set_exception(result)
            else:
                future.set_result(result)
        self._waiting.discard(future)

    # ---- the end ----

    async def close(self) -> None:
        """Wait for running operations, also those in threads, then end the session. If cancelled,
        do as terminate(). Readers and ShardAnswers are closed at the beginning.

        The function of a run_transaction() cannot await this: that would wait for the function."""
        try:
            self._closing = True
            for reader in tuple(self._readers):
                reader.close()
            for answers in tuple(self._answers):
                await answers.close()
            # The ended ones among them are those that a signal's handler kept from being forgotten.
            if running := [done for done in self._threads if not done.done()]:
                await asyncio.wait(running)
                if self._closed:  # by terminate(), in the meantime
                    raise asyncio.CancelledError
            if self.pending:
                if self._drained is None:
                    self._drained = self._loop.create_future()
                await asyncio.shield(self._drained)
        finally:
            self.terminate()

    def terminate(self) -> None:
        """End the session now: tasks that wait for an operation are cancelled. Writes in flight
        may or may not happen. Transactions of run_transaction() are rolled back, and work on all
        shards ends soon, in its thread."""
        if self._closed:
            return
        # Each step may be repeated: a signal's handler may end this between any two of them.
        self._closing = True
        if not self._loop.is_closed():
            self._loop.remove_reader(self._queue.fileno())
            for future in tuple(self._waiting):
                future.cancel()
            for reader in tuple(self._readers):
                reader._terminate()
            for answers in tuple(self._answers):
                answers._terminate()
            for done, end in tuple(self._threads.items()):
                if end is not None:
                    end()
                done.cancel()
        self._waiting.clear()
        self._threads.clear()
        if self._drained is not None and not self._drained.done():
            self._drained.cancel()
        self._closed = True  # before the descriptor's number may be reused
        self._queue.close()

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def pending(self) -> int:
        """The number of running operations, including those that no task waits for any more."""
        return 0 if self._closed else self._queue.pending

    async def __aenter__(self) -> Session:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    def __del__(self) -> None:
        if not getattr(self, "_closed", True):
            warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self)
            self.terminate()


class Reader:
    """The result of Session.find() and feed(): `async for` iterates over the rows. One task at a
    time may use it.

    Cancelling a task that waits for the next row loses none: iterating goes on with that row. It is
    closed at its end, by close(), by `async with` or the session's end, and when nothing refers to
    it any more.
    """

    def __init__(self, session: Session, reader: _hv.Reader) -> None:
        self._session = session
        self._reader = reader
        self._rows = 0
        self._ready: asyncio.Future[None] | None = None  # while a task waits
        self._watched = -1  # the descriptor that the loop watches for it
        session._readers.add(self)

    def __aiter__(self) -> Reader:
        return self

    async def __anext__(self) -> Row:
        if self._ready is not None:
            raise RuntimeError("the reader is in use by another task")
        self._forget()  # of what a signal's handler has interrupted
        if self._rows % _ROWS == _ROWS - 1:
            self._rows += 1
            await asyncio.sleep(0)
        while True:
            row = self._reader.poll(0)
            if row is not None:
                self._rows += 1
                return row
            if self._reader.ended:
                raise StopAsyncIteration
            await self._wait()

    async def _wait(self) -> None:
        """Wait until poll() has something to do."""
        ready = self._session._loop.create_future()
        self._ready = ready
        try:
            self._watched = self._reader.fileno()
            self._session._loop.add_reader(self._watched, _wake, ready)
            await ready
        finally:
            if self._ready is ready:
                self._forget()
            self._ready = None

    def _forget(self) -> None:
        """The loop stops watching the descriptor, which is still open."""
        if self._watched >= 0 and not self._session._loop.is_closed():
            self._session._loop.remove_reader(self._watched)
        self._watched = -1

    def close(self) -> None:
        """End it at any point. A task that waits for its next row gets a PoolError."""
        self._forget()
        self._reader.close()
        if self._ready is not None and not self._ready.done():
            self._ready.set_exception(closed_error("the reader is closed"))

    def _terminate(self) -> None:
        """Like close(), but a task that waits is cancelled."""
        if self._ready is not None:
            self._ready.cancel()
        self.close()

    @property
    def missing(self) -> list[DatastoreError]:
        """Like that of a Datastore's reader, as the others."""
        return self._reader.missing

    @property
    def ended(self) -> bool:
        return self._reader.ended

    @property
    def closed(self) -> bool:
        return self._reader.closed

    @property
    def position(self) -> int:
        return self._reader.position

    @property
    def holder(self) -> DatastoreError | None:
        return self._reader.holder

    @property
    def behind(self) -> float | None:
        return self._reader.behind

    async def __aenter__(self) -> Reader:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_watched", -1) >= 0:
            self.close()


class Transaction:
    """A transaction in one shard: the result of Session.transaction(), and the argument of
    run_transaction()'s function. Its operations are those of a Datastore, to be awaited.

    A thread of its own does what it is asked for, one thing after the other.
    """

    def __init__(
        self, transaction: _hv.Transaction, thread: concurrent.futures.ThreadPoolExecutor
    ) -> None:
        self._transaction = transaction
        self._thread: concurrent.futures.ThreadPoolExecutor | None = thread

    async def put(self, *args: Any, **kwargs: Any) -> Key:
        """Like Datastore.put()."""
        return await self._do(self._transaction.put, *args, **kwargs)

    async def put_key(self, *args: Any, **kwargs: Any) -> None:
        """Like Datastore.put_key()."""
        await self._do(self._transaction.put_key, *args, **kwargs)

    async def get(self, *args: Any, **kwargs: Any) -> Row | None:
        """Like Datastore.get()."""
        return await self._do(self._transaction.get, *args, **kwargs)

    async def exists(self, *args: Any, **kwargs: Any) -> bool:
        """Like Datastore.exists()."""
        return await self._do(self._transaction.exists, *args, **kwargs)

    async def replace(self, *args: Any, **kwargs: Any) -> bool:
        """Like Datastore.replace()."""
        return await self._do(self._transaction.replace, *args, **kwargs)

    async def merge(self, *args: Any, **kwargs: Any) -> bool:
        """Like Datastore.merge()."""
        return await self._do(self._transaction.merge, *args, **kwargs)

    async def increment(self, *args: Any, **kwargs: Any) -> int | Decimal | None:
        """Like Datastore.increment()."""
        return await self._do(self._transaction.increment, *args, **kwargs)

    async def delete(self, *args: Any, **kwargs: Any) -> bool:
        """Like Datastore.delete()."""
        return await self._do(self._transaction.delete, *args, **kwargs)

    async def run(self, function: Callable[[_hv.Transaction], _T]) -> _T:
        """Call a function that blocks, with the Datastore's Transaction: for SQL with a cursor."""
        return await self._do(function, self._transaction)

    @property
    def call(self) -> int:
        """The number of this call of the function of run_transaction(), from 1."""
        return self._transaction.call

    async def _do(self, function: Callable[..., _T], *args: Any, **kwargs: Any) -> _T:
        call = functools.partial(function, *args, **kwargs)
        if self._thread is None:
            return call()  # an error, at once: the transaction is over
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    async def _finish(self, function: Callable[..., object], *args: Any) -> None:
        """Let the thread do one thing more, which happens even if waiting for it is cancelled."""
        if self._thread is None:
            function(*args)
            return
        last = asyncio.get_running_loop().run_in_executor(self._thread, function, *args)
        self._end()
        try:
            await asyncio.shield(last)
        except asyncio.CancelledError:
            last.add_done_callback(forget)
            raise

    def _end(self) -> None:
        if self._thread is not None:
            self._thread.shutdown(wait=False)
        self._thread = None

    def _give_up(self, error: BaseException) -> None:
        with contextlib.suppress(DatastoreError):  # it has not begun
            self._transaction.__exit__(type(error), error, None)

    async def __aenter__(self) -> Transaction:
        self._transaction._claim()
        try:
            await self._do(self._transaction.__enter__)
        except BaseException as error:
            await self._finish(self._give_up, error)
            raise
        return self

    async def __aexit__(self, *exc: Any) -> None:
        await self._finish(self._transaction.__exit__, *exc)


class _Running:
    """Calls a function of a loop from another thread, for Datastore.run_transaction()."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, function: Callable[[Transaction], Awaitable[Any]]
    ) -> None:
        self._loop = loop
        self._function = function
        self._future: concurrent.futures.Future[Any] | None = None
        self._cancelled = False

    def call(self, transaction: _hv.Transaction) -> Any:
        if self._cancelled:
            raise asyncio.CancelledError
        future = asyncio.run_coroutine_threadsafe(self._call(transaction), self._loop)
        self._future = future
        if self._cancelled:  # meanwhile
            future.cancel()
        while not concurrent.futures.wait([future], _CHECK_LOOP).done:
            if not self._loop.is_running():  # it has ended, perhaps with the program
                raise asyncio.CancelledError
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise asyncio.CancelledError from None

    async def _call(self, transaction: _hv.Transaction) -> Any:
        transaction._claim()
        own = Transaction(transaction, new_thread())
        try:
            return await self._function(own)
        finally:
            own._end()

    def cancel(self) -> None:
        self._cancelled = True
        if self._future is not None:
            self._future.cancel()


def _advance(session: weakref.ref[Session]) -> None:
    """The loop's callback."""
    alive = session()
    if alive is not None:
        alive._advance()


def _wake(ready: asyncio.Future[None]) -> None:
    """The loop's callback for a reader."""
    if not ready.done():
        ready.set_result(None)


def _both(
    attributes: Mapping[str, Value] | None, kwargs: Mapping[str, Value]
) -> Mapping[str, Value] | None:
    return {**(attributes or {}), **kwargs} if kwargs else attributes
