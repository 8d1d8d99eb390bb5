#!/usr/bin/python3
"""Does everything that repeats the version agree with meson.build, and do the packages' descriptions
have the required form?

The extension has a version of its own, in its control file. A heading "Unreleased" may precede the
changelog's newest version.
"""

import json
import re

import checking

VERSION = r"\d+\.\d+\.\d+"

# The places of the version: file, pattern with the version as its group, what it is called.
PLACES = [
    ("CHANGELOG.md", r"^## (\d\S*)", "the newest heading"),
    ("debian/changelog", r"^hypervault \((\S+)-\S+\)", "the newest entry"),
    ("docs/man/hv.1", r"^\.Os hypervault (\S+)", "the line .Os"),
    ("include/hypervault.h", rf'for example "({VERSION})"', "the example of hv_version()"),
    ("extension/META.json", r'^  "version": "([^"]+)"', "the version"),
]
# A file or folder that is named after the version, in a document.
NAMED = re.compile(rf"\b(?:lib)?hypervault\w*[-_]({VERSION})")

# PGXN's specification, version 1.0.0, of META.json: key, type.
META = {
    "name": str,
    "version": str,
    "abstract": str,
    "maintainer": (str, list),
    "license": (str, list, dict),
    "provides": dict,
    "meta-spec": dict,
}
META_OPTIONAL = (
    "description",
    "release_status",
    "prereqs",
    "tags",
    "resources",
    "no_index",
    "generated_by",
)
META_LICENSES = {"mit", "bsd", "postgresql", "apache_2_0", "gpl_2", "gpl_3"}
META_STATUSES = {"stable", "testing", "unstable"}


def version_problems(root):
    found = []
    match = re.search(rf"^  version: '({VERSION})',$", checking.read(root, "meson.build"), re.M)
    if match is None:
        return ["meson.build: says no version of three numbers"]
    version = match.group(1)
    for place, pattern, what in PLACES:
        match = re.search(pattern, checking.read(root, place), re.M)
        if match is None:
            found.append(f"{place}: {what} does not say the version")
        elif match.group(1) != version:
            found.append(f"{place}: {what} says {match.group(1)}, meson.build {version}")
    for path in checking.files(root, ".md"):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            for match in NAMED.finditer(line):
                if match.group(1) != version:
                    place = path.relative_to(root)
                    found.append(f"{place}:{number}: {match.group()}, but this is {version}")
    if not re.search(r'^dynamic = \[.*"version".*\]', checking.read(root, "pyproject.toml"), re.M):
        found.append("pyproject.toml: does not take the version from meson.build")
    return found


def unknown_keys(meta):
    """Keys that the specification does not have; keys of one's own begin with x_."""
    known = {*META, *META_OPTIONAL}
    return [key for key in meta if key not in known and not key.lower().startswith("x_")]


def provided_problems(root, name, it):
    """Problems of one of the extensions that META.json says it provides."""
    control = checking.read(root, f"extension/{name}.control")
    default = re.search(r"^default_version = '(.*)'", control, re.M).group(1)
    found = []
    version = it.get("version")
    if version != f"{default}.0":
        found.append(f"{name} is of version {version}, but its control file says {default}")
    if it.get("file") != f"{name}--{default}.sql":
        found.append(f"the file of {name} is {it.get('file')}, not {name}--{default}.sql")
    if not (root / "docs" / it.get("docfile", "")).is_file():
        found.append(f"the documentation of {name}, {it.get('docfile')}, is not in docs")
    return found


def meta_problems(root, text):
    try:
        meta = json.loads(text)
    except ValueError as error:
        return [f"is not JSON: {error}"]
    found = []
    for key, kind in META.items():
        if not isinstance(meta.get(key), kind) or not meta[key]:
            found.append(f"{key} is missing, or of the wrong type")
    found += [f"there is no key {key}" for key in unknown_keys(meta)]
    if found:
        return found
    if meta["meta-spec"].get("version") != "1.0.0":
        found.append("the version of meta-spec is not 1.0.0")
    if isinstance(meta["license"], str) and meta["license"] not in META_LICENSES:
        found.append(f"{meta['license']} is no licence that the specification knows")
    if meta.get("release_status", "stable") not in META_STATUSES:
        found.append(f"{meta['release_status']} is no status of a release")
    if not all(isinstance(tag, str) and tag for tag in meta.get("tags", [])):
        found.append("a tag is no text")
    for name, it in meta["provides"].items():
        found += provided_problems(root, name, it)
    return found


def symbol_problems(root):
    """Compare the versions in debian/libhypervault0.symbols with the exported functions."""
    place = "debian/libhypervault0.symbols"
    listed = set(re.findall(r"^ (\w+)@", checking.read(root, place), re.M))
    version_script = checking.without_comments(checking.read(root, "src/libhypervault.map"))
    exported = set(re.findall(r"^ +(\w+);$", version_script, re.M))
    versions = set(re.findall(r"^(\w+) \{", version_script, re.M))
    return [f"{place}: lacks {name}" for name in sorted((exported | versions) - listed)] + [
        f"{place}: {name} is not exported" for name in sorted(listed - exported - versions)
    ]


def problems(root):
    meta = meta_problems(root, checking.read(root, "extension/META.json"))
    return (
        version_problems(root)
        + [f"extension/META.json: {problem}" for problem in meta]
        + symbol_problems(root)
    )


if __name__ == "__main__":
    checking.report(problems(checking.ROOT))
