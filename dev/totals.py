#!/usr/bin/python3
"""Print the totals of the JUnit files in a folder: "N passed, N failed", and what was skipped.

usage: totals.py FOLDER FAILED_STAGES

NAME-again.xml has the tests that failed in NAME.xml and were run again. A test that passed then
counts as passed, and is named as unsteady: the test or the code has a fault that shows now and then.

Ends with 1 if a test failed, or a stage did, which counts as one failure if none of the tests did,
or if there were no tests at all.
"""

import pathlib
import sys
import xml.etree.ElementTree


def outcome(testcase):
    kinds = {child.tag for child in testcase}
    if kinds & {"failure", "error"}:
        return "failed"
    return "skipped" if "skipped" in kinds else "passed"


def testcases(path):
    return xml.etree.ElementTree.parse(path).iter("testcase")


def name_of(testcase):
    return testcase.get("classname"), testcase.get("name")


def outcomes_again(path):
    again = path.with_name(f"{path.stem}-again.xml")
    if not again.exists():
        return {}
    return {name_of(testcase): outcome(testcase) for testcase in testcases(again)}


def print_failure(testcase):
    for child in testcase:
        if child.tag in ("failure", "error"):
            print("\n".join((child.text or "").splitlines()[-60:]))


def main(folder, failed_stages):
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    for path in sorted(pathlib.Path(folder).glob("*.xml")):
        if path.stem.endswith("-again"):
            continue
        again = outcomes_again(path)
        for testcase in testcases(path):
            result = outcome(testcase)
            if result == "failed" and again.get(name_of(testcase)) == "passed":
                result = "passed"
                print_failure(testcase)
                print(f"unsteady in {path.stem}, passed when run again: {testcase.get('name')}")
            elif result == "failed":
                print(f"failed in {path.stem}: {testcase.get('name')}")
            counts[result] += 1
    counts["failed"] = max(counts["failed"], failed_stages)
    shown = ["passed", "failed"] + ["skipped"] * bool(counts["skipped"])
    print(", ".join(f"{counts[result]} {result}" for result in shown))
    sys.exit(1 if counts["failed"] or not counts["passed"] else 0)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(sys.argv[1], int(sys.argv[2]))
