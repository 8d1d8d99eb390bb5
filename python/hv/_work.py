"""What work on all shards returns; the C part makes them."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Mapping, NamedTuple, Sequence, Tuple

if TYPE_CHECKING:
    from ._hv import DatastoreError


class RolloutEvent(NamedTuple):
    """One thing that has happened: what ``observer`` is called with.

    ``work`` is 'running', 'waiting', 'done', 'unchanged' or 'failed'; ``step`` says for people what
    is being done, ``share`` how much of it (0 to 1), ``waits_for`` what it waits for."""

    server: str
    shard: int | None
    work: str
    step: str | None
    waits_for: str | None
    share: float | None
    error: DatastoreError | None


class ShardWork(NamedTuple):
    """What has become of a shard: ``work`` is 'done', 'unchanged', 'failed' with an ``error``, or
    'not begun'. Without a shard it is a server."""

    server: str
    shard: int | None
    work: str
    error: DatastoreError | None


class Summary(Tuple[ShardWork, ...]):
    """What has become of each shard: a tuple of ShardWork, in ascending order."""

    __slots__ = ()

    @property
    def done(self) -> list[ShardWork]:
        """Those that were changed, or have answered."""
        return self._of("done")

    @property
    def unchanged(self) -> list[ShardWork]:
        """Those where there was nothing to do."""
        return self._of("unchanged")

    @property
    def failed(self) -> list[ShardWork]:
        """Those that failed, each with its error."""
        return self._of("failed")

    @property
    def not_begun(self) -> list[ShardWork]:
        """Those whose turn did not come."""
        return self._of("not begun")

    def _of(self, work: str) -> list[ShardWork]:
        return [each for each in self if each.work == work]

    def __repr__(self) -> str:
        counts: dict[str, int] = {}
        for each in self:
            counts[each.work] = counts.get(each.work, 0) + 1
        return f"<Summary: {', '.join(f'{n} {work}' for work, n in counts.items()) or 'nothing'}>"


class ShardAnswer:
    """One shard's answer to each_shard().

    ``work`` is 'done', 'failed' with an ``error``, or 'unchanged': the SQL of this name was run on
    the shard before. ``columns`` are the names of the last statement's columns, ``rowcount`` is the
    number of rows that it returned or changed, -1 if it has none."""

    __slots__ = (
        "_server", "_shard", "_work", "_error", "_columns", "_rowcount", "_oids", "_values",
        "_caster", "_rows",
    )  # fmt: skip

    def __init__(
        self,
        server: str,
        shard: int | None,
        work: str,
        error: DatastoreError | None,
        columns: tuple[str, ...],
        rowcount: int,
        oids: tuple[int, ...],
        values: Sequence[tuple[bytes | None, ...]],
        caster: Any,
    ) -> None:
        self._server, self._shard, self._work, self._error = server, shard, work, error
        self._columns, self._rowcount = columns, rowcount
        self._oids, self._values, self._caster = oids, values, caster
        self._rows: list[tuple[Any, ...]] | None = None

    @property
    def server(self) -> str:
        return self._server

    @property
    def shard(self) -> int | None:
        """None: the answer of the server as a whole."""
        return self._shard

    @property
    def work(self) -> str:
        return self._work

    @property
    def error(self) -> DatastoreError | None:
        return self._error

    @property
    def columns(self) -> tuple[str, ...]:
        return self._columns

    @property
    def rowcount(self) -> int:
        return self._rowcount

    @property
    def rows(self) -> list[tuple[Any, ...]]:
        """The rows of the last statement, with the types that a cursor returns. Raises the error of
        a shard that failed."""
        if self._error is not None:
            raise self._error
        if self._rows is None:
            self._rows = [self._cast(values) for values in self._values]
            self._values = ()
        return self._rows

    def _cast(self, values: tuple[bytes | None, ...]) -> tuple[Any, ...]:
        return tuple(map(self._caster.cast, self._oids, values))

    def __repr__(self) -> str:
        where = f"server {self._server!r}" if self._shard is None else f"shard {self._shard}"
        what = f": {self._error.message}" if self._error is not None else ""
        if self._error is None and self._rowcount >= 0:
            what = f", {self._rowcount} row{'' if self._rowcount == 1 else 's'}"
        return f"<ShardAnswer: {where}, {self._work}{what}>"


class MigrationState(NamedTuple):
    """A file in a shard: ``state`` is 'pending', 'done', 'changed' (done, but with another digest
    than the file has now), 'interrupted' (without a transaction, and not all of its statements are
    done) or 'no file' (done, but the directory does not have it). ``applied_at`` is in UTC."""

    state: str
    digest: str | None
    applied_at: datetime | None


class ShardMigrations(NamedTuple):
    """The migrations of a shard, by the files' names; none if there was an ``error``."""

    server: str
    shard: int
    files: Mapping[str, MigrationState]
    error: DatastoreError | None

    @property
    def complete(self) -> bool:
        """Has it all files, as they are now?"""
        return self.error is None and all(each.state == "done" for each in self.files.values())


class MigrationStatus(NamedTuple):
    """The migrations of all shards: the names of the files, and a ShardMigrations for each shard."""

    files: tuple[str, ...]
    shards: tuple[ShardMigrations, ...]

    @property
    def complete(self) -> bool:
        """Have all shards all files, as they are now?"""
        return all(each.complete for each in self.shards)

    def __repr__(self) -> str:
        complete = sum(each.complete for each in self.shards)
        return (
            f"<MigrationStatus: {len(self.files)} files, "
            f"{complete} of {len(self.shards)} shards complete>"
        )


class MigrationStep(NamedTuple):
    """A statement of a migration before it is run: how many shards need it, the strongest ``lock``
    that it takes and on which ``relation``, whether it writes the whole table anew or reads it, and
    that table's size where it is largest. None: not known."""

    file: str
    line: int
    statement: str
    shards: int
    lock: str | None
    relation: str | None
    rewrites: bool
    reads: bool
    bytes: int | None
    warning: str | None


class Index(NamedTuple):
    """An index of the tables entities: the numbers of shards that have it (``shards``), that lack
    it, and so on; shards as text, ``'1-9,12'``."""

    name: str
    definition: str
    shards: int
    missing: int
    invalid: int
    building: int
    different: int
    bytes: int
    scans: int
    missing_in: str
    invalid_in: str
    different_in: str


class SchemaGroup(NamedTuple):
    """Shards with the same schema: ``size`` is how many. ``differences`` has the lines of the largest group's description
    that this one lacks, with ``-``, and its own, with ``+``."""

    size: int
    shards: str
    digest: str
    description: str
    differences: str

    def __repr__(self) -> str:
        return f"<SchemaGroup: shards {self.shards}, {self.digest[:12]}>"


class SchemaReport(NamedTuple):
    """The schemas of all shards: groups of those that are alike, the largest first, and a
    DatastoreError for each shard that could not be read."""

    groups: tuple[SchemaGroup, ...]
    failures: tuple[DatastoreError, ...]

    @property
    def alike(self) -> bool:
        """Were all shards read, and do all have the same schema?"""
        return len(self.groups) <= 1 and not self.failures

    def __repr__(self) -> str:
        return f"<SchemaReport: {len(self.groups)} groups, {len(self.failures)} failures>"


# Where they can be imported from. (A NamedTuple does not take it in its body.)
for _class in (
    RolloutEvent, ShardWork, Summary, ShardAnswer, MigrationState, ShardMigrations, MigrationStatus,
    MigrationStep, Index, SchemaGroup, SchemaReport,
):  # fmt: skip
    _class.__module__ = "hv.datastore"
