"""The fixtures of tests/system serve here too: see harness/fixtures.py there."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "system"))

from harness.fixtures import *  # noqa: E402, F403
