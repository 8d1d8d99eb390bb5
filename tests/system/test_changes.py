"""Entities are replaced, merged, incremented and deleted, on conditions: each change alone, among
many, streamed and in a queue."""

import pytest

from changing import (  # noqa: F401
    MISSING,
    SHARD,
    WAYS,
    alone,
    change,
    changed,
    content,
    run_many,
    run_queue,
    shared_tool,
)
from harness.store_tool import Reply, make_tool, step  # noqa: F401

pytestmark = pytest.mark.threads

NOWHERE = 1 << 23 | 8000 << 10  # a key of a shard that no server holds
BODY = {"a": "1", "b": "two", "none": None, "": "nameless"}


@pytest.fixture
def tool(shared_tool):
    return shared_tool


@pytest.fixture
def database(changed):
    return changed[1][0]


@pytest.fixture(params=WAYS, ids=lambda way: way.__name__)
def do(request, tool):
    """Makes a change in one of the ways: do("merge", key, {"has": …}, dict=…)."""
    return lambda *args, **fields: request.param(tool, change(*args, **fields))


@pytest.fixture
def key(tool):
    return tool.main.put(SHARD, 7, BODY).ok().key


def present(tool, key):
    got = tool.main.get(key).ok()
    return got.kind, got.dict


CHANGES = {
    "replace": {"kind": 2, "dict": {"x": "y"}},
    "merge": {"dict": {"x": "y"}},
    "increment": {"attribute": "a", "amount": "1"},
    "delete": {},
}
all_changes = pytest.mark.parametrize("verb", CHANGES)


# ---- what they do ----


def test_replace_gives_it_another_kind_and_other_attributes(tool, do, key):
    do("replace", key, kind=-3, dict={"c": "3", "null": None}).gives("HV_OK")
    assert present(tool, key) == (-3, {"c": "3", "null": None})
    do("replace", key, kind=4, dict=None).gives("HV_OK")
    assert present(tool, key) == (4, {})


def test_merge_sets_and_removes_and_leaves_the_rest(tool, do, key):
    done = do("merge", key, dict={"a": "new", "more": None}, remove=["b", "not there"])
    assert done.status == "HV_OK" and done.dict is None
    assert present(tool, key) == (7, {"a": "new", "none": None, "": "nameless", "more": None})


def test_merge_may_only_set_or_only_remove(tool, do, key):
    do("merge", key, dict={"": None}).gives("HV_OK")
    do("merge", key, remove=["a", "none"]).gives("HV_OK")
    assert present(tool, key) == (7, {"b": "two", "": None})
    do("merge", key, dict={}, remove=["", "b"]).gives("HV_OK")
    assert present(tool, key) == (7, {})


def test_delete_deletes_it(tool, do, key):
    do("delete", key).gives("HV_OK")
    tool.main.get(key).gives("HV_NOT_FOUND")
    do("delete", key).gives("HV_NOT_FOUND")


def test_increment_returns_the_new_value_alone(tool, do, key):
    done = do("increment", key, attribute="a", amount="41").gives("HV_OK")
    assert (done.key, done.kind, done.dict) == (key, 7, {"a": "42"})
    assert done.version == tool.main.get_only(key, None).version
    assert present(tool, key) == (7, {**BODY, "a": "42"})


@all_changes
@pytest.mark.parametrize("condition", [None, {}, {"kind": 7}], ids=["", "empty", "kind"])
def test_what_is_not_there_is_not_found_and_not_made(tool, do, database, verb, condition):
    for _ in range(2):
        missed = do(verb, MISSING, condition, **CHANGES[verb])
        assert missed.status == "HV_NOT_FOUND" and missed.dict is None and missed.message is None
    assert content(database, [MISSING]) == {}


@all_changes
def test_a_condition_that_is_empty_always_holds(tool, do, key, verb):
    do(verb, key, {}, **CHANGES[verb]).gives("HV_OK")


@all_changes
def test_nobody_has_to_want_the_entity_or_the_error(tool, key, verb):
    run = getattr(tool.main, verb)
    fields = CHANGES[verb]
    run(key, condition={"kind": 8}, blind=True, **fields).gives("HV_CHANGED")
    run(NOWHERE, blind=True, **fields).gives("HV_NO_SERVER")
    run(key, blind=True, **fields).gives("HV_OK")


# ---- the number ----


