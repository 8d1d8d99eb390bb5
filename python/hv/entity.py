"""Entities' keys and rows, the values of their attributes, and changes."""

from __future__ import annotations

from typing import Union

from psycopg2 import extensions

from ._hv import DEFAULT_EPOCH, Change, Key, key_bound
from ._row import Row

__all__ = ["DEFAULT_EPOCH", "Change", "Key", "Row", "Value", "key_bound"]

# An attribute's value; str or None when it is fetched again.
Value = Union[str, int, float, bool, None]

# psycopg2 writes a key into a statement as its number.
extensions.register_adapter(Key, extensions.Int)
