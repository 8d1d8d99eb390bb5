#!/usr/bin/python3
"""Does docs/config.md describe every option, with its type, default and range, and no other? And
every setting of a server for moves?

usage: check_options.py LIST_OPTIONS
LIST_OPTIONS is the program that prints what hv_option_at() returns, an option per line.
"""

import re
import subprocess
import sys

import checking

PLACE = "docs/config.md"
MOVE_SETTINGS = "src/config/move_settings.c"
FIELDS = ("type", "default", "range")


def known(text):
    """{name: {field: value}} from LIST_OPTIONS' output: name, type, default, range, help."""
    options = {}
    for line in text.splitlines():
        name, *values = line.split("\t")
        options[name] = dict(zip((*FIELDS, "help"), values, strict=True))
    return options


def documented(markdown):
    """{name: (line number, {field: value})} from every table with these columns."""
    found = {}
    for rows in checking.tables(markdown):
        for number, row in rows:
            name = row.get("option", row.get("name"))
            if name and set(FIELDS) <= row.keys():
                values = {field: row[field].replace("`", "") for field in FIELDS}
                found[name.strip("`")] = (number, values)
    return found


def problems(options, markdown):
    found = []
    rows = documented(markdown)
    for name, option in options.items():
        if name not in rows:
            found.append(f"{PLACE}: the option {name} is not described")
            continue
        number, row = rows[name]
        for field in FIELDS:
            if row[field] != option[field]:
                found.append(
                    f"{PLACE}:{number}: the {field} of {name} is {option[field]}, not {row[field]}"
                )
        if not option["help"].endswith("."):
            found.append(f"src/config/option_table.c: the help of {name} is not a sentence")
    for name, (number, _) in rows.items():
        if name not in options:
            found.append(f"{PLACE}:{number}: there is no option {name}")
    return found


def move_problems(source, markdown):
    """The settings of move_settings.c and the rows of the tables of settings."""
    known = set(re.findall(r'= \{"(move_\w+)"', source))
    rows = [(n, row["setting"].strip("`")) for rows in checking.tables(markdown)
            for n, row in rows if row.get("setting")]
    described = {name for _, name in rows}
    return [
        *(f"{PLACE}: the setting {name} is not described" for name in sorted(known - described)),
        *(f"{PLACE}:{n}: there is no setting {name}" for n, name in rows if name not in known),
    ]


def main(program):
    listed = subprocess.run([program], capture_output=True, text=True, check=True).stdout
    markdown = checking.read(checking.ROOT, PLACE)
    source = checking.read(checking.ROOT, MOVE_SETTINGS)
    checking.report(problems(known(listed), markdown) + move_problems(source, markdown))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(*sys.argv[1:])
