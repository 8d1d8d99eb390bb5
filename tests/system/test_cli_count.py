"""hv count: what it counts, by what, in which form, and what it says when some are missing."""

import collections
import json
import os
import pty
import re

import pytest

from harness import hv, spawn
from inserting import KEYS, PHOTOS, fill, insert, key_of, moment, photos, shard_of  # noqa: F401

BERLIN = "Europe/Berlin"


def count(store, *args):
    return int(hv("count", *args, config=store).ok().out)


def groups(store, by, *args):
    """[(group, count)]"""
    rows = hv("count", "--by", by, *args, "--json", config=store).ok().ndjson()
    assert all(row["exact"] for row in rows)
    return [(next(iter(row.values())), row["count"]) for row in rows]


def tally(values):
    return sorted(collections.Counter(values).items())


# ---- what is counted ----


def test_one_number_is_printed(photos):
    assert hv("count", config=photos).ok().out == "48\n"
    assert count(photos, "--kind", 2) == 24
    assert count(photos, "--where", "user=3", "--lacks", "place", "--shards", "1-17") == 6
    assert count(photos, "--from", KEYS[7], "--until", KEYS[9]) == 2
    assert count(photos, "--where", "user=nobody") == 0
    assert hv("count", "--json", config=photos).ok().json() == {"count": 48, "exact": True}


def test_kinds_shards_and_servers_are_groups(photos):
    assert groups(photos, "kind") == tally(kind for _, kind, _ in PHOTOS)
    assert groups(photos, "shard") == tally(map(shard_of, KEYS))
    on_one = len([key for key in KEYS if shard_of(key) < 9])
    assert groups(photos, "server") == [("one", on_one), ("two", 48 - on_one)]
    shards = dict(groups(photos, "shard", "--kind", 9, "--shards", "3-6"))
    assert shards == {3: 0, 4: 0, 5: 0}
    assert groups(photos, "kind", "--kind", 9) == []


TIMES = [
    "2024-03-30T22:59:59.999", "2024-03-30T23:00", "2024-03-31T00:59:59.999", "2024-03-31T01:00",
    "2024-03-31T21:59:59.999", "2024-03-31T22:00", "2024-10-27T00:30", "2024-10-27T01:30",
    "2024-12-31T22:59:59.999", "2024-12-31T23:00", "2025-01-01T00:00",
]  # fmt: skip


@pytest.fixture
def times(store, servers):
    insert(
        servers, *((key_of(moment(time), 1 + n % 16, n), 1, {}) for n, time in enumerate(TIMES))
    )
    return store


@pytest.mark.parametrize(
    "by, zone, expected",
    [
        ("year", None, [("2024", 10), ("2025", 1)]),
        ("year", BERLIN, [("2024", 9), ("2025", 2)]),
        ("quarter", None, [("2024-Q1", 6), ("2024-Q4", 4), ("2025-Q1", 1)]),
        ("month", BERLIN, [("2024-03", 5), ("2024-04", 1), ("2024-10", 2), ("2024-12", 1),
                           ("2025-01", 2)]),
        ("week", None, [("2024-03-25", 6), ("2024-10-21", 2), ("2024-12-30", 3)]),
        ("day", None, [("2024-03-30", 2), ("2024-03-31", 4), ("2024-10-27", 2), ("2024-12-31", 2),
                       ("2025-01-01", 1)]),
        ("day", BERLIN, [("2024-03-30", 1), ("2024-03-31", 4), ("2024-04-01", 1),
                         ("2024-10-27", 2), ("2024-12-31", 1), ("2025-01-01", 2)]),
    ],
)  # fmt: skip
def test_units_of_time_begin_where_the_zone_says(times, by, zone, expected):
    assert groups(times, by, *(["--zone", zone] if zone else [])) == expected


