"""The fixtures are in harness/fixtures.py."""

import pytest

from harness import python
from harness.fixtures import *  # noqa: F403

collect_ignore_glob = [] if python.is_usable() else ["test_python_*.py"]


def pytest_collection_modifyitems(items):
    for item in items:
        module = item.module
        if module.__name__.startswith("test_python_") or getattr(module, "python", None) is python:
            item.add_marker(pytest.mark.package)
