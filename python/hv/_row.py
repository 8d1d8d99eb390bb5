"""The class of rows, which the C part makes."""

from __future__ import annotations

from typing import Any

from psycopg2.extras import DictRow


class Row(DictRow):
    """An entity: row[0] is row['id'], row[1] row['type'], row[2] row['body']. A psycopg2 DictRow
    that may have a ``version`` as well."""

    __slots__ = ("_version",)
    __module__ = "hv.entity"  # where it can be imported from

    _index: dict[str, int]
    _version: str

    @property
    def version(self) -> str:
        """A short text that differs after every change of the entity: for ``if_version``. Only
        rows that were fetched with ``version=True`` have one, and those of ChangedError."""
        try:
            return self._version
        except AttributeError:
            raise AttributeError(
                "the version of this row was not fetched: use get(key, version=True)"
            ) from None

    def __getstate__(self) -> Any:
        return self[:], self._index.copy(), getattr(self, "_version", None)

    def __setstate__(self, state: Any) -> None:
        values, index, version = state
        self[:], self._index = values, index
        if version is not None:
            self._version = version
