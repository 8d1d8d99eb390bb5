#!/usr/bin/python3
"""Does docs/config.md describe every option, with its type, default and range, and no other?

usage: check_options.py LIST_OPTIONS
LIST_OPTIONS is the program that prints what hv_option_at() returns, an option per line.
"""

import subprocess
import sys

import checking

PLACE = "docs/config.md"
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


def main(program):
    listed = subprocess.run([program], capture_output=True, text=True, check=True).stdout
    markdown = checking.read(checking.ROOT, PLACE)
    checking.report(problems(known(listed), markdown))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(*sys.argv[1:])
