#!/usr/bin/python3
"""Does every file include only what stands on lower floors? The floors are docs/design.md's.

  - src/: a file includes headers of its own module and of modules on lower floors, and
    hypervault.h. Every module is in the table, every row of the table has a module (unless its line
    says "(planned)").
  - In src/ session.c alone calls the functions of libpq that send something to a server, and
    exchange.c those that receive, so that all deadlines, errors and log events have one way to go;
    session_copy.c those of a COPY, which is neither a statement's end nor its answer.
  - cli/, python/, tests/system/ and bench/: hypervault.h and headers of their own. examples/: hypervault.h
    only.
"""

import re
import sys

import checking

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')

QUERY = re.compile(r"\bPQ(exec\w*|send\w+|getResult|prepare|describe\w+|put\w+|pipelineSync)\s*\(")


def floors(root):
    """({module: floor}, problems) from the table in docs/design.md."""
    place = "docs/design.md"
    table = {}
    problems = []
    text = (root / place).read_text(encoding="utf-8")
    for rows in checking.tables(text):
        if not rows or not {"floor", "module"} <= rows[0][1].keys():
            continue
        for number, row in rows:
            for module in re.findall(r"`([^`]+)`", row["module"]):
                if module in table:
                    problems.append(f"{place}:{number}: {module} is in the table twice")
                table[module] = int(row["floor"])
                planned = any("(planned)" in cell for cell in row.values())
                if not planned and not list((root / "src").glob(f"{module}.[ch]")):
                    problems.append(f"{place}:{number}: there is no src/{module}.c or .h")
    if not table:
        problems.append(f"{place}: no table with the columns floor and module")
    return table, problems


def includes(path):
    """(line number, header) of each header of the project that a file includes."""
    text = checking.without_comments(path.read_text(encoding="utf-8"))
    for number, line in enumerate(text.splitlines(), 1):
        match = INCLUDE.match(line)
        if match and (match.group(1) == '"' or match.group(2) == "hypervault.h"):
            yield number, match.group(2)


def library_problems(root):
    table, problems = floors(root)
    for path in checking.files(root / "src", ".c", ".h"):
        place = path.relative_to(root)
        module = path.stem
        if module not in table:
            problems.append(f"{place}: the module {module} is not in the table of docs/design.md")
            continue
        for number, header in includes(path):
            other = header.removesuffix(".h")
            if header == "hypervault.h" or other == module:
                continue
            if other not in table:
                problems.append(f'{place}:{number}: "{header}" is no header of a module')
            elif table[other] >= table[module]:
                problems.append(
                    f'{place}:{number}: "{header}" is on floor {table[other]}, '
                    f"not below {module}, which is on floor {table[module]}"
                )
        if path.name not in ("session.c", "session_copy.c", "exchange.c"):
            text = checking.without_comments(path.read_text(encoding="utf-8"))
            for number, line in enumerate(text.splitlines(), 1):
                for match in QUERY.finditer(line):
                    called = match.group().rstrip("( ")
                    problems.append(
                        f"{place}:{number}: calls {called}; only session.c and exchange.c may"
                    )
    return problems


def outside_problems(root, folder, own_headers):
    """Of files that stand on the public interface."""
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
    found = library_problems(root)
    for folder in ("cli", "python", "tests/system", "bench"):
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
