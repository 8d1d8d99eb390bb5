"""Many threads on one store while its servers misbehave: the reported outcome of each put is true.
"""

import random

import pytest

from harness import eventually
from harness.store_tool import relayed_store  # noqa: F401
from harness.stress import (  # noqa: F401
    ONE,
    SECONDS,
    THREADS,
    TWO,
    check,
    pause,
    stress,
)

pytestmark = [pytest.mark.threads, pytest.mark.races]

def test_threads_read_what_each_other_wrote(stress, store, servers):
    run = stress(store)
    for server in (ONE, TWO):
        run.flows(servers, server)
    pause(SECONDS)
    for counts in check(run.finish(), servers):
        assert set(counts) == {"HV_OK"}


@pytest.mark.parametrize("prepare", ["prepared_max=1", "prepare=off"])
def test_threads_read_what_each_other_wrote_with_few_or_no_prepared_statements(
    stress, store, servers, prepare
):
    name, value = prepare.split("=")
    run = stress(store, **{name: value})
    for server in (ONE, TWO):
        run.flows(servers, server)
    pause(SECONDS)
    for counts in check(run.finish(), servers):
        assert set(counts) == {"HV_OK"}


def test_connections_that_expire_all_the_time_are_no_trouble(stress, store, servers):
    run = stress(store, max_lifetime="20ms", idle_timeout="1ms", pool_max=3)
    for server in (ONE, TWO):
        run.flows(servers, server)
    pause(SECONDS)
    for counts in check(run.finish(), servers):
        assert set(counts) == {"HV_OK"}


def is_forbidden(put):
    """One put of each hundred, from the beginning on."""
    return (37 * put.number + put.writer) % 100 == 99


def forbid_hundredths(database, shards, moment=""):
    """Make each shard refuse what is_forbidden(), at once or at the commit."""
    database.sql("""
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN RAISE check_violation USING MESSAGE = 'no hundredth'; END $$""")
    for shard in shards:
        database.sql(f"""
            CREATE CONSTRAINT TRIGGER no_hundredth AFTER INSERT ON shard{shard:04}.entities {moment}
            FOR EACH ROW WHEN (
                mod(37 * (NEW.body->'number')::int + (NEW.body->'writer')::int, 100) = 99)
            EXECUTE FUNCTION refuse()""")


@pytest.mark.parametrize("lanes", [1, 2, 5])
@pytest.mark.parametrize("moment", ["", "DEFERRABLE INITIALLY DEFERRED"], ids=["row", "commit"])
def test_of_64_threads_only_those_are_refused_that_a_constraint_forbids(
    stress, store, servers, moment, lanes
):
    forbid_hundredths(servers[ONE], range(1, 9), moment)
    forbid_hundredths(servers[TWO], range(9, 17), moment)
    run = stress(store, threads=64, lanes=lanes)
    for server in (ONE, TWO):
        run.flows(servers, server, count=200)
    pause(SECONDS)
    puts = run.finish()
    check(puts, servers)
    for put in puts:
        assert put.status == ("HV_REFUSED" if is_forbidden(put) else "HV_OK"), put
    assert any(put.status == "HV_REFUSED" for put in puts)


def test_64_threads_lose_nothing_while_a_server_is_killed_and_its_constraint_refuses(
    stress, own_store, own_servers
):
    forbid_hundredths(own_servers[ONE], range(1, 9))
    run = stress(own_store, threads=64)
    run.flows(own_servers, ONE, count=200)
    for _ in range(2):
        pause(1)
        own_servers[ONE].server.kill9()
        own_servers[ONE].server.start()
        run.flows(own_servers, ONE, count=200)
    puts = run.finish()
    one, two = check(puts, own_servers)
    assert set(two) == {"HV_OK"}
    assert {"HV_OK", "HV_REFUSED"} <= set(one)
    assert set(one) <= {"HV_OK", "HV_REFUSED", "HV_UNAVAILABLE", "HV_OUTCOME_UNKNOWN"}
    for put in puts:
        if put.shard < 9 and is_forbidden(put):
            assert put.status != "HV_OK", put
        else:
            assert put.status != "HV_REFUSED", put


