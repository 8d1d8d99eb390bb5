"""Waiting for a condition, instead of sleeping and hoping."""

import time


def eventually(condition, timeout=60.0, what=None, interval=0.02):
    """Call `condition` until it returns something true, and return that.

    An AssertionError that it raises counts as "not yet". Fails after `timeout` seconds, with the
    last such AssertionError if there was one.
    """
    deadline = time.monotonic() + timeout
    while True:
        last = None
        try:
            value = condition()
            if value:
                return value
        except AssertionError as error:
            last = error
        if time.monotonic() >= deadline:
            what = what or getattr(condition, "__name__", "the condition")
            raise AssertionError(f"not within {timeout:g} s: {what}") from last
        time.sleep(interval)
