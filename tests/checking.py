"""Shared by the structural checks: the source tree's files, Markdown tables, and reporting.

A check is a script with `problems(...)`, which returns lines such as "src/x.c:5: what is wrong",
and ends with 1 if there are any. They need no server; meson runs them as the suite `checks`.
"""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]

_C_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)


def files(root, *suffixes):
    """The project's own text files with one of these suffixes, in order: no build folders, nothing
    hidden but .ci."""
    found = []
    pending = [pathlib.Path(root)]
    while pending:
        for path in pending.pop().iterdir():
            if path.is_symlink():
                continue
            if path.is_dir():
                hidden = path.name.startswith(".") and path.name != ".ci"
                build = path.name.startswith("build") or (path / "meson-private").exists()
                if not hidden and not build and path.name != "__pycache__":
                    pending.append(path)
            elif not path.name.startswith(".") and (not suffixes or path.suffix in suffixes):
                found.append(path)
    return sorted(found)


def without_comments(c_text):
    """C without its comments, line numbers kept."""
    return _C_COMMENT.sub(lambda match: "\n" * match.group().count("\n"), c_text)


def tables(markdown):
    """The tables of a Markdown text: for each a list of (line number, {heading: cell})."""
    found = []
    rows = headings = None
    for number, line in enumerate(markdown.splitlines(), 1):
        if not line.startswith("|"):
            rows = headings = None
            continue
        cells = [cell.strip().replace(r"\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if headings is None:
            headings = [cell.lower() for cell in cells]
        elif rows is None:  # the line of dashes
            rows = []
            found.append(rows)
        else:
            rows.append((number, dict(zip(headings, cells))))
    return found


def read(root, place):
    """The text of a file that must exist; otherwise the check ends at once."""
    try:
        return (root / place).read_text(encoding="utf-8")
    except FileNotFoundError:
        report([f"{place} is missing"])


def report(problems):
    """Print the problems and end the process: 0 if there are none."""
    for problem in problems:
        print(problem)
    sys.exit(1 if problems else 0)


def skip(why):
    """End the process as meson's "skipped"."""
    print(f"skipped: {why}")
    sys.exit(77)
