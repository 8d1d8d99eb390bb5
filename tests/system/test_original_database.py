"""A database that the original implementation made: used as it is, never changed."""

import datetime
import json
import os
import subprocess

import pytest

from harness import hv, store_config
from harness.server import binaries

OUR_EPOCH = 1379365531352
NEXT_ID = """
CREATE FUNCTION {schema}.next_id(OUT result bigint) AS $$
DECLARE
    our_epoch bigint := {epoch};
    seq_id bigint;
    now_millis bigint;
    shard_id int := {shard};
BEGIN
    SELECT nextval('{schema}.table_id_seq') % 1024 INTO seq_id;
    SELECT FLOOR(EXTRACT(EPOCH FROM clock_timestamp()) * 1000) INTO now_millis;
    result := (now_millis - our_epoch) << 23;
    result := result | (shard_id << 10);
    result := result | (seq_id);
END;
$$ LANGUAGE PLPGSQL;
"""


def _make_original_shard(database, shard, epoch=OUR_EPOCH, updated=False):
    """A shard as the original implementation made it."""
    schema = f"shard{shard:04d}"
    database.sql(f"CREATE SCHEMA {schema}; CREATE SEQUENCE {schema}.table_id_seq")
    # Without arguments: it holds a percent sign.
    database.sql(NEXT_ID.format(schema=schema, shard=shard, epoch=epoch))
    database.sql(
        f"CREATE TABLE {schema}.entities ("
        f" id bigint PRIMARY KEY DEFAULT {schema}.next_id(),"
        " type smallint NOT NULL,"
        " body hstore NOT NULL" + (", updated timestamp" if updated else "") + ")"
    )
    database.sql(
        f"INSERT INTO {schema}.entities (type, body) VALUES (7, 'who => first, what => NULL')"
    )


def _make_original(database, shards, **how):
    database.sql("CREATE EXTENSION IF NOT EXISTS hstore")
    for shard in shards:
        _make_original_shard(database, shard, **how)


