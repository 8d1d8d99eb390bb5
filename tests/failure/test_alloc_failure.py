"""Memory that runs out at any point of an operation: the error is true, nothing leaks or breaks.

alloc_failure.c does the work, and says what must hold.
"""

import pytest

from harness import program, store_config

OPERATIONS = [
    "open",
    "put_first",
    "put",
    "put_large",
    "get_first",
    "get",
    "get_large",
    "put_many_first",
    "put_many",
    "get_many",
    "lend_first",
    "lend",
    "create",
    "inspect",
    "close",
    "load_open_first",
    "load_list",
    "scan",
    "scan_large",
    "find",
    "find_large",
    "merge",
    "increment",
    "get_only",
    "change_many",
]

RUNS = [(operation, mode) for operation in OPERATIONS for mode in ("once", "forever")]
# These wait in vain for many answers; how a load is continued does not depend on the mode.
RUNS += [("load", "once"), ("load_kept", "forever")]
RUNS += [("transaction", "once"), ("transaction_steps", "once")]
# Without memory for a result, libpq may wait for it without end, and this has no deadline.
RUNS += [("each_once", "once")]


def _config(path, database, **options):
    """A store for alloc_failure. If libpq has no memory for a result, it may never come: then the
    deadline ends the operation."""
    options = {"pool_max": 2, "operation_timeout": "3s", **options}
    return store_config(path, {"one": (database, "1-3")}, **options)


def _run(operation, mode, database, **how):
    params = [f"{keyword}={value}" for keyword, value in database.params().items()]
    result = program("tests/failure/alloc_failure", operation, mode, *params, **how).ok()
    allocations, *statuses = result.out.split()
    return int(allocations), {status.partition("=")[0] for status in statuses}


@pytest.mark.parametrize("operation, mode", RUNS)
def test_memory_may_run_out_at_any_allocation_of(tmp_path, server, operation, mode):
    config = _config(tmp_path / "hypervault.conf", server)
    allocations, statuses = _run(operation, mode, server, config=config)
    if operation in ("close", "lend"):  # must not need any, except for libpq's results
        assert statuses == {"HV_OK"}
    else:
        assert allocations > 0 and statuses >= {"HV_OK", "HV_NO_MEMORY"}


@pytest.mark.parametrize("mode", ["once", "forever"])
def test_memory_may_run_out_while_a_configuration_file_is_looked_for(tmp_path, server, mode):
    _config(tmp_path / "hypervault.conf", server)
    _, statuses = _run("open", mode, server, cwd=tmp_path)
    assert statuses == {"HV_OK", "HV_NO_MEMORY"}


@pytest.mark.parametrize("operation", ["put_first", "put", "get"])
@pytest.mark.parametrize(
    "options",
    [{"prepare": "off"}, {"prepared_max": 1}, {"log_parameters": "on"}],
    ids=["unprepared", "one statement", "logged"],
)
def test_memory_may_run_out_with(tmp_path, server, operation, options):
    config = _config(tmp_path / "hypervault.conf", server, **options)
    _run(operation, "once", server, config=config)
