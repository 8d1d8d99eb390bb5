"""Entities for asyncio: many operations of one event loop at once, without threads.

    async with aio.Session(db) as session:
        key = await session.put(12, 1, {"beep": "boop"})
        row = await session.get(key)
"""

from __future__ import annotations

import asyncio
import warnings
import weakref
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Callable, Iterable, Mapping

from ._hv import DatastoreError, Key, KeyTypeError, PoolError, Queue
from ._many import MOST, MOST_BYTES, Increment, Merge, Replacement, maker, names, settle
from .entity import Change, Row, Value

if TYPE_CHECKING:
    from .datastore import Datastore

__all__ = ["Session"]


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
        if self._closing:
            error = PoolError("the session is closed")
            error.status, error.message = "HV_CLOSED", str(error)
            raise error
        return self._loop.create_future()

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
                _forget(future)
        return settle(results, return_errors)

    # ---- the loop's part ----

    def _advance(self) -> None:
        if self._closed:
            return
        try:
            self._queue.deliver(self._settle)
            if self._drained is not None and not self._queue.pending and not self._drained.done():
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
        """Wait for running operations, then end the session. If cancelled, end it at once."""
        try:
            self._closing = True
            if not self._closed and self._queue.pending:
                if self._drained is None:
                    self._drained = self._loop.create_future()
                await asyncio.shield(self._drained)
        finally:
            self.terminate()

    def terminate(self) -> None:
        """End the session now: tasks that wait for an operation are cancelled. Writes in flight
        may or may not happen."""
        if self._closed:
            return
        # Each step may be repeated: a signal's handler may end this between any two of them.
        self._closing = True
        if not self._loop.is_closed():
            self._loop.remove_reader(self._queue.fileno())
            for future in tuple(self._waiting):
                future.cancel()
        self._waiting.clear()
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


def _advance(session: weakref.ref[Session]) -> None:
    """The loop's callback."""
    alive = session()
    if alive is not None:
        alive._advance()


def _both(
    attributes: Mapping[str, Value] | None, kwargs: Mapping[str, Value]
) -> Mapping[str, Value] | None:
    return {**(attributes or {}), **kwargs} if kwargs else attributes


def _forget(future: asyncio.Future[Any]) -> None:
    """Drop a future whose result is not wanted any more."""
    if not future.cancel() and not future.cancelled():
        future.exception()  # or asyncio would complain that it was never retrieved
