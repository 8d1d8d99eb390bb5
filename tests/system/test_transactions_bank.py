"""Threads that move amounts between accounts, in transactions: whatever happens, the sum stays."""

import os

import pytest

from changing import SHARD, changed, content  # noqa: F401
from harness import eventually
from harness.command import program, spawn
from sweeping import DIRECTIONS, one, relayed  # noqa: F401
from transacting import REPEATABLE_READ, SERIALIZABLE

pytestmark = [pytest.mark.threads, pytest.mark.races]

ACCOUNTS = 6
THREADS = 8
CUTS = 20
COUNT = int(os.environ.get("HV_TEST_TRANSFERS", "60"))  # by each thread
PATIENT = ("pool_block_timeout=60s", "operation_timeout=60s")


def sum_of(database, keys):
    there = content(database, keys)
    assert len(there) == ACCOUNTS
    balances = [int(there[key][1]["balance"]) for key in keys]
    assert min(balances) >= 0
    return sum(balances)


@pytest.mark.parametrize("isolation", [REPEATABLE_READ, SERIALIZABLE])
def test_the_sum_of_the_accounts_stays(changed, isolation):
    path, (database, _) = changed
    arguments = (path, SHARD, ACCOUNTS, THREADS, COUNT, isolation, *PATIENT)
    keys, counts = program("bank_stress", *arguments, timeout=3600).ok().lines
    keys = list(map(int, keys.split()))
    moved, too_little, unknown, again, tried = map(int, counts.split())
    print(f"{moved} transfers, {too_little} with too little, {again} begun again")
    assert moved + too_little == THREADS * (COUNT - (COUNT + 9) // 10)
    assert moved > 0 and unknown == tried == 0
    assert again > 0  # they have met
    assert sum_of(database, keys) == 100 * ACCOUNTS


@pytest.mark.parametrize("isolation", [REPEATABLE_READ, SERIALIZABLE])
def test_the_sum_stays_over_a_network_that_cuts(relayed, one, isolation):
    config, between = relayed(operation_timeout="60s")
    arguments = (config, 3, ACCOUNTS, THREADS, COUNT, isolation, *PATIENT)
    process = spawn("bank_stress", *map(str, arguments))
    try:
        keys = list(map(int, process.stdout.readline().split()))
        for turn in range(CUTS):
            between.cut_in(DIRECTIONS[turn % 2], 1 + 97 * turn % 1500)
            eventually(
                lambda: not between.waits_to_act or process.poll() is not None, timeout=60
            )
        out, err = process.communicate(timeout=300)
    finally:
        process.kill()
    assert (process.returncode, err) == (0, b""), out
    moved, too_little, unknown, again, _ = map(int, out.split())
    print(f"{moved} transfers, {unknown} unknown, {again} begun again, {CUTS} cuts")
    assert moved > 0 and again > 0
    eventually(lambda: one.clients() == [])
    assert sum_of(one, keys) == 100 * ACCOUNTS