@pytest.mark.parametrize(
    "old, amount, new",
    [
        ("1", "1", "2"),
        ("-1", "1", "0"),
        ("+5", "-7", "-2"),
        ("007", "1", "8"),
        ("9" * 99, "1", "1" + 99 * "0"),
        ("1.50", "0.5", "2.00"),
        ("1", "0.250", "1.250"),
        (".5", ".25", "0.75"),
        ("5.", "+.5", "5.5"),
        ("-.5", "-0.50", "-1.00"),
        ("0.1", "0.2", "0.3"),
        ("9007199254740993", "0.0000000000000000001", "9007199254740993.0000000000000000001"),
        ("-0", "0", "0"),
        (None, "3", "3"),
        ("missing", "-2.5", "-2.5"),
    ],
)
def test_increment_adds_exactly(tool, key, old, amount, new):
    if old != "missing":
        tool.main.merge(key, {"n": old}).ok()
    assert tool.main.increment(key, "n", amount).ok().dict == {"n": new}
    assert tool.main.get(key).dict == {**BODY, "n": new}


def test_an_attribute_without_a_name_is_incremented_too(tool, do, key):
    do("merge", key, dict={"": "4"}).gives("HV_OK")
    assert do("increment", key, attribute="", amount="1").gives("HV_OK").dict == {"": "5"}


NO_NUMBERS = ("", "abc", "1 ", " 1", "1e3", "0x10", "1,5", "--1", "+", ".", "1.2.3", "NaN", "1\n", "٣")


@pytest.mark.parametrize("value", NO_NUMBERS)
def test_a_value_that_is_no_number_is_not_incremented(tool, do, key, value):
    tool.main.merge(key, {"n": value}).ok()
    refused = do("increment", key, attribute="n", amount="1").gives("HV_INVALID")
    assert refused.message == f'attribute "n" of the entity {key} is not a number'
    assert refused.detail.startswith('Its value is "')
    assert value.strip() in refused.detail
    assert (refused.server, refused.shard) == ("one", SHARD)
    assert tool.main.get(key).dict == {**BODY, "n": value}


@pytest.mark.parametrize("amount", NO_NUMBERS)
def test_what_is_no_number_is_not_added(tool, do, key, amount):
    refused = do("increment", key, attribute="a", amount=amount).gives("HV_INVALID")
    assert "is not a number that can be added" in refused.message
    assert amount.strip() in refused.message
    assert present(tool, key) == (7, BODY)


def test_an_increment_needs_a_name_and_an_amount(tool, do, key):
    refused = do("increment", key, attribute=None, amount="1").gives("HV_INVALID")
    assert refused.message == "the attribute to be incremented has no name"
    do("increment", key, attribute="a", amount=None).gives("HV_INVALID")
    assert present(tool, key) == (7, BODY)


def test_numbers_have_up_to_a_hundred_characters(tool, do, key):
    longest, longer = "9" * 100, "1" + "0" * 100
    assert do("increment", key, attribute="n", amount=longest).gives("HV_OK").dict == {"n": longest}
    too_long = do("increment", key, attribute="m", amount=longer).gives("HV_INVALID")
    assert too_long.message == (
        "the number to be added has 101 characters; there is room for 100"
    )
    overflow = do("increment", key, attribute="n", amount="1").gives("HV_INVALID")
    assert overflow.message == f'attribute "n" of the entity {key} is too large a number'
    assert overflow.detail.endswith("has more than 100 characters.")
    tool.main.merge(key, {"m": longer}).ok()
    too_large = do("increment", key, attribute="m", amount="-1").gives("HV_INVALID")
    assert too_large.message == f'attribute "m" of the entity {key} is too large a number'
    assert tool.main.get(key).dict == {**BODY, "n": longest, "m": longer}
    smaller = do("increment", key, attribute="n", amount="-" + longest[1:]).gives("HV_OK")
    assert smaller.dict == {"n": "9" + "0" * 99}


def test_a_value_of_a_megabyte_is_an_error_of_one_line(tool, do, key):
    tool.main.merge(key, {"n": "x" * (1 << 20)}).ok()
    refused = do("increment", key, attribute="n", amount="1").gives("HV_INVALID")
    assert len(refused.detail) < 500
    tool.main.merge(key, {"n": "1" * (1 << 20)}).ok()
    refused = do("increment", key, attribute="n", amount="1").gives("HV_INVALID")
    assert len(refused.detail) < 500


