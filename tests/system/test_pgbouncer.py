"""A store behind PgBouncer in transaction mode, with the option prepare off, and with it on."""

import json
import threading

import psycopg2
import pytest

from harness import PgBouncer, eventually, hv, store_config
from harness.store_tool import make_tool  # noqa: F401

SHARDS = range(1, 9)


@pytest.fixture
def bouncer(server):
    """In front of the server of `server`, with two connections that take turns."""
    with PgBouncer(server.server, settings={"server_round_robin": 1}) as bouncer:
        yield bouncer


def _config(tmp_path, bouncer, database, **options):
    servers = {"one": (bouncer.params(database.dbname), "1-9")}
    return store_config(tmp_path / f"{len(options)}.conf", servers, **options)


@pytest.fixture
def bounced(tmp_path, bouncer, server):
    """A store through the bouncer, prepare=off, its shards made through it too."""
    config = _config(tmp_path, bouncer, server, prepare="off")
    hv("init", config=config).ok()
    return config


def _entities(database):
    union = " UNION ALL ".join(
        f"SELECT id, body -> 'n' FROM shard{shard:04d}.entities" for shard in SHARDS
    )
    return dict(database.query(union))


def test_a_store_is_made_and_shown_through_a_bouncer(bounced):
    status = hv("status", "--json", config=bounced).ok().json()
    assert [server["shards_ready"] for server in status["servers"]] == [len(SHARDS)]
    again = hv("init", "--json", config=bounced).ok().json()
    assert again[0]["created"] == 0


def test_entities_go_through_a_bouncer(bounced):
    keys = [hv("put", shard, 1, f"n={shard}", config=bounced).ok().out.strip() for shard in SHARDS]
    for shard, key in zip(SHARDS, keys):
        assert f"{shard}" in hv("get", key, config=bounced).ok().out


def test_many_threads_share_few_connections_of_a_bouncer(bounced, server, tmp_path):
    rows = tmp_path / "rows.ndjson"
    rows.write_text("".join(json.dumps({"n": str(n)}) + "\n" for n in range(2000)))
    hv("import", rows, "--kind", 1, "--jobs", 10, config=bounced).ok()
    assert sorted(map(int, _entities(server).values())) == list(range(2000))
    assert len(server.clients()) <= 2


def test_a_borrower_has_utf8_and_utc_through_a_bouncer(bounced, make_tool):
    tool = make_tool(bounced, pool_max=4)
    threads = tool.threads("ann", "bob", "cid", "dan")
    for thread in threads:
        thread.acquire(3).ok()
    for _ in range(3):  # on whichever of the two connections comes
        for thread in threads:
            assert thread.sql("SHOW TimeZone").ok().value == "UTC"
            assert thread.sql("SHOW client_encoding").ok().value == "UTF8"
    threads[0].sql("BEGIN").ok()
    assert threads[0].sql("SELECT 'é'").ok().value == "é"
    for thread in threads:
        thread.release().ok()


def _open_two(params):
    """Make the bouncer open both of its connections."""
    connections = [psycopg2.connect(**params) for _ in range(2)]
    for connection in connections:
        connection.cursor().execute("SELECT 1")  # in a transaction that stays open
    for connection in connections:
        connection.rollback()
        connection.close()


def test_prepared_statements_behind_a_bouncer_give_the_hint_to_turn_them_off(
    bounced, bouncer, server, tmp_path
):
    config = _config(tmp_path, bouncer, server)  # prepare=on
    _open_two(bouncer.params(server.dbname))
    for _ in range(5):  # the connections take turns, so one that is prepared meets one that is not
        result = hv("put", 3, 1, "n=1", "--json", config=config)
        if result.code != 0:
            break
    assert result.code == 1
    error = json.loads(result.err)["error"]
    assert error["status"] == "HV_REFUSED"
    assert error["sqlstate"] in ("26000", "42P05")
    assert "PgBouncer" in error["hint"] and '"prepare"' in error["hint"]


def _put_until(stop, thread, shard, outcomes):
    """Put one entity after the other; note the result of each call."""
    while not stop.is_set():
        n = f"{shard}-{len(outcomes)}"
        reply = thread.put(shard, 1, {"n": n})
        outcomes[n] = reply


@pytest.mark.parametrize("how", ["kill", "terminate"])
def test_a_bouncer_that_restarts_loses_nothing_that_was_confirmed(
    bounced, bouncer, server, make_tool, how
):
    tool = make_tool(bounced, pool_max=4, pool_block_timeout="20s")
    stop = threading.Event()
    outcomes = {shard: {} for shard in SHARDS}
    writers = [
        threading.Thread(target=_put_until, args=(stop, thread, shard, outcomes[shard]))
        for shard, thread in zip(SHARDS, tool.threads(*map(str, SHARDS)))
    ]
    for writer in writers:
        writer.start()

    def all_put(more):
        before = {shard: _successes(outcomes[shard]) for shard in SHARDS}
        eventually(lambda: all(_successes(outcomes[s]) >= before[s] + more for s in SHARDS))

    try:
        for _ in range(3):
            all_put(20)
            bouncer.restart(how)
        all_put(20)
    finally:
        stop.set()
        for writer in writers:
            writer.join()

    stored = _entities(server)
    by_name = {name: key for key, name in stored.items()}
    assert len(by_name) == len(stored)  # nothing twice
    for shard in SHARDS:
        for name, reply in outcomes[shard].items():
            if reply.status == "HV_OK":
                assert by_name.pop(name) == reply.key
            elif reply.status == "HV_OUTCOME_UNKNOWN":
                by_name.pop(name, None)
            else:
                assert reply.status in ("HV_UNAVAILABLE", "HV_TIMEOUT"), reply
                assert name not in by_name, reply
    assert by_name == {}


def _successes(outcomes):
    return sum(reply.status == "HV_OK" for reply in list(outcomes.values()))
