#!/usr/bin/python3
"""Print the totals of the JUnit files in a folder: "N passed, N failed", and what was skipped.

usage: totals.py FOLDER FAILED_STAGES

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


def main(folder, failed_stages):
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    for path in sorted(pathlib.Path(folder).glob("*.xml")):
        for testcase in xml.etree.ElementTree.parse(path).iter("testcase"):
            result = outcome(testcase)
            counts[result] += 1
            if result == "failed":
                print(f"failed in {path.stem}: {testcase.get('name')}")
    counts["failed"] = max(counts["failed"], failed_stages)
    shown = ["passed", "failed"] + ["skipped"] * bool(counts["skipped"])
    print(", ".join(f"{counts[result]} {result}" for result in shown))
    sys.exit(1 if counts["failed"] or not counts["passed"] else 0)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(sys.argv[1], int(sys.argv[2]))