def test_among_many_only_those_that_are_no_numbers_are_refused(tool, database):
    values = ["1", "x", None, "2.5", "9" * 100, ""]
    keys = [tool.main.put(SHARD, 1, {"n": value}).ok().key for value in values]
    done = run_many(tool, [change("increment", key, attribute="n", amount="1") for key in keys])
    assert [each.status for each in done] == [
        "HV_OK", "HV_INVALID", "HV_OK", "HV_OK", "HV_INVALID", "HV_INVALID",
    ]  # fmt: skip
    left = [content(database, [key])[key][1]["n"] for key in keys]
    assert left == ["2", "x", "1", "3.5", "9" * 100, ""]
    for each in done:
        assert (each.dict is not None) == (each.status == "HV_OK")


# ---- conditions ----

HOLD = [
    {"has": {"a": "1"}},
    {"has": {"a": "1", "b": "two", "none": None}},
    {"has": {"none": None}},
    {"has": {"": "nameless"}},
    {"has": {}},
    {"lacks": ["c"]},
    {"lacks": ["c", "A", "1"]},
    {"kind": 7},
    {"has": {"a": "1"}, "lacks": ["c"], "kind": 7},
]
DO_NOT_HOLD = [
    {"has": {"a": "2"}},
    {"has": {"a": None}},
    {"has": {"none": "x"}},
    {"has": {"none": ""}},
    {"has": {"c": None}},
    {"has": {"c": "1"}},
    {"has": {"a": "1", "b": "three"}},
    {"has": {"": None}},
    {"lacks": ["a"]},
    {"lacks": ["none"]},
    {"lacks": [""]},
    {"lacks": ["c", "b"]},
    {"kind": 8},
    {"kind": -32768},
    {"has": {"a": "1"}, "lacks": ["c"], "kind": 8},
]


@all_changes
@pytest.mark.parametrize("condition", HOLD, ids=str)
def test_with_a_condition_that_holds_it_is_changed(tool, key, verb, condition):
    alone(tool, change(verb, key, condition, **CHANGES[verb])).gives("HV_OK")
    if verb == "delete":
        tool.main.get(key).gives("HV_NOT_FOUND")
    else:
        assert present(tool, key) != (7, BODY)


@all_changes
@pytest.mark.parametrize("condition", DO_NOT_HOLD, ids=str)
def test_with_one_that_does_not_hold_it_is_as_it_was_and_returned(tool, key, verb, condition):
    kept = alone(tool, change(verb, key, condition, **CHANGES[verb])).gives("HV_CHANGED")
    assert (kept.key, kept.kind, kept.dict, kept.message) == (key, 7, BODY, None)
    assert kept.version == tool.main.get_only(key, None).version
    assert present(tool, key) == (7, BODY)


@all_changes
def test_in_every_way_each_has_its_own_condition(tool, do, key, verb):
    version = tool.main.get_only(key, None).version
    for condition in DO_NOT_HOLD:
        kept = do(verb, key, condition, **CHANGES[verb]).gives("HV_CHANGED")
        assert (kept.kind, kept.dict, kept.version) == (7, BODY, version)
    do(verb, key, {**HOLD[-1], "version": version}, **CHANGES[verb]).gives("HV_OK")


@all_changes
def test_of_many_those_are_changed_whose_conditions_hold(tool, database, verb):
    keys = [tool.main.put(SHARD, n % 3, {"a": str(n)}).ok().key for n in range(30)]
    before = content(database, keys)
    changes = [
        change(verb, key, {"kind": 1, "has": {"a": str(n if n % 2 else 0)}}, **CHANGES[verb])
        for n, key in enumerate(keys)
    ]
    replies = run_many(tool, changes)
    after = content(database, keys)
    for n, (key, done) in enumerate(zip(keys, replies)):
        if n % 3 == 1 and n % 2:
            done.gives("HV_OK")
            assert after.get(key) != before[key]
        else:
            done.gives("HV_CHANGED")
            assert (done.kind, done.dict) == before[key] == after[key]


def test_the_condition_of_an_increment_that_does_not_hold_hides_what_is_no_number(tool, do, key):
    for value, condition in (("x", {"kind": 8}), ("9" * 100, {"lacks": ["b"]})):
        tool.main.merge(key, {"a": value}).ok()
        kept = do("increment", key, condition, attribute="a", amount="1").gives("HV_CHANGED")
        assert kept.dict == {**BODY, "a": value}


# ---- versions ----


