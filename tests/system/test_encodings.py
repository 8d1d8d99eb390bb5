"""Databases in encodings other than UTF-8: every text that they can represent is stored and read
back."""

import itertools
import json

import psycopg2
import pytest

from harness import Database, hv, make_shards, python, store_config
from harness.store_tool import make_tool, step  # noqa: F401

pytestmark = pytest.mark.threads

WORDS = {
    "LATIN1": "Zürich ÿ",
    "EUC_JP": "東京 かな",
    "WIN1252": "Žižkov, 5 €",
    "SQL_ASCII": "Zürich 東京 €",
    "UTF8": "Zürich 東京 € 😀",
}
STRANGE = "😀"  # which none of the first three can represent

_numbers = itertools.count(1)


@pytest.fixture
def encoded(shared_servers):
    """A function that makes a database with this encoding: a Database."""
    made = []
    server = shared_servers[0]

    def make(encoding):
        database = Database(server, f"encoded{next(_numbers)}")
        server.sql(
            f"CREATE DATABASE {database.dbname} ENCODING '{encoding}' TEMPLATE template0"
            " LC_COLLATE 'C' LC_CTYPE 'C'"
        )
        made.append(database)
        return database

    yield make
    for database in made:
        database.drop()


@pytest.fixture
def store_in(encoded, tmp_path):
    """A function that makes a store with the shards 1 to 8 in such a database: both."""

    def make(encoding, **options):
        database = encoded(encoding)
        config = store_config(tmp_path / "hypervault.conf", {"one": (database, "1-9")}, **options)
        make_shards(config, database)
        return database, config

    return make


def body_of(encoding):
    word = WORDS[encoding]
    return {"word": word, word: 'a "quoted" \\ one', "null": None, "empty": "", "plain": "x=>y,z"}


@pytest.mark.parametrize("encoding", WORDS)
@pytest.mark.parametrize("lanes", [2, 0])
def test_what_is_put_is_got(make_tool, store_in, encoding, lanes):
    database, config = store_in(encoding)
    tool = make_tool(config, lanes=lanes)
    body = body_of(encoding)
    for each in (body, {}):
        key = tool.main.put(3, 1, each).ok().key
        assert tool.main.get(key).ok().dict == each
    assert database.value("SELECT body -> 'word' FROM shard0003.entities WHERE body ? 'word'") == (
        WORDS[encoding]
    )


@pytest.mark.parametrize("encoding", WORDS)
def test_under_keys_and_exactly_once(make_tool, store_in, encoding):
    """A put under a key compares what is there."""
    _, config = store_in(encoding)
    tool = make_tool(config, exactly_once="on")
    body = body_of(encoding)
    key = tool.main.put(3, 1, body).ok().key
    assert tool.main.put_key(key, 1, body).ok()
    tool.main.put_key(key, 1, {**body, "word": "another"}).gives("HV_CONFLICT")
    assert tool.main.get(key).ok().dict == body


@pytest.mark.parametrize("encoding", WORDS)
def test_many_at_once_and_in_queues(make_tool, store_in, encoding):
    _, config = store_in(encoding)
    tool = make_tool(config)
    body = body_of(encoding)
    operations = [{"shard": 1 + n % 3, "kind": 1, "dict": {**body, "n": str(n)}} for n in range(50)]
    items = tool.main.put_many(operations).items
    assert {item["status"] for item in items} == {"HV_OK"}
    got = tool.main.get_many([item["key"] for item in items]).items
    assert [item["dict"] for item in got] == [operation["dict"] for operation in operations]


@pytest.mark.parametrize("encoding", WORDS)
def test_imports_and_exports(store_in, encoding, tmp_path):
    _, config = store_in(encoding)
    body = body_of(encoding)
    rows = "".join(
        json.dumps({**body, "n": str(n)}, ensure_ascii=False) + "\n" for n in range(20)
    )
    hv("import", "-", "--kind", 1, "--shard", 3, config=config, input=rows).ok()
    exported = hv("export", "-", config=config).ok()
    bodies = [row["body"] for row in exported.ndjson()]
    assert sorted(int(each["n"]) for each in bodies) == list(range(20))
    assert all({**each, "n": 0} == {**body, "n": 0} for each in bodies)
    # If keys exist already, the rows are compared with the stored ones.
    again = hv("import", "-", "--exported", "--json", config=config, input=exported.out_bytes).ok()
    assert again.json()["there_before"] == 20, again
    assert hv("export", "-", config=config).ok().out_bytes == exported.out_bytes


@pytest.mark.parametrize("encoding", WORDS)
def test_in_python(store_in, encoding):
    python.provide()
    database, _ = store_in(encoding)
    body = body_of(encoding)
    code = f"""
    body = {body!r}
    with Datastore(connections) as db:
        key = db.put(3, 1, **body)
        assert db.get(key)["body"] == body, db.get(key)
        keys = db.put_many([(3, 1, body), (4, 1, body)])
        assert [row["body"] for row in db.get_many(keys)] == [body, body]
        with db.cursor(3) as cursor:
            cursor.execute("SELECT body FROM shard0003.entities")
            assert [row[0] for row in cursor.fetchall()] == [body, body]
    """
    python.run(code, [{"shards": "1-9", **database.params()}]).ok()


@pytest.mark.parametrize("encoding", ["LATIN1", "EUC_JP", "WIN1252"])
def test_what_the_database_cannot_represent_is_refused_alone(make_tool, store_in, encoding):
    _, config = store_in(encoding)
    tool = make_tool(config)
    good, strange = body_of(encoding), {"a": STRANGE}
    refused = tool.main.put(3, 1, strange).gives("HV_REFUSED")
    assert refused.sqlstate == "22P05" and f'no equivalent in encoding "{encoding}"' in refused.message
    bodies = (good, strange, good)
    items = tool.main.put_many([{"shard": 3, "kind": 1, "dict": each} for each in bodies]).items
    assert [item["status"] for item in items] == ["HV_OK", "HV_REFUSED", "HV_OK"]
    rows = "".join(json.dumps(each) + "\n" for each in bodies)
    result = hv("import", "-", "--kind", 1, "--shard", 4, "--json", config=config, input=rows)
    assert result.code == 1, result
    assert (result.json()["stored"], result.json()["rejected"]) == (2, 1), result


def test_bytes_that_are_no_text_are_an_error_of_that_entity(make_tool, store_in):
    """SQL_ASCII takes any bytes; another program has stored some."""
    database, config = store_in("SQL_ASCII")
    tool = make_tool(config)
    good = tool.main.put(3, 1, body_of("SQL_ASCII")).ok().key
    database.sql(
        "INSERT INTO shard0003.entities (type, body) VALUES (1, hstore('a', E'\\xfc'::text))"
    )
    bad = database.value("SELECT id FROM shard0003.entities WHERE body ? 'a'")
    refused = tool.main.get(bad).gives("HV_REFUSED")
    assert refused.sqlstate == "22021" and "0xfc" in refused.message
    assert tool.main.get(good).ok().dict == body_of("SQL_ASCII")
    items = tool.main.get_many([bad, good]).items
    assert [item["status"] for item in items] == ["HV_REFUSED", "HV_OK"]
    result = hv("export", "-", config=config)
    assert result.code == 1 and "0xfc" in result.err, result
