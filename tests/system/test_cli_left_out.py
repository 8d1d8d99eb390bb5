"""hv export and hv import name what they leave out: further columns of entities, further tables."""

import pytest

from harness import hv, store_config
from importing import SHARDS, bodies, clear, import_file, numbers, rejects, write_numbers


def on_shards(databases, shards, sql):
    """Run SQL with "@shard" for the schema on these shards, each on its server."""
    for database, held in zip(databases, SHARDS):
        for shard in held:
            if shard in shards:
                database.sql(sql.replace("@shard", f"shard{shard:04}"))


def export(store, path, *args):
    return hv("export", path, *args, config=store).ok()


@pytest.fixture
def exported(store, servers, tmp_path):
    """The file of an export of 32 entities, two of each shard."""
    import_file(store, write_numbers(tmp_path / "x.ndjson", 1, 32)).ok()
    path = tmp_path / "exported.ndjson"
    assert export(store, path).err == ""
    return path


def test_an_export_names_columns_and_tables_that_it_does_not_have(store, servers, tmp_path):
    on_shards(servers, range(1, 17), "ALTER TABLE @shard.entities ADD score bigint")
    on_shards(servers, [3, 9, 10], "ALTER TABLE @shard.entities ADD note varchar(20)")
    on_shards(servers, [16], "CREATE TABLE @shard.audit (id bigint)")
    result = export(store, tmp_path / "all.ndjson")
    assert result.err.splitlines() == [
        "further columns of entities are not exported: note (character varying(20)) in shards"
        " 3,9-11; score (bigint) in shards 1-17",
        "further tables are not exported: audit in shards 16",
    ]
    some = export(store, tmp_path / "some.ndjson", "--shards", "2-5", "--json")
    assert some.err == ""
    summary = some.json()
    assert summary["columns_left_out"] == [
        {"name": "note", "type": "character varying(20)", "shards": "3"},
        {"name": "score", "type": "bigint", "shards": "2-5"},
    ]
    assert summary["tables_left_out"] == []
    standard = hv("export", "-", config=store).ok()
    assert standard.out == "" and standard.err.startswith("further columns of entities are not")


def test_a_type_that_differs_between_shards_is_seen(store, servers, tmp_path):
    on_shards(servers, range(1, 9), "ALTER TABLE @shard.entities ADD score bigint")
    on_shards(servers, range(9, 17), "ALTER TABLE @shard.entities ADD score numeric")
    summary = export(store, tmp_path / "all.ndjson", "--json").json()
    assert summary["columns_left_out"] == [
        {"name": "score", "type": "bigint", "shards": "1-9"},
        {"name": "score", "type": "numeric", "shards": "9-17"},
    ]


def test_what_needs_no_export_is_not_named(store, servers, tmp_path):
    """A column that is computed, one that was dropped, the library's ledger, partitions."""
    on_shards(
        servers,
        [1, 16],
        "ALTER TABLE @shard.entities ADD double bigint GENERATED ALWAYS AS (id * 2) STORED;"
        "ALTER TABLE @shard.entities ADD gone bigint;"
        "ALTER TABLE @shard.entities DROP gone;"
        "CREATE TABLE @shard.hypervault_migrations (id bigint);"
        "CREATE TABLE @shard.parts (id bigint) PARTITION BY LIST (id);"
        "CREATE TABLE @shard.part1 PARTITION OF @shard.parts FOR VALUES IN (1)",
    )
    summary = export(store, tmp_path / "all.ndjson", "--json").json()
    assert summary["columns_left_out"] == []
    assert summary["tables_left_out"] == [{"name": "parts", "shards": "1,16"}]