@pytest.mark.parametrize("end", ["kill9", "fast", "immediate"])
def test_a_server_that_ends_and_comes_back_loses_nothing_that_was_acknowledged(
    stress, own_store, own_servers, end
):
    server = own_servers[ONE].server
    run = stress(own_store)
    for _ in range(2):
        run.flows(own_servers, ONE)
        pause(1)
        server.kill9() if end == "kill9" else server.stop(end)
        pause(0.5)
        server.start()
        back = run.now()
    run.flows(own_servers, ONE)
    puts = run.finish()
    one, two = check(puts, own_servers)
    assert set(two) == {"HV_OK"}
    assert set(one) <= {"HV_OK", "HV_UNAVAILABLE", "HV_OUTCOME_UNKNOWN"}
    assert one["HV_UNAVAILABLE"] > 0
    # At most one write of each thread was in flight when the server ended.
    assert one["HV_OUTCOME_UNKNOWN"] <= 2 * THREADS
    assert any(put.shard < 9 and put.status == "HV_OK" and put.ended > back for put in puts)


def test_clients_that_the_administrator_ends_again_and_again(stress, own_store, own_servers):
    run = stress(own_store)
    ended = 0
    while ended < 40:
        ended += own_servers[ONE].terminate_clients()
    run.flows(own_servers, ONE)
    puts = run.finish()
    one, two = check(puts, own_servers)
    assert set(two) == {"HV_OK"}
    assert set(one) <= {"HV_OK", "HV_UNAVAILABLE", "HV_OUTCOME_UNKNOWN"}
    assert one["HV_OK"] > 0


def test_a_network_that_cuts_and_stalls_again_and_again(stress, relayed_store, own_servers):
    config, between = relayed_store
    run = stress(config, operation_timeout=3)
    chance = random.Random(7)
    for _ in range(15):
        deed = chance.choice(["cut", "cut_in", "stall", "refuse"])
        direction = chance.choice(["to_server", "to_client"])
        if deed == "cut":
            between.cut()
        elif deed == "cut_in":
            between.cut_in(direction, chance.randrange(1, 2000))
        elif deed == "stall":
            between.stall()
            pause(chance.choice([0.05, 4]))
            between.resume()
        else:
            between.refuse()
            between.cut()
            pause(0.1)
            between.refuse(False)
        pause(0.2)
    between.cut_in("to_client", None)
    between.cut_in("to_server", None)
    since = run.now()
    run.flows(own_servers, ONE)
    puts = run.finish()
    eventually(lambda: own_servers[ONE].clients() == [])  # no write is running any more
    one, two = check(puts, own_servers)
    assert two["HV_OK"] > 0.9 * sum(two.values())
    assert set(one) <= {"HV_OK", "HV_UNAVAILABLE", "HV_OUTCOME_UNKNOWN", "HV_TIMEOUT"}
    assert any(put.shard < 9 and put.status == "HV_OK" and put.ended > since for put in puts)


def test_a_server_that_freezes_holds_nobody_up_past_the_deadlines(stress, own_store, own_servers):
    run = stress(own_store, operation_timeout=3)
    run.flows(own_servers, ONE)
    with own_servers[ONE].server.frozen():
        pause(5)
    thawed = run.now()
    run.flows(own_servers, ONE)
    puts = run.finish()
    eventually(lambda: own_servers[ONE].clients() == [])
    one, two = check(puts, own_servers)
    assert two["HV_OK"] > 0.9 * sum(two.values())
    assert set(one) <= {"HV_OK", "HV_UNAVAILABLE", "HV_OUTCOME_UNKNOWN", "HV_TIMEOUT"}
    assert one["HV_TIMEOUT"] + one["HV_OUTCOME_UNKNOWN"] > 0
    assert any(put.shard < 9 and put.status == "HV_OK" and put.ended > thawed for put in puts)
