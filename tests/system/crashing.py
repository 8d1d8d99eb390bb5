"""What the crash tests of moves share: the places that a move comes to, what is done to a shard, and
what must hold afterwards.

All cases run with HV_TEST_CRASHES=all, one in five with HV_TEST_CRASHES=5; otherwise few, always the
same.
"""

import os
import zlib

from harness.moving import (
    Stepping,
    Writer,
    assert_nothing_left,
    fill,
    fill_large,
    has_shard,
    locations,
    run_move,
    structure,
)

CRASHES = os.environ.get("HV_TEST_CRASHES", "")
ENDS = ("resume", "abort")

# ---- the places that a move comes to ----

# Before a step is written down, and when it is in one of both journals.
BEFORE, ROWS = "before the rows", "between the rows"
STREAM = ("remains: unsubscribed", "remains: no slot")
ALL = (*STREAM, *STREAM, "remains: no streams")  # that may have been made


def step(name, *inside):
    return (BEFORE, ROWS, name, *inside)


FENCE = (
    *step("ready", "ready: tried", ROWS),
    *step("switching"),
    *("fence: locked", "fence: arrived", "fence: before commit", "fence: after commit"),
    *(BEFORE, "switched", "switched: published"),
)
BEGIN = ("looking", ROWS, *step("begun"), *step("schema", *ALL, "schema: dumped"))
LATE_KEYS = ("late keys: in line", "late keys: sent")
STREAMING = step("streaming", "streaming: published", "streaming: slot")
INDEXING = step("indexing", "indexing: sent")
COPY = (*STREAMING, *step("copying"), *INDEXING)
LARGE_COPY = (*STREAMING, *step("copying", *LATE_KEYS), *INDEXING)
APPROACH = (*step("catching_up"), *step("verifying"))
OFFLINE = (*step("copying", "offline: locked"), *INDEXING)
END = (*step("cleaning", *ALL), "done", ROWS)
KEEP = (*step("returning", *STREAM), *step("cleaning", *STREAM), *step("kept"))
ABORT = ("looking", *step("aborting", "aborting: restored"))


def numbered(places):
    """The second time that it comes to a place is "place#2"."""
    seen = {}
    for place in places:
        seen[place] = seen.get(place, 0) + 1
        yield place if seen[place] == 1 else f"{place}#{seen[place]}"


class Story:
    """What is done to a shard that is on server one. `before` comes before the crash; `resumed` is
    the place from which on resuming goes forward, and `committed` that from which on taking back
    does not go back any more. `goal` is where it ends if it goes forward, `start` if it does not.
    With `only` it is a story like another one, but for these places, of a large table."""

    def __init__(
        self, places, *, before=(), order, resumed, committed=None, start, goal, only=None, **options
    ):
        self.places = list(numbered(places))
        self.crashes_at = list(only or self.places)
        self._is_large = only is not None
        self.before, self.order, self.options = before, order, options
        self.start, self.goal = start, goal
        self._resumed = self.places.index(resumed)
        self._committed = self.places.index(committed) if committed else len(self.places)

    def fill(self, database):
        fill(database, 3, 200)
        if self._is_large:
            fill_large(database, 3)
            database.sql("""
                CREATE FUNCTION shard0003.slow() RETURNS boolean LANGUAGE sql AS
                    'SELECT true FROM pg_catalog.pg_sleep(0.002)';
                ALTER TABLE shard0003.entities
                    ADD CHECK (CASE WHEN type < 4000 THEN true ELSE shard0003.slow() END);
                ANALYZE shard0003.entities
            """)  # the end of the copy lasts for two seconds

    def prepare(self, config):
        for order, at, options in self.before:
            moved = run_move(config, order, 3, 1 if order == "move" else None, at=at, **options)
            assert moved.result.code == (-9 if at else 0), moved

    def run(self, config, **how):
        return run_move(config, self.order, 3, self._target, **how, **self.options)

    def stepping(self, config, place):
        return Stepping(
            config, self.order, 3, self._target, place=place, max_wait="60s", **self.options
        )

    @property
    def _target(self):
        return 1 if self.order == "move" else None

    def ends_at(self, place, how):
        """The number of the server that has the shard then."""
        at = self.places.index(place)
        forward = at >= (self._committed if how == "abort" else self._resumed)
        return self.goal if forward else self.start


