#!/usr/bin/python3
"""Are the sources in order as text? They open with their purpose; no notes to self, no paths of
a developer's machine, no tabs or trailing blanks. The check warns about files with more than 600
lines, except the public header, which is the manual too.
"""

import re

import checking

MOST_LINES = 600
LONG = {"include/hypervault.h"}
SOURCES = (".c", ".h", ".py", ".pyi", ".sh", ".sql")
TEXTS = (".build", ".md", ".txt", ".ini", ".conf", ".map", ".toml", "")
# Written so that this file does not match itself.
UNWANTED = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK)\b|/(wo" r"rk|ro" r"ot|ho" r"me)/\w")
OPENINGS = {".c": "/*\n * ", ".h": "/*\n * "}
ALLOWED_TABS = {"Makefile", "rules"}


def purpose_problem(path, text):
    opening = OPENINGS.get(path.suffix)
    if opening and not text.startswith(opening):
        return "does not open with a comment that says its purpose"
    if path.suffix in (".py", ".pyi") and text.strip():
        if not re.match(r'(#!.*\n)?"""\S', text):
            return "does not open with a docstring that says its purpose"
    return None


def warnings(root):
    found = []
    for path in checking.files(root, *SOURCES):
        place = path.relative_to(root)
        lines = len(path.read_bytes().splitlines())
        if lines > MOST_LINES and str(place) not in LONG:
            found.append(f"{place}: has {lines} lines: is it one concept?")
    return found


def problems(root):
    found = []
    for path in checking.files(root, *SOURCES, *TEXTS):
        place = path.relative_to(root)
        data = path.read_bytes()
        if b"\0" in data:
            continue
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError:
            found.append(f"{place}: is not UTF-8")
            continue
        lines = text.splitlines()
        problem = purpose_problem(path, text)
        if problem:
            found.append(f"{place}: {problem}")
        if text and not text.endswith("\n"):
            found.append(f"{place}: the last line has no end")
        for number, line in enumerate(lines, 1):
            match = UNWANTED.search(line)
            if match:
                found.append(f"{place}:{number}: {match.group()} does not belong here")
            if line != line.rstrip():
                found.append(f"{place}:{number}: blanks at the end of the line")
            if "\t" in line and path.name not in ALLOWED_TABS:
                found.append(f"{place}:{number}: a tab")
    return found


if __name__ == "__main__":
    for warning in warnings(checking.ROOT):
        print(f"warning: {warning}")
    checking.report(problems(checking.ROOT))
