"""Marks of tests that cannot run in some builds."""

import pytest

from .command import sanitizers

# It forks while other threads allocate memory.
forks_beside_busy_threads = pytest.mark.skipif(
    "address" in sanitizers(),
    reason="AddressSanitizer before LLVM 17 does not take its allocator's locks around fork(): "
    "the child hangs in malloc() if another thread held one",
)
