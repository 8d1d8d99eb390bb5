"""The fixtures are in harness/fixtures.py."""

from harness import python
from harness.fixtures import *  # noqa: F403

collect_ignore_glob = [] if python.is_usable() else ["test_python_*.py"]
