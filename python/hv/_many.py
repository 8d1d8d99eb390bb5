"""Many operations at once from one thread: a queue that is filled and emptied in turn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Iterable, Iterator

from ._hv import DatastoreError, Key, Queue

if TYPE_CHECKING:
    from .datastore import Datastore

# For each server: the most operations in flight, and the most bytes of their attributes.
MOST = 2048
MOST_BYTES = 4 << 20


def put_stream(store: Datastore, entities: Iterable[Any]) -> Iterator[tuple[int, Any]]:
    def put(queue: Queue, position: int, entity: Any) -> None:
        where, kind, attributes = entity
        queue.put(position, where, kind, attributes)

    return _stream(store, entities, put)


def get_stream(store: Datastore, keys: Iterable[Key]) -> Iterator[tuple[int, Any]]:
    return _stream(store, keys, Queue.get)


def exists_stream(store: Datastore, keys: Iterable[Key]) -> Iterator[tuple[int, Any]]:
    return _stream(store, keys, Queue.exists)


def _stream(store: Datastore, items: Iterable[Any], add: Any) -> Iterator[tuple[int, Any]]:
    most, most_bytes = MOST * len(store.servers), MOST_BYTES * len(store.servers)
    with Queue(store) as queue:
        for position, item in enumerate(items):
            try:
                add(queue, position, item)
            except DatastoreError as error:
                yield position, error
            while queue.pending >= most or queue.pending_bytes >= most_bytes:
                yield from queue.advance()
        while queue.pending:
            yield from queue.advance()


def collect(stream: Iterator[tuple[int, Any]], return_errors: bool) -> list[Any]:
    """The results of all operations, in order."""
    found = dict(stream)
    return settle([found[position] for position in range(len(found))], return_errors)


def settle(results: list[Any], return_errors: bool) -> list[Any]:
    """Return the results, or raise the first error among them unless errors are to be returned."""
    if not return_errors:
        for result in results:
            if isinstance(result, DatastoreError):
                result.results = results  # type: ignore[attr-defined]
                raise result
    return results