@all_changes
def test_the_version_that_was_read_allows_one_change(tool, do, key, verb):
    version = tool.main.get_only(key, None).version
    do(verb, key, {"version": version}, **CHANGES[verb]).gives("HV_OK")
    again = do(verb, key, {"version": version}, **CHANGES[verb])
    if verb == "delete":
        again.gives("HV_NOT_FOUND")
    else:
        assert again.gives("HV_CHANGED").version == tool.main.get_only(key, None).version != version


def test_every_way_to_read_it_gives_the_same_version(tool, key):
    versions = {
        tool.main.get_only(key, None).version,
        tool.main.get_only(key, []).version,
        tool.main.get_only(key, ["a"]).version,
        *(item["version"] for item in tool.main.get_only_many([key, key], None).items),
        *(item["version"] for item in tool.main.get_only_many([key, key], ["b"]).items),
        *(each.version for each in run_queue(tool, [{"key": key, "names": None}])),
        *(each.version for each in run_queue(tool, [{"key": key, "names": ["a"]}])),
        tool.main.delete(key, {"kind": 8}).gives("HV_CHANGED").version,
    }
    assert len(versions) == 1
    (version,) = versions
    assert version and len(version) < 48 and not set(version) & set(" \t\n")


def test_an_entity_that_was_fetched_without_its_version_has_none(tool, key):
    fetched = [
        tool.main.get(key).ok(),
        *run_queue(tool, [{"key": key}]),
        *(Reply(item) for item in tool.main.get_many([key]).items),
    ]
    assert [(each.dict, each.version) for each in fetched] == 3 * [(BODY, None)]
    whole = tool.main.get_only(key, None).ok()
    assert (whole.kind, whole.dict) == (7, BODY)


def test_every_change_gives_it_another_version_even_of_one_batch(tool, key):
    """Changes of one batch are one transaction."""
    changes = [change("increment", key, attribute="n", amount="1") for _ in range(20)]
    versions = [tool.main.get_only(key, None).version]
    versions += [each.version for each in run_many(tool, changes)]
    versions += [each.version for each in run_queue(tool, changes)]
    assert len(set(versions)) == 41
    for wrong in versions[:-1]:
        tool.main.delete(key, {"version": wrong}).gives("HV_CHANGED")
    tool.main.delete(key, {"version": versions[-1]}).gives("HV_OK")


def test_vacuum_keeps_the_version(tool, database, key):
    for _ in range(10):
        tool.main.increment(key, "n", "1").ok()
    version = tool.main.get_only(key, None).version
    database.sql(f"VACUUM FREEZE shard{SHARD:04}.entities")
    assert tool.main.get_only(key, None).version == version
    tool.main.merge(key, {"x": "y"}, condition={"version": version}).ok()


def test_a_table_that_is_written_anew_may_change_the_version_and_nothing_else(
    tool, database, key
):
    for _ in range(10):
        tool.main.increment(key, "n", "1").ok()
    version = tool.main.get_only(key, None).version
    database.sql(f"VACUUM FULL shard{SHARD:04}.entities")
    after = tool.main.get_only(key, None).ok()
    assert after.dict == {**BODY, "n": "10"}
    done = tool.main.merge(key, {"x": "y"}, condition={"version": version})
    done.gives("HV_OK" if after.version == version else "HV_CHANGED")
    if after.version != version:
        tool.main.merge(key, {"x": "y"}, condition={"version": after.version}).ok()


@all_changes
def test_a_version_of_another_entity_is_refused(tool, do, key, verb):
    other = tool.main.put(SHARD, 7, BODY).ok().key
    version = tool.main.get_only(other, None).version
    refused = do(verb, key, {"version": version}, **CHANGES[verb]).gives("HV_INVALID")
    assert refused.message == f"the version is not one of the entity {key}"
    assert refused.detail == f"It is of the entity {other}."
    assert present(tool, key) == present(tool, other) == (7, BODY)


# ---- bad input ----


def test_a_merge_of_nothing_is_refused(tool, do, key):
    for fields in ({}, {"dict": {}}, {"remove": []}, {"dict": {}, "remove": []}):
        refused = do("merge", key, **fields).gives("HV_INVALID")
        assert refused.message == "the merge is empty"
        assert refused.hint == "Name attributes to be set or removed."


def test_an_attribute_both_set_and_removed_is_refused(tool, do, key):
    refused = do("merge", key, dict={"a": "2", "c": None}, remove=["b", "c"]).gives("HV_INVALID")
    assert refused.message == 'attribute "c" is to be both set and removed'
    assert present(tool, key) == (7, BODY)


