"""Many operations at once from one thread: a queue that is filled and emptied in turn."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, Callable, Iterable, Iterator, Mapping, Tuple, Union

from ._hv import Change, DatastoreError, Key, Queue
from .entity import Value

if TYPE_CHECKING:
    from .datastore import Datastore

# The items of many changes.
_Attributes = Union[Mapping[str, Value], None]
Replacement = Tuple[Key, int, _Attributes]
Merge = Union[Tuple[Key, _Attributes], Tuple[Key, _Attributes, Iterable[str]]]
Increment = Union[Tuple[Key, str], Tuple[Key, str, Union[int, Decimal, str]]]

# For each server: the most operations in flight, and the most bytes of their attributes.
MOST = 2048
MOST_BYTES = 4 << 20


def put_stream(store: Datastore, entities: Iterable[Any]) -> Iterator[tuple[int, Any]]:
    def put(queue: Queue, position: int, entity: Any) -> None:
        where, kind, attributes = entity
        queue.put(position, where, kind, attributes)

    return _stream(store, entities, put)


def get_stream(
    store: Datastore, keys: Iterable[Key], only: Iterable[str] | None, version: bool
) -> Iterator[tuple[int, Any]]:
    only = names(only)

    def get(queue: Queue, position: int, key: Key) -> None:
        queue.get(position, key, only=only, version=version)

    return _stream(store, keys, get)


def exists_stream(store: Datastore, keys: Iterable[Key]) -> Iterator[tuple[int, Any]]:
    return _stream(store, keys, Queue.exists)


def change_stream(
    store: Datastore, items: Iterable[Any], make: Callable[[Any], Change] | None = None
) -> Iterator[tuple[int, Any]]:
    """`make` makes Changes of the items, unless they are Changes."""

    def change(queue: Queue, position: int, item: Any) -> None:
        queue.change(position, item if make is None else make(item))

    return _stream(store, items, change)


def maker(
    verb: str, if_: Mapping[str, Value] | None, if_absent: Iterable[str], if_kind: int | None
) -> Callable[[Any], Change]:
    """A function that makes a Change of a tuple of the verb's arguments, or of a key to delete."""
    change: Callable[..., Change] = getattr(Change, verb)
    condition = {"if_": if_, "if_absent": names(if_absent), "if_kind": if_kind}
    if verb == "delete":
        return lambda key: change(key, **condition)
    return lambda item: change(*item, **condition)


def names(given: Iterable[str] | None) -> Iterable[str] | None:
    """Names that can be read once for each operation. (A str is refused where it is used.)"""
    return given if given is None or isinstance(given, str) else tuple(given)


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
