"""The fixtures are in harness/fixtures.py."""

from harness.fixtures import *  # noqa: F403
