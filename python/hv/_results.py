"""What counting and explaining return; the C part makes them."""

from __future__ import annotations

import contextlib
from datetime import datetime, timedelta, timezone, tzinfo
from typing import TYPE_CHECKING, Any, Iterable, Mapping, NamedTuple
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    from ._hv import DatastoreError


class Count(int):
    """A number of entities. ``missing`` has a DatastoreError for each server or shard that was left
    out."""

    __module__ = "hv.datastore"  # where it can be imported from

    missing: list[DatastoreError]

    def __new__(cls, number: int, missing: Iterable[DatastoreError] = ()) -> Count:
        self = super().__new__(cls, number)
        self.missing = list(missing)
        return self


class Counts(dict[Any, int]):
    """Numbers of entities by group, in ascending order. ``total`` is their sum; ``missing`` has a
    DatastoreError for each server or shard that was left out."""

    __module__ = "hv.datastore"

    missing: list[DatastoreError]

    def __init__(
        self,
        groups: Mapping[Any, int] = {},
        missing: Iterable[DatastoreError] = (),
        zone: str | None = None,
    ) -> None:
        super().__init__(groups if zone is None else _in_zone(groups, zone))
        self.missing = list(missing)

    @property
    def total(self) -> int:
        return sum(self.values())


class Plan(NamedTuple):
    """How a shard would be read."""

    shard: int
    plan: str
    warning: str | None


Plan.__module__ = "hv.datastore"  # a NamedTuple does not take it in its body


def _in_zone(groups: Mapping[datetime, int], name: str) -> dict[datetime, int]:
    """Moments in a time zone. PostgreSQL knows some that Python does not: then in UTC.

    Each has the zone's offset of its own moment. With the zone itself Python takes the two hours that
    are called 2 when summer time ends for the same key."""
    zone: tzinfo = timezone.utc
    with contextlib.suppress(ValueError, OSError, KeyError):  # ZoneInfoNotFoundError is a KeyError
        zone = ZoneInfo(name)
    return {_with_offset(moment, zone): count for moment, count in groups.items()}


def _with_offset(moment: datetime, zone: tzinfo) -> datetime:
    local = moment.replace(tzinfo=timezone.utc).astimezone(zone)
    offset = local.utcoffset() or timedelta()
    return local.replace(tzinfo=timezone(offset, local.tzname() or ""), fold=0)
