"""Threads that work for an event loop: for hv.aio."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import functools
import weakref
from typing import TYPE_CHECKING, Any, Callable, TypeVar

from . import _hv
from ._hv import DatastoreError, PoolError
from ._work import RolloutEvent, ShardAnswer, Summary

if TYPE_CHECKING:
    from .aio import Session

_T = TypeVar("_T")


def new_thread() -> concurrent.futures.ThreadPoolExecutor:
    """A thread that does one thing after the other. It starts with the first."""
    return concurrent.futures.ThreadPoolExecutor(1, "hv")


def closed_error(message: str) -> PoolError:
    error = PoolError(message)
    error.status, error.message = "HV_CLOSED", str(error)
    return error


async def until_end(done: asyncio.Future[_T], end: Callable[[], object] | None) -> _T:
    """Wait for a thread. If this is cancelled, `end` asks the thread to end, which is still waited
    for; without it, the thread goes on. If `done` is cancelled, nothing is waited for."""
    try:
        return await asyncio.shield(done)
    except asyncio.CancelledError:
        done.add_done_callback(forget)
        if end is not None:
            end()
            await asyncio.wait([done])
        raise


def forget(future: asyncio.Future[Any]) -> None:
    """Drop a future whose result is not wanted any more."""
    if not future.cancel() and not future.cancelled():
        future.exception()  # or asyncio would complain that it was never retrieved


class Observed:
    """The observer of work in a thread, which the loop calls. When it raises an exception, the work
    is ended, and check() raises it."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        kwargs: dict[str, Any],
        end: Callable[[], Callable[[], object] | None],  # a weak reference, or the like
    ) -> None:
        self._loop = loop
        self._end = end
        self._observer = kwargs.get("observer")
        self._failure: Exception | None = None

    def put_into(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        """The same arguments for the thread."""
        return {**kwargs, "observer": self._tell} if callable(self._observer) else kwargs

    def _tell(self, event: RolloutEvent) -> None:
        """In the thread."""
        self._loop.call_soon_threadsafe(self._observe, event)

    def _observe(self, event: RolloutEvent) -> None:
        if self._failure is not None:
            return
        try:
            self._observer(event)  # type: ignore[misc]
        except BaseException as failure:
            end = self._end()
            if end is not None:
                end()
            if not isinstance(failure, Exception):
                raise
            self._failure = failure

    def check(self) -> None:
        if self._failure is not None:
            raise self._failure


class ShardAnswers:
    """The result of Session.each_shard(): `async for` iterates over the answers, for which a thread
    waits. One task at a time may use it.

    All work ends when a task that waits for the next answer is cancelled, with close(), `async with`
    or the session, and when nothing refers to it any more. terminate() of the session cancels the
    task that waits.
    """

    __module__ = "hv.aio"  # where it can be imported from

    def __init__(self, session: Session, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._session = session
        self._observed = Observed(session._loop, kwargs, weakref.WeakMethod(self._stop_waiting))
        kwargs = self._observed.put_into(kwargs)
        self._open = functools.partial(session._store.each_shard, *args, **kwargs)
        self._answers: _hv.ShardAnswers | None = None  # the thread sets it
        self._thread = new_thread()
        self._stop: _hv.Stop | None = None  # while a task waits
        self._next_done: asyncio.Future[Any] | None = None  # what it waits for
        self._closing: asyncio.Future[None] | None = None
        self._ended = False
        session._answers.add(self)

    def __aiter__(self) -> ShardAnswers:
        return self

    async def __anext__(self) -> ShardAnswer:
        if self._stop is not None:
            raise RuntimeError("the answers are in use by another task")
        answer = None if self._ended else await self._wait()
        if answer is None:
            self._ended = True
            await self.close()
            raise StopAsyncIteration
        return answer

    async def _wait(self) -> ShardAnswer | None:
        self._observed.check()
        if self._closing is not None:
            raise closed_error("the answers are closed")
        stop = self._stop = _hv.Stop()
        try:
            done: asyncio.Future[Any]
            done = self._session._loop.run_in_executor(self._thread, stop.run, self._next)
            self._next_done = done
            answer: ShardAnswer | None = await until_end(done, stop.set)
            return answer
        except BaseException as error:
            was_closed = self._closing is not None
            await self.close()
            if isinstance(error, DatastoreError):
                self._observed.check()
                if was_closed:
                    raise closed_error("the answers are closed") from None
            raise
        finally:
            self._stop = self._next_done = None

    def _next(self) -> ShardAnswer | None:
        """In the thread."""
        if self._answers is None:
            self._answers = self._open()
        return next(self._answers, None)

    def _stop_waiting(self) -> None:
        if self._stop is not None:
            self._stop.set()
        else:
            self._end()

    def _end(self) -> asyncio.Future[None]:
        """Let the thread end all work."""
        if self._closing is None:
            self._closing = self._session._loop.run_in_executor(self._thread, self._close)
            self._thread.shutdown(wait=False)
            if self._stop is not None:
                self._stop.set()
        return self._closing

    def _terminate(self) -> None:
        """Let the thread end all work; a task that waits is cancelled."""
        self._end()
        if self._next_done is not None:
            self._next_done.cancel()

    def _close(self) -> None:
        """In the thread."""
        if self._answers is not None:
            self._answers.close()

    async def close(self) -> None:
        """End it at any point: statements that are running are cancelled. A task that waits for the
        next answer gets a PoolError."""
        await asyncio.shield(self._end())

    @property
    def summary(self) -> Summary:
        """Like that of a Datastore's ShardAnswers, while no task waits."""
        return Summary() if self._answers is None else self._answers.summary

    async def __aenter__(self) -> ShardAnswers:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    def __del__(self) -> None:
        if getattr(self, "_closing", self) is None:
            if self._answers is not None:
                with contextlib.suppress(RuntimeError):  # at the interpreter's end
                    self._thread.submit(self._answers.close)
            self._thread.shutdown(wait=False)
