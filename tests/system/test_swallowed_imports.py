"""Rows that a trigger drops while they are imported are rejected rows, not stored ones."""

import itertools
import json

import pytest

from harness import hv, python
from importing import SHARDS, import_file, numbers, rejects
from swallowing import rename, swallow

ROWS = 3000


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def swallow_everywhere(servers, condition="true"):
    for database, shards in zip(servers, SHARDS):
        swallow(database, condition, shards)


def test_an_import_that_a_trigger_takes_away_stores_nothing_and_says_so(store, servers, tmp_path):
    swallow_everywhere(servers)
    path = write(tmp_path / "five.ndjson", [{"n": n} for n in range(5)])
    result = import_file(store, path)
    assert result.code == 1
    summary = result.json()
    assert (summary["stored"], summary["rejected"]) == (0, 5)
    for row in rejects(tmp_path / summary["rejects"]):
        assert row["status"] == "HV_NOT_STORED"
        assert "trigger" in row["reason"]
    assert numbers(servers) == []


@pytest.mark.parametrize("jobs", [1, 3])
def test_of_an_import_only_the_rows_that_a_trigger_takes_are_rejected(
    store, servers, tmp_path, jobs
):
    swallow_everywhere(servers, "(new.body -> 'n')::int % 7 = 3 OR new.body -> 'n' = '1500'")
    gone = {n for n in range(ROWS) if n % 7 == 3 or n == 1500}
    path = write(tmp_path / "rows.ndjson", [{"n": n} for n in range(ROWS)])
    result = import_file(store, path, "--jobs", jobs)
    assert result.code == 1
    summary = result.json()
    assert (summary["stored"], summary["rejected"]) == (ROWS - len(gone), len(gone))
    rejected = rejects(tmp_path / summary["rejects"])
    assert {row["line"] - 1 for row in rejected} == gone
    assert {row["status"] for row in rejected} == {"HV_NOT_STORED"}
    assert numbers(servers) == sorted(set(range(ROWS)) - gone)
    again = import_file(store, path, "--jobs", jobs, "--resume")
    assert again.json()["stored"] == 0
    assert numbers(servers) == sorted(set(range(ROWS)) - gone)


def test_rows_that_are_refused_and_rows_that_are_taken_away_are_distinguished(
    store, servers, tmp_path
):
    swallow_everywhere(servers, "(new.body -> 'n')::int % 10 = 3")
    for database, shards in zip(servers, SHARDS):
        for shard in shards:
            database.sql(
                f"ALTER TABLE shard{shard:04}.entities ADD CHECK ((body -> 'n')::int % 10 <> 7)"
            )
    path = write(tmp_path / "rows.ndjson", [{"n": n} for n in range(1000)])
    summary = import_file(store, path).json()
    assert (summary["stored"], summary["rejected"]) == (800, 200)
    for row in rejects(tmp_path / summary["rejects"]):
        is_refused = (row["line"] - 1) % 10 == 7
        assert row["status"] == ("HV_REFUSED" if is_refused else "HV_NOT_STORED")


@pytest.mark.parametrize("same", [True, False])
def test_a_key_that_comes_twice_is_one_entity_or_a_conflict(store, servers, tmp_path, same):
    """The trigger makes the rows go by the statements of puts."""
    swallow_everywhere(servers, "(new.body -> 'n')::int = 0")
    keys = hv("reserve", 3, 40, config=store).ok().out.split()
    rows = [
        {"id": key, "shard_id": 3, "kind": 1, "body": {"n": str(n + 1), "again": again and not same}}
        for n, key in enumerate(keys)
        for again in (False, True)
    ]
    rows.append({"id": keys[0], "shard_id": 3, "kind": 1, "body": {"n": "0"}})
    path = write(tmp_path / "twice.ndjson", rows)
    summary = hv("import", path, "--exported", "--json", config=store, cwd=tmp_path).json()
    assert numbers(servers) == sorted(range(1, len(keys) + 1))
    assert summary["rejected"] == (1 if same else 1 + len(keys))


def load_rows(load, rows):
    """Add them, send, commit: the result of each, None if it is stored."""
    for row in rows:
        load.add(*row)
    load.send()
    outcomes = [load.row(n) for n in range(len(rows))]
    load.commit(load.position + len(rows))
    return outcomes


@pytest.fixture
def datastore(servers, store):
    python.provide()
    from hv.datastore import Datastore

    with Datastore.from_config(str(store)) as opened:
        yield opened


def test_a_load_reports_of_each_row_whether_it_is_stored(datastore, servers):
    swallow(servers[0], "new.type = 5")
    kinds = [5 if n % 3 == 0 else 1 for n in range(500)]
    keys = list(itertools.chain.from_iterable(datastore.reserve(s, 63) for s in SHARDS[0]))[:500]
    with datastore.load("one", "swallowed") as load:
        rows = [(n % 8 + 1, kind, {"n": n}) for n, kind in enumerate(kinds)]
        rows += [(key, kind, {"n": 1000 + n}) for n, (key, kind) in enumerate(zip(keys, kinds))]
        outcomes = load_rows(load, rows)
        for (_, kind, _), each in zip(rows, outcomes):
            if kind == 5:
                assert each.status == "HV_NOT_STORED" and "psql" in each.hint
            else:
                assert each is False
        # The same again: what is there under its key is known.
        again = load_rows(load, rows[500:])
        assert [each is True for each in again] == [kind == 1 for kind in kinds]
    assert numbers(servers) == sorted(
        n + first for first in (0, 1000) for n, kind in enumerate(kinds) if kind == 1
    )