def test_a_name_may_be_removed_twice(tool, do, key):
    do("merge", key, remove=["b", "a", "b"]).gives("HV_OK")
    assert present(tool, key) == (7, {"none": None, "": "nameless"})


@pytest.mark.parametrize("kind", [32768, -32769, 65536, 1 << 20])
def test_a_kind_out_of_range_is_refused(tool, do, key, kind):
    do("replace", key, kind=kind, dict={}).gives("HV_INVALID")
    refused = tool.main.delete(key, {"kind": kind}).gives("HV_INVALID")
    assert refused.condition is False
    assert present(tool, key) == (7, BODY)


@all_changes
def test_a_key_of_a_shard_that_nobody_holds_is_refused(tool, do, verb):
    refused = alone(tool, change(verb, NOWHERE, **CHANGES[verb])).gives("HV_NO_SERVER")
    assert refused.shard == 8000
    many = run_many(tool, [change(verb, NOWHERE, **CHANGES[verb])])
    assert many[0].status == "HV_NO_SERVER"


@all_changes
@pytest.mark.parametrize("wrong", [0, -1, -(1 << 63)])
def test_what_is_no_key_is_refused(tool, verb, wrong):
    assert alone(tool, change(verb, wrong, **CHANGES[verb])).status == "HV_INVALID"
    assert run_many(tool, [change(verb, wrong, **CHANGES[verb])])[0].status == "HV_INVALID"


def test_a_type_of_change_that_does_not_exist_is_refused(tool, key):
    for number in (5, 77, -1):
        refused = run_many(tool, [{"change": number, "key": key}, change("delete", MISSING)])
        assert refused[0].gives("HV_INVALID").message == f"{number} is not a type of change"
        assert refused[1].status == "HV_NOT_FOUND"
    assert present(tool, key) == (7, BODY)


def test_of_many_each_bad_one_is_refused_alone(tool, database, key):
    other = tool.main.put(SHARD, 1, {}).ok().key
    changes = [
        change("merge", key),
        change("merge", key, dict={"x": "1"}),
        change("increment", key, attribute="b", amount="1"),
        change("replace", NOWHERE, kind=1, dict={}),
        change("delete", MISSING),
        change("delete", key, {"kind": 1}),
        change("delete", other),
    ]
    reply = tool.main.change_many(changes)
    assert reply.status == "HV_INVALID" and reply.message == "the merge is empty"
    assert [item["status"] for item in reply.items] == [
        "HV_INVALID", "HV_OK", "HV_INVALID", "HV_NO_SERVER", "HV_NOT_FOUND", "HV_CHANGED", "HV_OK",
    ]  # fmt: skip
    assert content(database, [key, other]) == {key: (7, {**BODY, "x": "1"})}


def test_answers_alone_are_a_success_of_many(tool, key):
    reply = tool.main.change_many([change("delete", MISSING), change("delete", key, {"kind": 1})])
    assert reply.ok().message is None
    assert tool.main.change_many([]).ok().items == []


CONTRADICTIONS = [
    ({"has": {"a": "1"}, "lacks": ["a"]}, "It is to have a value and to be absent."),
    ({"has": {"a": None}, "lacks": ["b", "a"]}, "It is to have a value and to be absent."),
]


@pytest.mark.parametrize("condition, detail", CONTRADICTIONS)
def test_a_condition_that_contradicts_itself_is_refused(tool, key, condition, detail):
    refused = tool.main.delete(key, condition).gives("HV_INVALID")
    assert refused.message == 'the condition contradicts itself: attribute "a"'
    assert refused.detail == detail and refused.condition is False
    assert present(tool, key) == (7, BODY)


@pytest.mark.parametrize("text", ["", "1", "1-2-3", "1-2-3-4-5", "x-1-2-3", "1-2-3-99999", "-1-2-3-4"])
def test_what_is_no_version_is_refused(tool, key, text):
    refused = tool.main.delete(key, {"version": text}).gives("HV_INVALID")
    assert refused.message == f'"{text}" is not a version of an entity'
    assert refused.hint == "Use the version that came with the entity, as it is."
    assert refused.condition is False


# ---- a part of it ----


def test_only_the_chosen_attributes_are_got(tool, key):
    for names in ([], ["a"], ["a", "none", "missing"], [""], ["a", "a"], list(BODY)):
        wanted = {name: value for name, value in BODY.items() if name in names}
        one = tool.main.get_only(key, names).ok()
        assert (one.key, one.kind, one.dict) == (key, 7, wanted)
        many = tool.main.get_only_many([key, MISSING, key], names).ok().items
        assert [item["status"] for item in many] == ["HV_OK", "HV_NOT_FOUND", "HV_OK"]
        assert many[0]["dict"] == many[2]["dict"] == wanted
    tool.main.get_only(MISSING, ["a"]).gives("HV_NOT_FOUND")
    tool.main.get_only(NOWHERE, ["a"]).gives("HV_NO_SERVER")


