#!/usr/bin/python3
"""Does every file include only headers of its own folder or further down, without circles?

  - The tables of folders in docs/design.md name them from the bottom up. A file of src/ or cli/
    includes headers of its own folder and of those further down in the same tree, by folder and name
    ("wire/session.h"), and hypervault.h; one of cli/ those of src/base too, which is linked into the
    command. Every folder is in the tables, and every row has a folder (unless its line says
    "(planned)").
  - Within a folder modules (x.c and x.h) do not include each other in a circle.
  - In src/ session.c alone calls the functions of libpq that send something to a server, and
    exchange.c those that receive, so that all deadlines, errors and log events have one way to go;
    session_copy.c those of a COPY, which is neither a statement's end nor its answer.
  - python/, tests/system/ and bench/: hypervault.h and headers of their own. examples/: hypervault.h
    only.
"""

import pathlib
import re
import sys

import checking

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')

QUERY = re.compile(r"\bPQ(exec\w*|send\w+|getResult|prepare|describe\w+|put\w+|pipelineSync)\s*\(")
MAY_QUERY = ("session.c", "session_copy.c", "exchange.c")


def folders(root):
    """({folder: its place, from the bottom up}, problems) from the tables in docs/design.md."""
    place = "docs/design.md"
    table = {}
    problems = []
    text = (root / place).read_text(encoding="utf-8")
    for rows in checking.tables(text):
        if not rows or "folder" not in rows[0][1]:
            continue
        for number, row in rows:
            folder = row["folder"].strip("`")
            if folder in table:
                problems.append(f"{place}:{number}: {folder} is in the table twice")
            table[folder] = len(table)
            planned = any("(planned)" in cell for cell in row.values())
            if not planned and not list((root / folder).glob("*.[ch]")):
                problems.append(f"{place}:{number}: there are no files in {folder}")
    if not table:
        problems.append(f"{place}: no table with the column folder")
    return table, problems


def includes(path):
    """(line number, header) of each header of the project that a file includes."""
    text = checking.without_comments(path.read_text(encoding="utf-8"))
    for number, line in enumerate(text.splitlines(), 1):
        match = INCLUDE.match(line)
        if match and (match.group(1) == '"' or match.group(2) == "hypervault.h"):
            yield number, match.group(2)


def circle(arrows):
    """The modules of a circle in {module: {modules that it includes}}, the first one again at the
    end; None if there is none."""
    done = set()

    def walk(module, path):
        if module in path:
            return [*path[path.index(module) :], module]
        if module in done:
            return None
        done.add(module)
        for other in sorted(arrows.get(module, ())):
            found = walk(other, [*path, module])
            if found:
                return found
        return None

    for module in sorted(arrows):
        found = walk(module, [])
        if found:
            return found
    return None


def tree_problems(root, tree, table, shared=()):
    """Problems of the folders in a tree such as src/, and of the includes between them. `shared`
    are folders of src/ that another tree includes from."""
    problems = []
    arrows = {}
    for path in checking.files(root / tree, ".c", ".h"):
        place = path.relative_to(root)
        folder = str(place.parent)
        if folder not in table:
            problems.append(f"{place}: the folder {folder} is not in the table of docs/design.md")
            continue
        for number, header in includes(path):
            if header == "hypervault.h":
                continue
            in_src = pathlib.PurePosixPath("src", header)
            if str(in_src.parent) in shared and (root / in_src).is_file():
                continue
            other = str(pathlib.PurePosixPath(tree, header).parent)
            if not (root / tree / header).is_file() or other not in table:
                problems.append(
                    f'{place}:{number}: "{header}" is no header of {tree}/: '
                    "name it by its folder and its name"
                )
            elif table[other] > table[folder]:
                problems.append(
                    f'{place}:{number}: "{header}" is in {other}, which is not below {folder}'
                )
            elif other == folder and pathlib.PurePath(header).stem != path.stem:
                arrows.setdefault(folder, {}).setdefault(path.stem, set()).add(
                    pathlib.PurePath(header).stem
                )
    for folder in sorted(arrows):
        found = circle(arrows[folder])
        if found:
            problems.append(f"{folder}: modules include each other: {' → '.join(found)}")
    return problems


def query_problems(root):
    problems = []
    for path in checking.files(root / "src", ".c", ".h"):
        if path.name in MAY_QUERY:
            continue
        text = checking.without_comments(path.read_text(encoding="utf-8"))
        for number, line in enumerate(text.splitlines(), 1):
            for match in QUERY.finditer(line):
                called = match.group().rstrip("( ")
                problems.append(
                    f"{path.relative_to(root)}:{number}: calls {called}; "
                    "only session.c and exchange.c may"
                )
    return problems


def outside_problems(root, folder, own_headers):
    """Problems of files that may use only the public interface."""
    problems = []
    if not (root / folder).is_dir():
        return problems
    for path in checking.files(root / folder, ".c", ".h"):
        for number, header in includes(path):
            own = own_headers and (path.parent / header).is_file() and "/" not in header
            if header != "hypervault.h" and not own:
                allowed = "hypervault.h" + f" and headers of {folder}/" * own_headers
                place = f"{path.relative_to(root)}:{number}"
                problems.append(f'{place}: includes "{header}"; only {allowed} may be')
    return problems


def problems(root):
    table, found = folders(root)
    found += tree_problems(root, "src", table)
    found += tree_problems(root, "cli", table, shared=("src/base",))
    found += query_problems(root)
    for folder in ("python", "tests/system", "bench"):
        found += outside_problems(root, folder, own_headers=True)
    found += outside_problems(root, "examples", own_headers=False)
    header = root / "include" / "hypervault.h"
    for number, other in includes(header):
        found.append(f'{header.relative_to(root)}:{number}: includes "{other}"; it stands alone')
    return found


if __name__ == "__main__":
    if len(sys.argv) > 1:
        sys.exit(f"usage: {sys.argv[0]}")
    checking.report(problems(checking.ROOT))