def test_a_load_stores_nothing_under_a_key_that_a_trigger_changes(datastore, servers):
    rename(servers[0], condition="new.type = 5")
    keys = datastore.reserve(3, 600)[::2]
    with datastore.load("one", "renamed") as load:
        rows = [(key, 5 if n % 10 == 0 else 1, {"n": n}) for n, key in enumerate(keys)]
        outcomes = load_rows(load, rows)
    for number, each in enumerate(outcomes):
        if number % 10 == 0:
            assert each.status == "HV_NOT_STORED" and "changes the key" in each.message
        else:
            assert each is False
    found = servers[0].query("SELECT id, (body -> 'n')::int FROM shard0003.entities ORDER BY id")
    assert found == [(key.id, n) for n, key in enumerate(keys) if n % 10]


def test_a_load_goes_by_other_ways_where_row_level_security_keeps_copy_out(
    datastore, servers
):
    database = servers[0]
    database.sql(
        "ALTER TABLE shard0003.entities ENABLE ROW LEVEL SECURITY;"
        "CREATE POLICY most ON shard0003.entities USING (true) WITH CHECK (type <> 5);"
        "CREATE ROLE copied LOGIN NOSUPERUSER;"
        "GRANT USAGE ON SCHEMA shard0003, hypervault TO copied;"
        "GRANT ALL ON ALL TABLES IN SCHEMA shard0003, hypervault TO copied;"
        "GRANT ALL ON ALL SEQUENCES IN SCHEMA shard0003 TO copied"
    )
    from hv.datastore import Datastore

    try:
        parameters = dict(database.params(), user="copied", shards="3")
        with Datastore([parameters]) as other, other.load(other.server_of(3), "secured") as load:
            assert load_rows(load, [(3, 1, {"n": n}) for n in range(100)]) == [False] * 100
    finally:
        database.sql("DROP OWNED BY copied; DROP ROLE copied")
    assert numbers(servers) == list(range(100))


def test_a_load_reports_no_row_as_stored_that_was_rolled_back(datastore, servers):
    """Rows are stored, and then the entity under the key of another cannot be read, this once."""
    database = servers[0]
    low, high = datastore.reserve(3, 2)
    database.sql(
        f"INSERT INTO shard0003.entities VALUES ({high.id}, 1, 'n=>none');"
        "ALTER TABLE shard0003.entities ENABLE ROW LEVEL SECURITY;"
        "CREATE SEQUENCE reads;"
        "CREATE FUNCTION may_read(n text) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER AS"
        " $$BEGIN IF n = 'none' AND nextval('public.reads') = 1 THEN RAISE 'not now'; END IF;"
        " RETURN true; END$$;"
        "CREATE POLICY readable ON shard0003.entities USING (public.may_read(body -> 'n'));"
        "CREATE ROLE copied LOGIN NOSUPERUSER;"
        "GRANT USAGE ON SCHEMA shard0003, hypervault TO copied;"
        "GRANT ALL ON ALL TABLES IN SCHEMA shard0003, hypervault TO copied;"
        "GRANT ALL ON ALL SEQUENCES IN SCHEMA shard0003 TO copied"
    )
    from hv.datastore import Datastore, DatastoreError

    try:
        parameters = dict(database.params(), user="copied", shards="3")
        with Datastore([parameters]) as other, other.load(other.server_of(3), "read") as load:
            with pytest.raises(DatastoreError, match="not now"):
                load_rows(load, [(low, 1, {"n": 1}), (high, 1, {"n": 2})])
    finally:
        database.sql("DROP OWNED BY copied; DROP ROLE copied")
    assert database.query("SELECT id FROM shard0003.entities") == [(high.id,)]


def test_rows_are_not_committed_without_the_position_behind_them(datastore, servers):
    from hv.datastore import DatastoreError

    with datastore.load("one", "kept") as load:
        load_rows(load, [(3, 1, {"n": 0})])
        servers[0].sql(
            "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS"
            " $$BEGIN RETURN NULL; END$$;"
            "CREATE TRIGGER keep BEFORE UPDATE ON hypervault.imports"
            " FOR EACH ROW EXECUTE FUNCTION public.keep()"
        )
        load.add(3, 1, {"n": 1})
        load.send()
        with pytest.raises(DatastoreError, match="position of the import not stored"):
            load.commit(2)
    assert numbers(servers) == [0]


def test_python_says_that_a_put_is_not_stored(datastore, servers):
    from hv.datastore import ConnectionError, DatastoreError

    swallow(servers[0], "new.type = 5")
    for put in (
        lambda: datastore.put(3, 5, n=1),
        lambda: datastore.put_key(datastore.reserve(3)[0], 5, {"n": 1}),
        lambda: datastore.put_many([(3, 5, {"n": 1}), (3, 1, {"n": 2})]),
    ):
        with pytest.raises(DatastoreError) as failed:
            put()
        assert failed.value.status == "HV_NOT_STORED"
        assert not isinstance(failed.value, ConnectionError)
        assert not failed.value.retriable and not failed.value.outcome_unknown
    assert numbers(servers) == [2]


def test_the_command_ends_with_1_for_a_row_that_is_not_stored(store, servers):
    swallow(servers[0], "new.type = 5")
    result = hv("put", 3, 5, "n=1", config=store)
    assert result.code == 1
    assert "shard0003.entities" in result.err and "trigger" in result.err
    assert hv("put", 3, 1, "n=2", config=store).code == 0
    assert numbers(servers) == [2]
