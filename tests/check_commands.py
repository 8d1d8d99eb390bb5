#!/usr/bin/python3
"""Does the man page describe every command and option that `hv help --json` lists, and no other,
with the same defaults?
Do the Markdown documents name only commands that exist?

usage: check_commands.py HV
"""

import json
import re
import shutil
import subprocess
import sys

import checking

PAGE = "docs/man/hv.1"


def rendered(path):
    """(the man page as plain text, mandoc's complaints)."""
    checking.read(checking.ROOT, PAGE)
    mandoc = shutil.which("mandoc")
    if mandoc is None:
        checking.skip("mandoc is not installed")
    lint = subprocess.run(
        [mandoc, "-T", "lint", "-W", "warning", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    text = subprocess.run(
        [mandoc, "-T", "utf8", "-O", "width=300", str(path)],
        capture_output=True,
        text=True,
        check=True,
    )
    complaints = [line.split(": ", 2)[-1] for line in lint.stdout.splitlines()]
    return re.sub(".\b", "", text.stdout).replace("\u2010", "-"), complaints


def page_problems(listing, text):
    found = []
    names = [command["name"] for command in listing["commands"]]
    options = {option["name"] for option in listing["global_options"]}
    for command in listing["commands"]:
        options |= {option["name"] for option in command.get("options", [])}
    for name in names:
        words = r"\s+".join(map(re.escape, name.split()))
        if not re.search(rf"^\s*(hv\s+)?{words}(?![\w-])", text, re.MULTILINE):
            found.append(f"{PAGE}: the command {name} is not described")
    written = set(re.findall(r"(?<![\w-])--([a-z][\w-]*)", text))
    found += [f"{PAGE}: the option --{it} is not described" for it in sorted(options - written)]
    found += [f"{PAGE}: there is no option --{it}" for it in sorted(written - options)]
    return found


def default_of(text):
    """The values that the text names as the default, one for each case, starting with the first
    that applies; none if the default takes a sentence to explain."""
    values = re.split(r", or else |, otherwise ", text)
    plain = [value.strip("\u2018\u2019") for value in values]
    return [value for value in plain if re.fullmatch(r"\w+", value)]


def default_problems(listing, text):
    """An option's section of the page begins with its names, and its text is indented."""
    sections = {}
    for name, body in re.findall(
        r"^ +(?:-\w, )?--([a-z][\w-]*)[^\n]*\n((?: {20,}[^\n]*\n)+)", text, re.MULTILINE
    ):
        found = re.search(r"The default is (?:the owner of the folder if it is there, otherwise )?"
                          r"(.*?)\.(?:\s|$)", body)
        sections.setdefault(name, []).append(default_of(found.group(1)) if found else [])
    by_help = {}
    for command in listing["commands"]:
        for option in command.get("options", []):
            found = re.search(r"; default: (.*)$", option["help"])
            by_help.setdefault(option["name"], []).append(default_of(found.group(1)) if found else [])
    problems = []
    for name, said in by_help.items():
        said = [values for values in said if values]
        written = [values for values in sections.get(name, []) if values]
        if said and written and not any(values in said for values in written):
            problems.append(f"{PAGE}: the default of --{name} is {written}, by hv help {said}")
    return problems


def example_problems(listing, place, markdown):
    """Problems of the lines `hv WORD …` in the code blocks of a Markdown text."""
    firsts = {command["name"].split()[0] for command in listing["commands"]}
    found = []
    in_block = False
    for number, line in enumerate(markdown.splitlines(), 1):
        if line.lstrip().startswith("```"):
            in_block = not in_block
        match = re.match(r"\s*(?:\$ )?(?:dev/)?hv((?: +--?\S+)*) +([a-z][\w-]*)", line)
        if in_block and match and match.group(2) not in firsts:
            found.append(f"{place}:{number}: there is no command hv {match.group(2)}")
    return found


def main(hv):
    root = checking.ROOT
    done = subprocess.run([hv, "help", "--json"], capture_output=True, text=True, check=True)
    listing = json.loads(done.stdout)
    text, complaints = rendered(root / PAGE)
    found = [f"{PAGE}: {complaint}" for complaint in complaints]
    found += page_problems(listing, text) + default_problems(listing, text)
    for path in checking.files(root, ".md"):
        place = path.relative_to(root)
        found += example_problems(listing, place, path.read_text(encoding="utf-8"))
    checking.report(found)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