def test_an_hour_that_occurs_twice_is_two_groups(times):
    day = ("--from", "2024-10-27", "--until", "2024-10-28", "--json")
    found = hv("count", "--by", "hour", "--zone", BERLIN, *day, config=times).ok().ndjson()
    assert [(row["hour"], row["begins"], row["count"]) for row in found] == [
        ("2024-10-27 02:00+02", "2024-10-27T00:00:00.000Z", 1),
        ("2024-10-27 02:00+01", "2024-10-27T01:00:00.000Z", 1),
    ]
    minutes = groups(times, "minute", "--zone", "Asia/Kolkata", "--until", "2024-03-31")
    assert minutes == [("2024-03-31 04:29+05:30", 1), ("2024-03-31 04:30+05:30", 1)]
    assert groups(times, "second", "--until", "2024-03-30T23:00") == [("2024-03-30 22:59:59", 1)]


# ---- forms ----


def test_people_see_bars(times, on_terminal):
    done = on_terminal("count", "--by", "day", config=times).ok()
    plain = re.sub(r"\x1b\[\d*[mAJK]\r?", "", done.out).splitlines()
    table = plain[next(n for n, line in enumerate(plain) if line.startswith("day")) :]
    assert table[0].split() == ["day", "entities"]
    assert [line.split() for line in table[1:]] == [
        ["2024-03-30", "2", "█" * 15],
        ["2024-03-31", "4", "█" * 30],
        ["2024-10-27", "2", "█" * 15],
        ["2024-12-31", "2", "█" * 15],
        ["2025-01-01", "1", "█" * 7 + "▌"],
        ["total", "11"],
    ]
    piped = hv("count", "--by", "day", config=times).ok().lines
    assert [line.split() for line in piped] == [line.split() for line in table]
    ascii_only = hv("count", "--by", "year", config=times, env={"LC_ALL": "C"}).ok().out
    assert "#" * 30 in ascii_only


def test_a_number_is_readable_for_people_and_plain_for_programs(store, servers, on_terminal):
    fill(servers, 3, 12_345)
    assert hv("count", config=store).ok().out == "12345\n"
    assert on_terminal("count", config=store).ok().lines[-1].endswith("12,345")
    title, row, total = hv("count", "--by", "kind", config=store).ok().lines + ["none"]
    assert row.split()[:2] == ["1", "12,345"] and total == "none"


def test_counting_in_pieces_has_the_same_sums(photos, on_terminal):
    """On a terminal the shards are counted some at a time."""
    for by in ("kind", "shard", "server", "day"):
        args = ("count", "--by", by, "--where", "user=3", "--shards", "2-15", "--format", "csv")
        title, *lines = hv(*args, config=photos).ok().lines
        shown = on_terminal(*args, config=photos).ok().lines[-len(lines) - 1 :]
        assert shown[0].endswith(title) and shown[1:] == lines


def test_a_count_that_takes_long_shows_how_far_it_has_come(photos, servers):
    ours, theirs = pty.openpty()
    with servers[0].connect() as connection, connection.cursor() as cursor:
        cursor.execute("BEGIN; LOCK shard0003.entities")
        process = spawn("hv", "count", config=photos, env={"TERM": "xterm"}, stderr=theirs)
        os.close(theirs)
        seen = b""
        while b" 4/16 shards" not in seen:  # of each server two pieces of a shard
            seen += os.read(ours, 65536)
        cursor.execute("COMMIT")
        assert process.communicate(timeout=60)[0] == b"48\n"
    os.close(ours)


def test_csv_and_tsv_have_a_header(photos, times):
    def lines(*args):
        return hv("count", *args, config=photos).ok().lines

    assert lines("--format", "csv") == ["count", "59"]
    assert lines("--format", "csv", "--by", "kind") == ["kind,count", "1,35", "2,24"]
    assert lines("--format", "tsv", "--by", "server")[0] == "server\tcount"
    assert lines("--format", "csv", "--by", "year", "--from", "2020-01-01") == [
        "year,begins,count", "2024,2024-01-01T00:00:00.000Z,10", "2025,2025-01-01T00:00:00.000Z,1",
    ]  # fmt: skip


# ---- estimates ----