def test_an_import_names_columns_that_get_their_defaults(store, servers, tmp_path, exported):
    clear(servers)
    on_shards(servers, range(1, 9), "ALTER TABLE @shard.entities ADD score bigint DEFAULT 7")
    result = hv("import", "--exported", exported, config=store, cwd=tmp_path).ok()
    assert result.err == (
        "further columns of entities get their defaults: score (bigint) in shards 1-9\n"
    )
    assert numbers(servers) == list(range(1, 33))
    scores = servers[0].query(
        " UNION ALL ".join(f"SELECT score FROM shard{shard:04}.entities" for shard in SHARDS[0])
    )
    assert scores and {score for (score,) in scores} == {7}
    path = write_numbers(tmp_path / "y.ndjson", 33, 40)
    other = hv("import", path, "-k", 1, "--shard", 12, "--json", config=store, cwd=tmp_path).ok()
    assert other.json()["columns_left_out"] == []
    path = write_numbers(tmp_path / "z.ndjson", 41, 50)
    summary = hv("import", path, "-k", 1, "--json", config=store, cwd=tmp_path).ok().json()
    assert summary["columns_left_out"] == [{"name": "score", "type": "bigint", "shards": "1-9"}]


def test_entities_that_are_there_keep_what_they_have_in_further_columns(
    store, servers, tmp_path, exported
):
    on_shards(servers, range(1, 17), "ALTER TABLE @shard.entities ADD score bigint DEFAULT 7")
    on_shards(servers, range(1, 17), "UPDATE @shard.entities SET score = 8")
    summary = hv("import", "--exported", exported, "--json", config=store, cwd=tmp_path).ok().json()
    assert (summary["stored"], summary["there_before"]) == (32, 32)
    for database, shards in zip(servers, SHARDS):
        for shard in shards:
            assert database.query(
                f"SELECT count(*) FROM shard{shard:04}.entities WHERE score IS DISTINCT FROM 8"
            ) == [(0,)]


def test_a_column_without_a_default_rejects_each_row_and_says_why(
    store, servers, tmp_path, exported
):
    clear(servers)
    on_shards(servers, [5], "ALTER TABLE @shard.entities ADD must bigint NOT NULL")
    result = hv("import", "--exported", exported, config=store, cwd=tmp_path)
    assert result.code == 1
    assert "get their defaults: must (bigint) in shards 5" in result.err
    refused = rejects(tmp_path / f"{exported.name}.rejects")
    assert [row["shard"] for row in refused] == [5, 5]
    assert all('null value in column "must"' in row["reason"] for row in refused)
    assert len(bodies(servers)) == 30


def test_names_of_any_kind_are_shown_harmlessly_and_long_lists_end(store, servers, tmp_path):
    columns = ", ".join(f"ADD c{number:02} text" for number in range(20))
    on_shards(servers, [1], f'ALTER TABLE @shard.entities {columns}, ADD "a\x1b[31m ""q" text')
    result = export(store, tmp_path / "all.ndjson")
    (line,) = result.err.splitlines()
    assert "\x1b" not in line and 'a\\x1b[31m "q (text) in shards 1; c00 (text)' in line
    assert line.endswith("c06 (text) in shards 1; and 13 more")
    summary = export(store, tmp_path / "other.ndjson", "--json").json()
    assert len(summary["columns_left_out"]) == 21
    assert summary["columns_left_out"][0]["name"] == 'a\x1b[31m "q'


def test_a_server_that_does_not_answer_is_named(store, servers, tmp_path):
    """Its shards may have anything."""
    down = store_config(
        tmp_path / "down.conf",
        {"one": (servers[0], "1-9"), "two": ({**servers[1].params(), "port": 1}, "9-17")},
    )
    result = hv("export", tmp_path / "all.ndjson", "--json", config=down)
    assert result.code == 1
    assert result.json()["columns_left_out"] is None
    result = hv("export", tmp_path / "again.ndjson", config=down)
    assert result.err.startswith(
        'could not find out whether entities of server "two" have further columns: '
    )
    assert hv("export", tmp_path / "1.ndjson", "-s", "1-9", config=down).ok().err == ""