def _dump(database, shards, *options):
    """The shards' definitions as SQL, and their sequences' state."""
    params = database.server.socket_params()
    dump = subprocess.run(
        [os.path.join(binaries(), "pg_dump"), "-U", "postgres", "-d", database.dbname]
        + [f"--{name}={value}" for name, value in params.items()]
        + [f"--schema=shard{shard:04d}" for shard in shards]
        + ["--schema-only", *options],
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    # \restrict and \unrestrict have a random word.
    lines = [line for line in dump.splitlines() if not line.startswith("\\")]
    assert sum("next_id()" in line for line in lines) >= len(shards)
    states = [
        database.query(f"SELECT last_value, log_cnt, is_called FROM shard{shard:04d}.table_id_seq")
        for shard in shards
    ]
    return lines, states


def _rows(database, shard):
    return database.query(f"SELECT id, type, body::text FROM shard{shard:04d}.entities ORDER BY id")


def _config(tmp_path, database, **options):
    return store_config(tmp_path / "hypervault.conf", {"one": (database, "1-5")}, **options)


SHARDS = range(1, 5)


@pytest.fixture(params=[False, True], ids=["plain", "with a column updated"])
def original(request, server):
    """A database with the shards 1 to 4."""
    _make_original(server, SHARDS, updated=request.param)
    return server


def _require_put_and_get(config, database, shard):
    """A stored entity is read back, and the one that was there before has not changed."""
    key = hv("put", shard, 3, "beep=boop", "--null", "nothing", config=config).ok().out.strip()
    got = hv("get", key, "--json", config=config).ok().json()
    assert got["body"] == {"beep": "boop", "nothing": None}
    assert got["kind"] == 3
    assert int(key) >> 10 & 8191 == shard
    first = _rows(database, shard)[0]
    got = hv("get", first[0], "--json", config=config).ok().json()
    assert got["body"] == {"who": "first", "what": None}
    assert got["kind"] == 7


def test_put_and_get_need_no_init(original, tmp_path):
    config = _config(tmp_path, original)
    for shard in SHARDS:
        _require_put_and_get(config, original, shard)


def test_init_leaves_what_is_there_untouched(original, tmp_path):
    config = _config(tmp_path, original)
    before = _dump(original, SHARDS), [_rows(original, shard) for shard in SHARDS]
    result = hv("init", "--json", config=config).ok().json()
    assert (result[0]["shards"], result[0]["created"]) == (4, 0)
    assert (_dump(original, SHARDS), [_rows(original, shard) for shard in SHARDS]) == before
    for shard in SHARDS:
        _require_put_and_get(config, original, shard)


def test_status_shows_it_before_and_after_init(original, tmp_path):
    config = _config(tmp_path, original)

    def status():
        (server,) = hv("status", "--json", config=config).ok().json()["servers"]
        states = [(s["shard_id"], s["state"], s["entities"]) for s in server["shards"]]
        return server["ready"], server["layout"], states

    states = [(shard, "ready", 1) for shard in SHARDS]
    assert status() == (True, 0, states)
    assert "ready" in hv("status", config=config).ok().out
    hv("init", config=config).ok()
    assert status() == (True, 1, states)


def test_what_the_original_wrote_afterwards_is_found_too(original, tmp_path):
    config = _config(tmp_path, original)
    hv("init", config=config).ok()
    key = original.value(
        "INSERT INTO shard0003.entities (type, body) VALUES (1, 'a=>b') RETURNING id"
    )
    assert hv("get", key, "--json", config=config).ok().json()["body"] == {"a": "b"}


def test_shards_that_are_missing_are_made_beside_those_that_are_there(server, tmp_path):
    there = (1, 3)
    _make_original(server, there, updated=True)
    config = _config(tmp_path, server)
    before = _dump(server, there)
    result = hv("status", "--json", config=config)
    assert result.code == 1
    assert result.json()["servers"][0]["shards_missing"] == 2
    created = hv("init", "--json", config=config).ok().json()[0]["created"]
    assert created == 2
    assert _dump(server, there) == before
    for shard in there:
        _require_put_and_get(config, server, shard)
    for shard in (2, 4):
        key = hv("put", shard, 1, "a=b", config=config).ok().out.strip()
        assert hv("get", key, "--json", config=config).ok().json()["shard_id"] == shard
    hv("status", config=config).ok()


def test_hstore_may_be_in_a_schema_of_its_own(server, tmp_path):
    server.sql("CREATE SCHEMA extensions; CREATE EXTENSION hstore SCHEMA extensions")
    with server.connect() as connection:
        cursor = connection.cursor()
        cursor.execute(f"ALTER DATABASE {server.dbname} SET search_path TO public, extensions")
    _make_original_shard(server, 2)
    with server.connect() as connection:
        cursor = connection.cursor()
        cursor.execute(f"ALTER DATABASE {server.dbname} RESET search_path")
    config = _config(tmp_path, server)
    hv("init", config=config).ok()
    _require_put_and_get(config, server, 2)
    hv("put", 1, 1, "a=b", config=config).ok()


def _now():
    now = datetime.datetime.now(datetime.timezone.utc)
    return now.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _schemas(database):
    return {row[0] for row in database.query("SELECT nspname FROM pg_namespace")}


def test_another_epoch_in_the_function_is_refused_and_nothing_is_made(server, tmp_path):
    _make_original(server, (1, 2))
    _make_original_shard(server, 3, epoch=1314220021721)
    config = _config(tmp_path, server)
    before = _dump(server, (1, 2, 3)), _schemas(server)
    result = hv("init", "--json", config=config)
    assert result.code == 1
    error = json.loads(result.out)[0]["error"]
    assert error["status"] == "HV_MISMATCH"
    assert (error["server"], error["shard"]) == ("one", 3)
    assert "1314220021721" in error["detail"] and str(OUR_EPOCH) in error["detail"]
    assert '"epoch"' in error["hint"]
    assert (_dump(server, (1, 2, 3)), _schemas(server)) == before


def test_a_database_with_another_epoch_works_when_the_option_says_so(server, tmp_path):
    epoch = 1314220021721
    _make_original(server, SHARDS, epoch=epoch)
    config = _config(tmp_path, server, epoch=epoch)
    hv("init", config=config).ok()
    _require_put_and_get(config, server, 3)
    before = _now()
    created = hv("put", 3, 1, "--json", config=config).ok().json()["created"]
    assert before <= created <= _now()
