#!/usr/bin/python3
"""Is all C formatted as .clang-format says? Fix it with: clang-format -i FILE…

Other versions format a little differently, so this takes the one that the project uses.
"""

import re
import shutil
import subprocess

import checking

VERSION = 14


def formatter():
    for name in (f"clang-format-{VERSION}", "clang-format"):
        path = shutil.which(name)
        if path:
            done = subprocess.run([path, "--version"], capture_output=True, text=True, check=True)
            match = re.search(r"version (\d+)", done.stdout)
            if match and int(match.group(1)) == VERSION:
                return path
    return None


def problems(root, program):
    paths = [str(path) for path in checking.files(root, ".c", ".h")]
    style = f"--style=file:{root / '.clang-format'}"
    command = [program, "--dry-run", "-Werror", style, *paths]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return []
    # One line of the output for each place; one line a file is enough.
    files = re.findall(r"^(.*?):(\d+):\d+: error: ", done.stderr, re.MULTILINE)
    first = {}
    for path, line in files:
        first.setdefault(path.replace(f"{root}/", ""), line)
    found = [f"{path}:{line}: is not formatted (clang-format -i)" for path, line in first.items()]
    return found or [f"{program} failed: {done.stderr}"]


if __name__ == "__main__":
    found_program = formatter()
    if found_program is None:
        checking.skip(f"clang-format {VERSION} is not installed")
    checking.report(problems(checking.ROOT, found_program))
