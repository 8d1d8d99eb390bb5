#!/usr/bin/python3
"""Does shellcheck find nothing in the shell scripts, and do they stop at the first error?"""

import re
import shutil
import subprocess

import checking


def scripts(root):
    """Files that open with #!…sh, or end in .sh."""
    for path in checking.files(root, "", ".sh", ".bash"):
        with path.open("rb") as file:
            first = file.readline()
        if path.suffix or re.match(rb"#!.*sh\b", first):
            yield path


def problems(root, shellcheck):
    found = []
    for path in scripts(root):
        place = path.relative_to(root)
        text = path.read_text(encoding="utf-8")
        if text.startswith("#!"):
            if "\nset -euo pipefail\n" not in text:
                found.append(f"{place}: does not set -euo pipefail")
            if not path.stat().st_mode & 0o100:
                found.append(f"{place}: is not executable")
        done = subprocess.run(
            [shellcheck, "--format=gcc", "--external-sources", f"--source-path={root}", str(path)],
            capture_output=True,
            text=True,
            check=False,
        )
        found += [line.replace(f"{root}/", "") for line in done.stdout.splitlines()]
        if done.returncode > 1:
            found.append(f"{place}: shellcheck failed: {done.stderr}")
    return found


if __name__ == "__main__":
    program = shutil.which("shellcheck")
    if program is None:
        checking.skip("shellcheck is not installed")
    checking.report(problems(checking.ROOT, program))
