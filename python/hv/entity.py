"""Entities' keys and rows, the values of their attributes, and changes."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Union

from psycopg2 import extensions

from . import _hv
from ._hv import DEFAULT_EPOCH, Change, Key
from ._row import Row

__all__ = ["DEFAULT_EPOCH", "Change", "Key", "Row", "Value", "key_bound"]

# An attribute's value; str or None when it is fetched again.
Value = Union[str, int, float, bool, None]

# psycopg2 writes a key into a statement as its number.
extensions.register_adapter(Key, extensions.Int)

_UNIX = datetime(1970, 1, 1, tzinfo=timezone.utc)


def key_bound(created: datetime, epoch: int = DEFAULT_EPOCH) -> int:
    """The bound for scanning by time: entities made at or after ``created`` have an id of at least
    this. A datetime without a time zone is UTC."""
    if created.tzinfo is None:
        created = created.replace(tzinfo=timezone.utc)
    since = created - _UNIX
    return _hv.key_bound((since.days * 86400 + since.seconds) * 1000 + since.microseconds // 1000, epoch)
