#!/usr/bin/python3
"""Are these three lists the same: what the library exports, src/libhypervault.map, and what
hypervault.h declares? Do the library's other names have its prefix, or no linkage?

usage: check_symbols.py LIBRARY STATIC_LIBRARY ABI_VERSION
"""

import re
import subprocess
import sys

import checking

# Symbols that sanitizers add to an object.
SANITIZER = re.compile(r"^_*(asan|msan|tsan|ubsan|odr_asan|sancov|start___sancov|stop___sancov)_")


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def defined(nm_output):
    """The names in the output of `nm --defined-only --format=posix` that other objects can see."""
    names = set()
    for line in nm_output.splitlines():
        fields = line.split()
        if len(fields) >= 2 and len(fields[1]) == 1 and (fields[1].isupper() or fields[1] == "i"):
            name = fields[0].split("@")[0]
            if fields[1] != "A" and not SANITIZER.match(name):
                names.add(name)
    return names


def declared(header):
    """The functions that hypervault.h declares with HV_API."""
    text = re.sub(r"^\s*#[^\n]*", "", checking.without_comments(header), flags=re.MULTILINE)
    return set(re.findall(r"\bHV_API\b[^;(]*?\b(\w+)\s*\(", text))


def listed(version_script):
    """The names under `global:` in a version script."""
    match = re.search(r"global:(.*?)local:", checking.without_comments(version_script), re.DOTALL)
    return set(re.findall(r"(\w+)\s*;", match.group(1))) if match else set()


def soname(readelf_output):
    match = re.search(r"\(SONAME\).*\[(.*)\]", readelf_output)
    return match.group(1) if match else None


def problems(exported, in_map, in_header, internal, name, expected_name):
    found = []
    for one, one_where, other, other_where in (
        (in_header, "declared in hypervault.h", in_map, "in libhypervault.map"),
        (in_map, "in libhypervault.map", in_header, "declared in hypervault.h"),
        (in_map, "in libhypervault.map", exported, "exported by the library"),
        (exported, "exported by the library", in_map, "in libhypervault.map"),
    ):
        found += [f"{it} is {one_where} but not {other_where}" for it in sorted(one - other)]
    for it in sorted(internal):
        if not re.match(r"hvi?_", it):
            found.append(f"{it} is not static and begins neither with hv_ nor with hvi_")
        elif it.startswith("hv_") and it not in in_header:
            found.append(f"{it} begins with hv_, but hypervault.h does not declare it")
    if name != expected_name:
        found.append(f"the library's SONAME is {name}, not {expected_name}")
    return found


def main(library, static_library, abi_version):
    root = checking.ROOT
    checking.report(
        problems(
            exported=defined(run("nm", "-D", "--defined-only", "--format=posix", library)),
            in_map=listed((root / "src/libhypervault.map").read_text(encoding="utf-8")),
            in_header=declared((root / "include/hypervault.h").read_text(encoding="utf-8")),
            internal=defined(run("nm", "--defined-only", "--format=posix", static_library)),
            name=soname(run("readelf", "--dynamic", library)),
            expected_name=f"libhypervault.so.{abi_version}",
        )
    )


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