def test_in_a_batch_each_gets_its_own_choice_of_one_entity(tool, key):
    names = [["a"], ["b", "none"], [], ["a"], [""]]
    replies = run_queue(tool, [{"key": key, "names": each} for each in names])
    for each, reply in zip(names, replies):
        assert reply.ok().dict == {name: BODY[name] for name in each}


# ---- in batches ----


def test_of_many_that_are_changed_each_way_each_has_its_outcome(tool, changed):
    """On all shards of both servers."""
    _, servers = changed
    keys = {
        shard: [tool.main.put(shard, 1, {"n": str(n)}).ok().key for n in range(5)]
        for shard in range(1, 17)
    }
    changes = []
    for shard, (one, two, three, four, five) in keys.items():
        changes += [
            change("replace", one, kind=2, dict={"s": str(shard)}),
            change("merge", two, dict={"s": str(shard)}, remove=["n"]),
            change("increment", three, attribute="n", amount=str(shard)),
            change("delete", four),
            change("merge", five, {"kind": 2}, dict={"s": "x"}),
        ]
    done = run_many(tool, changes)
    assert [each.status for each in done] == 16 * (4 * ["HV_OK"] + ["HV_CHANGED"])
    for shard, (one, two, three, four, five) in keys.items():
        assert content(servers[shard > 8], keys[shard]) == {
            one: (2, {"s": str(shard)}),
            two: (1, {"s": str(shard)}),
            three: (1, {"n": str(2 + shard)}),
            five: (1, {"n": "4"}),
        }
        assert done[5 * shard - 3].dict == {"n": str(2 + shard)}
        assert done[5 * shard - 1].dict == {"n": "4"}


def test_a_thousand_are_deleted_at_once(tool, database):
    puts = [{"shard": SHARD, "kind": 1, "dict": {"n": str(n)}} for n in range(1000)]
    keys = [item["key"] for item in tool.main.put_many(puts).ok().items]
    since = len(tool.log)
    done = run_many(tool, [change("delete", key) for key in [*keys, MISSING]])
    assert [each.status for each in done] == 1000 * ["HV_OK"] + ["HV_NOT_FOUND"]
    assert content(database, keys) == {}
    assert len(tool.log[since:]) <= 8


# ---- what is sent and logged ----


def test_the_log_shows_the_parameters(make_tool, changed):
    tool = make_tool(changed[0], log=True, log_parameters="on")
    key = tool.main.put(SHARD, 7, BODY).ok().key
    version = tool.main.get_only(key, None).version
    _, xmin, block, offset = version.split("-")
    condition = {"has": {"a": "1"}, "lacks": ["c"], "kind": 7, "version": version}
    shown = ['"a"=>"1"', '"c"=>NULL', "7", f"{xmin}({block},{offset})"]
    tried = [
        (step("replace", key, 2, {"x": "y"}), [str(key), "2", '"x"=>"y"']),
        (step("merge", key, {"x": "z"}, ["q"]), [str(key), '"x"=>"z"', '"q"=>NULL']),
        (step("replace", key, 2, {"x": "y"}, condition), [str(key), "2", '"x"=>"y"', *shown]),
        (step("merge", key, {"x": "z"}, ["q"], condition),
         [str(key), '"x"=>"z"', '"q"=>NULL', *shown]),
        (step("increment", key, "n", "1.5", condition), [str(key), "n", "1.5", *shown]),
        (step("delete", key, condition), [str(key), *shown]),
        (step("increment", key, "n", "1.5"), [str(key), "n", "1.5", "", "", "65536", ""]),
        (step("get_only", key, ["n", "x"]), [str(key), '"n"=>NULL, "x"=>NULL']),
        (step("delete", key), [str(key)]),
    ]  # fmt: skip
    for command, parameters in tried:
        tool.send("main", command).reply()
        assert tool.log[-1].parameters == parameters, command


def test_without_the_option_it_shows_none(tool, key):
    for verb, fields in CHANGES.items():
        alone(tool, change(verb, key, {"kind": 99}, **fields)).gives("HV_CHANGED")
        assert not tool.log[-1].parameters
