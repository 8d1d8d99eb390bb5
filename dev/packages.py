#!/usr/bin/python3
"""Print the packages that are installed on this Debian machine as NDJSON, an object a package.

For dev/demo: real text, with quotes, several lines, and every alphabet in which maintainers' names
are written. A field that a package does not have is null.
"""

import json
import subprocess
import sys

FIELDS = {
    "package": "Package",
    "version": "Version",
    "architecture": "Architecture",
    "section": "Section",
    "priority": "Priority",
    "installed_kb": "Installed-Size",
    "maintainer": "Maintainer",
    "homepage": "Homepage",
    "summary": "binary:Summary",
    "description": "Description",
}
# Characters that no field contains: ASCII's own separators.
UNIT = "\x1f"
RECORD = "\x1e"


def main():
    # The status distinguishes installed packages from those whose settings alone are left.
    form = UNIT.join(f"${{{field}}}" for field in ("db:Status-Status", *FIELDS.values()))
    form += RECORD
    listing = subprocess.run(
        ["dpkg-query", "--show", f"--showformat={form}"], stdout=subprocess.PIPE, check=True
    ).stdout.decode("utf-8", "replace")
    for record in listing.split(RECORD)[:-1]:
        status, *values = [value or None for value in record.split(UNIT)]
        if status != "installed":
            continue
        package = dict(zip(FIELDS, values, strict=True))
        # The description's first line repeats the summary.
        package["description"] = (package["description"] or "").partition("\n")[2] or None
        json.dump(package, sys.stdout, ensure_ascii=False)
        print()


if __name__ == "__main__":
    main()
