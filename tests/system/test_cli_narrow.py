"""The output of hv on narrow terminals, and on those that become narrow meanwhile."""

import os
import pty
import re

import pytest

from harness import eventually, hv, spawn, store_config
from harness.terminal import Terminal

BAR = re.compile(r"[█▏▎▍▌▋▊▉░]{3}")


def watch(*args, columns, narrow=None, mark=b"", **how):
    """Run hv on a terminal, and narrow it when the mark is seen. Returns the terminal's rows after
    each piece of output, and at the end."""
    ours, theirs = pty.openpty()
    terminal = Terminal(columns)
    terminal.resize(columns, ours)
    env = {"TERM": "xterm", **how.pop("env", {})}
    child = spawn("hv", *args, env=env, stdin=theirs, stdout=theirs, stderr=theirs, **how)
    os.close(theirs)
    seen = b""
    frames = []
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # the other side is closed
            break
        seen += piece
        terminal.feed(piece)
        frames.append((terminal.columns, list(terminal.rows)))
        if narrow is not None and terminal.columns != narrow and mark in seen:
            terminal.resize(narrow, ours)
            frames.append((narrow, list(terminal.rows)))
    os.close(ours)
    assert child.wait(60) == 0, terminal.rows
    return frames, terminal.rows


def rows_with(rows, text):
    return [row for row in rows if re.search(text, row)]


@pytest.mark.parametrize("narrow", [60, 40, 20])
def test_a_bar_stays_one_when_the_terminal_becomes_narrow(store, narrow):
    frames, rows = watch(
        *("bench", "put", "-t", 2, "--warmup", 0, "--keep"),
        columns=110, narrow=narrow, mark="█".encode(), config=store,
    )
    after = [rows for columns, rows in frames if columns == narrow]
    assert len(after) > 5
    assert all(len(rows_with(rows, r"^put ")) <= 1 for rows in after)
    assert any(rows_with(rows, r"^put .*\d") for rows in after[5:])
    assert not rows_with(rows, BAR) and not rows_with(rows, r"^put .*left")  # it was wiped


def test_several_bars_stay_where_they_are(servers, tmp_path):
    one, two = servers
    config = store_config(tmp_path / "a.conf", {"one": (one, "0-400"), "two": (two, "400-800")})
    frames, rows = watch("init", columns=110, narrow=40, mark=b"/400 shards", config=config)
    after = [rows for columns, rows in frames if columns == 40]
    for name in ("one", "two"):
        bars = [rows_with(rows, rf"^{name} ") for rows in after]
        assert any(bars) and all(len(found) <= 1 for found in bars)
    assert not rows_with(rows, "/400 shards")


@pytest.mark.parametrize("columns", [40, 30, 20, 10])
def test_a_bar_is_never_broken(store, columns):
    frames, _ = watch("bench", "put", "-t", 1, "--warmup", 0, columns=columns, config=store)
    bars = [found for _, rows in frames for found in rows_with(rows[:1], r"^put  ")]
    assert bars and all(len(row) < columns for row in bars)
    assert columns < 40 or any("left" in row and "operations" in row for row in bars)
    assert columns < 20 or any(re.search(r" \d", row) for row in bars)


def test_the_time_left_of_a_run_is_no_longer_than_the_run(store):
    frames, _ = watch("bench", "put", "-t", 3, "--warmup", 1, columns=110, config=store)
    left = [int(found) for _, rows in frames for found in re.findall(r"(\d+) s left", str(rows[0]))]
    assert left and max(left) <= 3 and min(left) < max(left)
    assert left == sorted(left, reverse=True)


# ---- tables ----


@pytest.mark.parametrize(
    "command",
    [["status"], ["status", "--shards"], ["init"], ["key", "307821103844175873", str(2**62)]],
)
def test_a_table_is_not_broken(store, command):
    def values(rows):
        return {value for row in rows for value in row.split()}

    def narrow_as_wide():
        """Another connection that ends meanwhile changes the number of them."""
        _, wide = watch(*command, columns=120, config=store)
        _, rows = watch(*command, columns=40, config=store)
        table = rows[: rows.index("Below") if "Below" in rows else None]
        assert values(table) == values(wide)
        return rows, table

    rows, table = eventually(narrow_as_wide, timeout=10)
    assert max(len(row) for row in table) <= 40
    titles = [row.split("  ")[0] for row in table if row]
    assert {"server", "shard"} & set(titles)
    assert not rows_with(table, r"(server|shard|key) +(state|server|created)")


def test_a_table_of_a_narrow_terminal_is_as_ever_in_a_pipe(store):
    plain = hv("status", config=store).ok()
    assert plain.lines[0].split()[:3] == ["server", "state", "postgres"]
    assert len(plain.lines[0]) > 40


def test_a_long_value_goes_on_below(server, tmp_path):
    name = "a-name-of-a-server-that-is-too-wide"
    config = store_config(tmp_path / "a.conf", {name: (server, "0-2")})
    hv("init", config=config).ok()
    _, rows = watch("status", columns=30, config=config)
    first, *more = rows[: next(n for n, row in enumerate(rows) if row.startswith("state"))]
    assert first.startswith("server") and len(more) == 2
    assert all(len(row) <= 30 for row in rows[:3]) and all(row.startswith(" ") for row in more)
    assert first.split()[1] + "".join(row.strip() for row in more) == name