KEPT = ("move", {}, {"keep_undo": "1h"})
STOPPED = ("move", {"fence: before commit": "kill"}, {"keep_undo": "1h"})
STORIES = {
    "move": Story(
        (*BEGIN, *COPY, *APPROACH, *FENCE, *END),
        order="move", start=0, goal=1, resumed=BEFORE, committed="fence: after commit",
    ),
    "large": Story(
        (*BEGIN, *LARGE_COPY, *APPROACH, *FENCE, *END),
        order="move", start=0, goal=1, resumed=BEFORE, committed="fence: after commit",
        only=LATE_KEYS,
    ),
    "keep": Story(
        (*BEGIN, *COPY, *APPROACH, *FENCE, *KEEP),
        order="move", start=0, goal=1, resumed=BEFORE, committed="fence: after commit",
        keep_undo="1h",
    ),
    "undo": Story(
        ("looking", *APPROACH, *FENCE, *END),
        before=[KEPT],
        order="undo", start=1, goal=0, resumed="catching_up", committed="fence: after commit",
    ),
    "offline": Story(
        (*BEGIN, *OFFLINE, *APPROACH, *FENCE, *END),
        order="move", start=0, goal=1, resumed=BEFORE, committed="fence: after commit",
        offline="on",
    ),
    "clean": Story(
        ("looking", *END), before=[KEPT], order="clean", start=1, goal=1, resumed="looking",
    ),
    # What is taken back is, until that is in both journals, a move that may still be resumed.
    "abort": Story(
        (*ABORT, *ALL, ROWS), before=[STOPPED], order="abort", start=1, goal=0, resumed="aborting",
        committed="looking",
    ),
    "abort the undo": Story(
        (*ABORT, *step("kept")),
        before=[KEPT, ("undo", {"fence: before commit": "kill"}, {})],
        order="abort", start=0, goal=1, resumed="aborting", committed="looking",
    ),
}  # fmt: skip


def sampled(cases, part):
    part = {"all": 1, "": part}.get(CRASHES) or int(CRASHES)
    return [case for case in cases if zlib.crc32(repr(case).encode()) % part == 0]


# ---- what must hold afterwards ----


class Shard:
    """Shard 3 with all kinds of things in it, under a writer."""

    def __init__(self, story, one, two):
        self.servers = (one, two)
        story.fill(one)
        one.sql("""
            CREATE INDEX by_n ON shard0003.entities ((body -> 'n'));
            CREATE TABLE shard0003.notes (id serial PRIMARY KEY, text text);
            CREATE FUNCTION shard0003.pass() RETURNS trigger LANGUAGE plpgsql AS
                'BEGIN RETURN NEW; END';
            CREATE TRIGGER pass BEFORE INSERT ON shard0003.notes FOR EACH ROW
                EXECUTE FUNCTION shard0003.pass();
            ALTER TABLE shard0003.notes ENABLE ALWAYS TRIGGER pass;
            CREATE VIEW shard0003.both AS SELECT e.id, n.text FROM shard0003.entities e,
                shard0003.notes n;
            INSERT INTO shard0003.notes (text) SELECT repeat('note', n) FROM generate_series(1, 50) n
        """)
        self._content = self._of(one)
        self._structure = structure(one, 3)
        self.writer = Writer(3, one, two)

    @staticmethod
    def _of(database):
        """All rows but the writer's."""
        return database.query(
            "SELECT array_agg(concat(left(e::text, 40), md5(e::text)) ORDER BY id),"
            " (SELECT array_agg(n::text ORDER BY id) FROM shard0003.notes n)"
            " FROM shard0003.entities e WHERE NOT body ? 'w'"
        )

    def check(self, place):
        """It is on the server of this number, as it was, and nowhere else is anything."""
        here, there = self.servers[place], self.servers[1 - place]
        assert has_shard(here, 3) and not has_shard(there, 3)
        self.writer.check(here)
        assert self._of(here) == self._content
        assert structure(here, 3) == self._structure
        assert_nothing_left(*self.servers)
        self._check_locations(here, there)
        last = here.value("SELECT max(id) FROM shard0003.entities")
        new = "INSERT INTO shard0003.{} VALUES (DEFAULT, {}) RETURNING id"
        assert here.value(new.format("entities", "1, ''")) > last
        assert here.value(new.format("notes", "''")) > 50

    @staticmethod
    def _check_locations(here, there):
        state, generation, _ = locations(here).get(3, ("here", 0, ""))
        assert state == "here"
        if 3 in locations(there):
            state, gone, server = locations(there)[3]
            assert (state, server) == ("gone", here.server.name) and gone <= generation


def end(config, how, **options):
    """Resume, or take back. Where the move had not begun, or had ended, there is nothing to do."""
    ended = run_move(config, how, 3, **{"max_wait": "20s", **options})
    nothing = ("no move of shard 3 is under way", "the move of shard 3 is over")
    if ended.result.code != 0 and ended.error in nothing:
        return None
    return ended.ok()


def clean_up(config):
    """What is kept for an undo is not left behind."""
    cleaned = run_move(config, "clean", 3, max_wait="20s")
    assert cleaned.result.code == 0 or "no old copy" in cleaned.error, cleaned
