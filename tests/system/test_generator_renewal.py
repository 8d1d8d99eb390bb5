"""A portable reserve_ids() that an earlier version made goes on working, and init makes it anew."""

import concurrent.futures
import threading

import pytest

from harness import hv, store_config


@pytest.fixture
def init(tmp_path, server):
    """A function that runs `hv init` on four shards and returns how many it has made or changed."""
    path = tmp_path / "hypervault.conf"

    def run(user="postgres", **options):
        servers = {"one": ({**server.params(), "user": user}, "1-5")}
        run.path = store_config(path, servers, **options)
        return int(hv("init", config=run.path).ok().lines[1].split()[2])

    return run


def reserve(database, count):
    return [row[0] for row in database.query("SELECT shard0003.reserve_ids(%s)", count)]


def source_of_reserve_ids(database):
    return database.value(
        "SELECT prosrc FROM pg_proc WHERE oid = 'shard0003.reserve_ids(integer)'::regprocedure"
    )


def replace_reserve_ids(database, source):
    database.sql(
        "CREATE OR REPLACE FUNCTION shard0003.reserve_ids(how_many integer) RETURNS SETOF bigint"
        " LANGUAGE plpgsql SET search_path TO pg_catalog, pg_temp"
        f" AS $body${source}$body$"
    )


def slow_source(source):
    """It gave the keys by a query."""
    return (
        source[: source.index("    FOR place IN")]
        + """    RETURN QUERY SELECT ((v OPERATOR(pg_catalog./) 128) OPERATOR(pg_catalog.<<) 23)
            OPERATOR(pg_catalog.|) 3072
            OPERATOR(pg_catalog.|) (896 OPERATOR(pg_catalog.+)
                (v OPERATOR(pg_catalog.%) 128))
        FROM pg_catalog.generate_series(last_value OPERATOR(pg_catalog.+) 1,
            last_value OPERATOR(pg_catalog.+) how_many) v;
END """
    )


def test_init_makes_a_slower_reserve_ids_of_an_earlier_version_anew(init, server):
    assert init(keys="portable") == 4
    made = source_of_reserve_ids(server)
    keys = reserve(server, 200)
    replace_reserve_ids(server, slow_source(made))
    assert hv("status", config=init.path).code == 0  # it does its work
    keys += reserve(server, 200)
    assert init() == 1
    assert source_of_reserve_ids(server) == made
    keys += reserve(server, 200)
    assert keys == sorted(set(keys))
    assert init() == 0


def test_it_stays_where_it_belongs_to_another_role(init, server):
    role = "renewal_plain"
    if not server.query("SELECT FROM pg_roles WHERE rolname = %s", role):
        server.sql(f"CREATE ROLE {role} LOGIN")
    assert init(keys="portable") == 4
    slow = slow_source(source_of_reserve_ids(server))
    replace_reserve_ids(server, slow)
    server.sql(
        f"GRANT USAGE ON SCHEMA hypervault, shard0001, shard0002, shard0003, shard0004 TO {role};"
        f"GRANT SELECT ON ALL TABLES IN SCHEMA hypervault TO {role}"
    )
    assert init(user=role) == 0
    assert source_of_reserve_ids(server) == slow


def test_keys_stay_unique_while_it_is_made_anew(init, server):
    assert init(keys="portable") == 4
    made = source_of_reserve_ids(server)
    ended = threading.Event()

    def take():
        taken = []
        with server.connect() as connection, connection.cursor() as cursor:
            while not ended.is_set():
                cursor.execute("SELECT shard0003.reserve_ids(3)")
                taken += [row[0] for row in cursor]
        return taken

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        takers = [pool.submit(take) for _ in range(4)]
        try:
            for _ in range(10):
                replace_reserve_ids(server, slow_source(made))
                assert init() == 1
        finally:
            ended.set()
        keys = [key for taker in takers for key in taker.result()]
    assert len(keys) > 100 and len(set(keys)) == len(keys)