def test_estimates_are_marked_as_such(store, servers, on_terminal):
    fill(servers, 3, 20_000)
    servers[0].sql("ANALYZE shard0003.entities")
    row = hv("count", "--estimate", "--json", config=store).ok().json()
    assert row["exact"] is False and 15_000 < row["count"] < 25_000
    assert hv("count", "--estimate", config=store).ok().out == f"{row['count']}\n"
    assert "≈" in on_terminal("count", "--estimate", config=store).ok().out
    assert "≈" in hv("count", "--estimate", "--by", "shard", config=store).ok().lines[3]


# ---- bad input ----


@pytest.mark.parametrize(
    "args, message",
    [
        (["--by", "colour"], 'cannot count by "colour"'),
        (["--zone", BERLIN], "--zone without a unit of time"),
        (["--by", "kind", "--zone", BERLIN], "--zone without a unit of time"),
        (["--by", "day", "--estimate"], "estimate"),
        (["--limit", 3], "unknown option --limit"),
        (["--newest", 3], "unknown option --newest"),
        (["--after", 3], "unknown option --after"),
        (["--only", "n"], "unknown option --only"),
        (["--shards", ""], "shard"),
        (["--shards", 99], "99"),
        (["--where", "a=1", "--lacks", "a"], "a"),
        (["--from", "2026-01-02", "--until", "2026-01-01"], ""),
        (["--skip-server", "three"], "three"),
        (["--format", "xml"], 'unknown format "xml"'),
        (["everything"], 'unexpected argument "everything"'),
    ],
)
def test_bad_input_is_refused_before_anything_is_counted(config, args, message):
    refused = hv("count", *args, config=config)
    assert (refused.code, refused.out) == (2, ""), refused
    assert message in refused.err.splitlines()[0] and refused.err.startswith("hv: ")


@pytest.mark.parametrize("zone", ["Europe/Atlantis", "", "x" * 5000, "'; DROP"])
def test_an_unknown_zone_is_refused(photos, zone):
    refused = hv("count", "--by", "day", "--zone", zone, config=photos)
    assert (refused.code, refused.out) == (2, ""), refused
    assert "zone" in refused.err.splitlines()[0]


# ---- servers that fail ----


def test_a_skipped_server_is_named_and_nothing_failed(photos):
    on_one = len([key for key in KEYS if shard_of(key) < 9])
    done = hv("count", "--skip-server", "two", config=photos).ok()
    assert done.out == f"{on_one}\n" and '"two"' in done.err


def test_a_server_that_is_down_is_an_error_or_with_partial_a_part(
    own_store, own_servers, on_terminal
):
    insert(own_servers, *PHOTOS)
    own_servers[1].server.stop()
    on_one = len([key for key in KEYS if shard_of(key) < 9])
    failed = hv("count", config=own_store)
    assert (failed.code, failed.out) == (1, "") and '"two"' in failed.err
    assert on_terminal("count", config=own_store).code == 1
    part = hv("count", "--partial", config=own_store)
    assert (part.code, part.out) == (1, f"{on_one}\n")
    assert part.err.count("hv: ") == 1 and '"two"' in part.err
    by_day = hv("count", "--partial", "--by", "day", "--zone", BERLIN, "--json", config=own_store)
    assert by_day.code == 1 and sum(row["count"] for row in by_day.ndjson()) == on_one
    assert json.loads(by_day.err)["error"]["server"] == "two"


def test_a_shard_that_is_missing_is_named(photos, servers):
    servers[0].sql("DROP SCHEMA shard0003 CASCADE")
    failed = hv("count", config=photos)
    assert (failed.code, failed.out) == (1, "") and "shard 3" in failed.err
    part = hv("count", "--partial", "--by", "shard", "--json", config=photos)
    assert part.code == 1 and "shard 3" in json.loads(part.err)["error"]["message"]
    assert sum(row["count"] for row in part.ndjson()) == 45


def test_a_table_that_takes_too_long_is_a_timeout(photos, servers):
    with servers[0].connect() as connection, connection.cursor() as cursor:
        cursor.execute("BEGIN; LOCK shard0003.entities")
        failed = hv("count", "--timeout", "200ms", config=photos)
        assert failed.code == 1 and '"one"' in failed.err
