"""Changes over connections that are cut at any byte and servers that go down: what may be repeated is
repeated, and no reported outcome is wrong."""

import itertools
import threading

import pytest

from changing import change, content
from harness import eventually, hv, store_config
from harness.store_tool import make_tool, step  # noqa: F401
from sweeping import Sweep, one, relayed  # noqa: F401

BODY = {"n": "0", "keep": "x"}
UNKNOWN = "HV_OUTCOME_UNKNOWN"
both = pytest.mark.parametrize("exactly_once", ["off", "on"])


class Entities:
    """An entity for each turn of a sweep, put before it on the connection that is then cut. There the
    command's statement is prepared, too, by using it once for another entity."""

    def __init__(self, ann, cursor, command):
        self.ann = ann
        self.cursor = cursor
        self.command = command
        self.other = ann.put(3, 9, BODY).ok().key

    def prepare(self):
        self.command(self.ann, self.other, f"{self.other}-1-0-1")
        self.key = self.ann.put(3, 1, BODY).ok().key
        self.version = self.ann.get_only(self.key, None).ok().version

    def left(self):
        """(kind, attributes), or None."""
        self.cursor.execute(
            "SELECT type, hstore_to_json(body) FROM shard0003.entities WHERE id = %s", [self.key]
        )
        return self.cursor.fetchone()


@pytest.fixture
def sweep(make_tool, relayed, one):
    """A function that makes a sweep of a command of the tool, which is a function of the entity's key
    and version: the sweep, and its entities."""

    def make(command, step=1, **options):
        config, between = relayed(**options)
        ann = make_tool(config).main
        entities = Entities(ann, cursor, command)
        made = Sweep(
            between,
            lambda number: command(ann, entities.key, entities.version),
            entities.prepare,
            step=step,
        )
        return made, entities

    with one.connect(application_name="test harness") as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            yield make


REPEATED = {
    "merge": (
        lambda ann, key, _: ann.merge(key, {"a": "1"}, ["keep"]),
        (1, {"n": "0", "a": "1"}),
    ),
    "replace": (lambda ann, key, _: ann.replace(key, 5, {"r": "2"}), (5, {"r": "2"})),
    "delete": (lambda ann, key, _: ann.delete(key), None),
    "merge, and the condition holds again": (
        lambda ann, key, _: ann.merge(key, {"a": "1"}, condition={"has": {"n": "0"}}),
        (1, {**BODY, "a": "1"}),
    ),
}


@both
@pytest.mark.parametrize("what", REPEATED)
def test_what_can_be_repeated_is_done_as_said_wherever_it_is_cut(sweep, what, exactly_once):
    command, after = REPEATED[what]
    step = 1 if (what, exactly_once) == ("merge", "off") else 11
    cuts, entities = sweep(command, step, exactly_once=exactly_once)
    for direction, count, _, reply in cuts:
        where = f"{direction} {count} of {cuts.lengths}: {reply}"
        assert reply.status == "HV_OK", where
        assert entities.left() == after, where


ONCE_ONLY = {
    "merge": (
        lambda ann, key, version: ann.merge(key, {"n": "1"}, condition={"version": version}),
        (1, {**BODY, "n": "1"}),
    ),
    "replace": (
        lambda ann, key, version: ann.replace(key, 2, {"r": "1"}, condition={"version": version}),
        (2, {"r": "1"}),
    ),
    "delete": (
        lambda ann, key, version: ann.delete(key, condition={"version": version}),
        None,
    ),
    "increment": (
        lambda ann, key, version: ann.increment(key, "n", "1", condition={"version": version}),
        (1, {**BODY, "n": "1"}),
    ),
    "merge, and then the condition holds no more": (
        lambda ann, key, _: ann.merge(key, {"n": "1"}, condition={"has": {"n": "0"}}),
        (1, {**BODY, "n": "1"}),
    ),
    "delete, on a kind": (lambda ann, key, _: ann.delete(key, condition={"kind": 1}), None),
}


@both
@pytest.mark.parametrize("what", ONCE_ONLY)
def test_with_a_condition_that_its_own_first_try_ends_it_is_done_once_or_unknown(
    sweep, what, exactly_once
):
    command, after = ONCE_ONLY[what]
    step = 1 if (what, exactly_once) == ("increment", "off") else 13
    cuts, entities = sweep(command, step, exactly_once=exactly_once)
    met = set()
    for direction, count, _, reply in cuts:
        where = f"{direction} {count} of {cuts.lengths}: {reply}"
        assert reply.status in ("HV_OK", UNKNOWN), where
        assert entities.left() == after, where  # done, by the first try or the second
        met.add(reply.status)
        if reply.status == UNKNOWN:
            assert reply.outcome_unknown and not reply.retriable and reply.dict is None
            assert str(entities.key) in reply.message
        if not cuts.is_sent_whole(direction, count):
            assert reply.status == "HV_OK", where
    assert met == {"HV_OK", UNKNOWN}


@both
@pytest.mark.parametrize("condition", [None, {"kind": 1}], ids=["", "on a kind"])
def test_an_increment_is_never_made_twice(sweep, condition, exactly_once):
    def command(ann, key, _):
        return ann.increment(key, "n", "1", condition=condition)

    step = 1 if (condition, exactly_once) == (None, "off") else 11
    cuts, entities = sweep(command, step, exactly_once=exactly_once)
    done, not_done = (1, {**BODY, "n": "1"}), (1, BODY)
    met_whole = False
    for direction, count, _, reply in cuts:
        where = f"{direction} {count} of {cuts.lengths}: {reply}"
        if reply.status == "HV_OK":
            assert count == cuts.lengths[direction], where  # the answer may have come before the cut
            assert reply.dict == {"n": "1"}
            met_whole = True
        else:  # a busy machine may have sent something else before it
            assert reply.status == UNKNOWN and reply.outcome_unknown, where
        if direction == "to_client":
            eventually(lambda: entities.left() == done, what=where)
        elif not cuts.is_sent_whole(direction, count):
            assert entities.left() == not_done, where
        else:
            assert entities.left() in (done, not_done), where
    for number in itertools.count(10**6):
        if met_whole:
            break
        assert number < 10**6 + 10
        entities.prepare()
        met_whole = cuts.cut("to_client", cuts.lengths["to_client"], number).status == "HV_OK"


def test_many_changes_that_are_cut_anywhere_have_each_their_own_outcome(make_tool, relayed, one):
    config, between = relayed()
    ann = make_tool(config).main
    keys = []

    def prepare():
        put()
        operation(0)  # prepares its statements
        put()

    def put():
        puts = [{"shard": 3, "kind": 1, "dict": BODY} for _ in range(6)]
        keys[:] = [item["key"] for item in ann.put_many(puts).ok().items]

    def operation(_):
        merge, replace, delete, counted, deleted_if, twice = keys
        return ann.change_many([
            change("merge", merge, dict={"a": "1"}),
            change("replace", replace, kind=2, dict={}),
            change("delete", delete),
            change("increment", counted, attribute="n", amount="1"),
            change("delete", deleted_if, {"has": {"n": "0"}}),
            change("merge", twice, dict={"a": "1"}),
            change("merge", twice, {"has": {"a": "1"}}, dict={"a": "2"}),
        ])  # fmt: skip

    cuts = Sweep(between, operation, prepare, step=29)
    for direction, count, _, reply in cuts:
        where = f"{direction} {count} of {cuts.lengths}: {reply}"
        statuses = [item["status"] for item in reply.items]
        there = content(one, keys)
        merge, replace, delete, counted, deleted_if, twice = keys
        assert statuses[:3] == 3 * ["HV_OK"], where
        assert there[merge] == (1, {**BODY, "a": "1"}), where
        assert there[replace] == (2, {}) and delete not in there, where
        assert statuses[3] in ("HV_OK", UNKNOWN)
        assert there[counted][1]["n"] in ("0", "1") if statuses[3] == UNKNOWN else ("1",), where
        assert statuses[4] in ("HV_OK", UNKNOWN) and deleted_if not in there, where
        # Two of one entity are not repeated: the second may have been made, too.
        assert set(statuses[5:]) in ({"HV_OK"}, {UNKNOWN}), where
        made = (1, {**BODY, "a": "2"})
        assert there[twice] == made or (statuses[5] == UNKNOWN and there[twice] == (1, BODY)), where


def test_of_attributes_that_are_not_merged_nothing_is_sent(make_tool, relayed):
    config, between = relayed()
    ann = make_tool(config).main
    large = {f"attribute {n}": chr(97 + n % 26) * 1000 for n in range(50)}
    key = ann.put(3, 1, large).ok().key
    merged = {"attribute 7": "new", "attribute 8": None}
    for condition in (None, {"has": {"attribute 9": large["attribute 9"][:10]}}, {"kind": 1}):
        for turn in range(3):
            before = dict(between.bytes)
            reply = ann.merge(key, merged, condition=condition)
            sent = between.bytes["to_server"] - before["to_server"]
            got = between.bytes["to_client"] - before["to_client"]
            if condition and "has" in condition:
                reply.gives("HV_CHANGED")
                continue
            reply.ok()
            if turn > 0:  # prepared
                assert sent < 300 and got < 300, (sent, got)
    assert ann.get(key).ok().dict == {**large, **merged}
    before = dict(between.bytes)
    ann.get_only(key, ["attribute 7"]).ok()
    ann.get_only(key, ["attribute 7"]).ok()
    assert between.bytes["to_client"] - before["to_client"] < 1000


# ---- servers that go down ----


@pytest.mark.threads
@pytest.mark.parametrize("end", ["fast", "immediate", "kill9"])
def test_exactly_once_every_merge_is_made_while_the_server_restarts(
    make_tool, one, tmp_path, end
):
    config = store_config(
        tmp_path / "c", {"one": (one, "1-4")}, exactly_once="on", operation_timeout="60s"
    )
    hv("init", config=config).ok()
    tool = make_tool(config, pool_max=8)
    keys = [tool.main.put(1 + n % 3, 1, {"v": "0"}).ok().key for n in range(8)]
    ending = threading.Event()
    turns = [0] * len(keys)
    wrong = []

    def work(number, thread):
        key = keys[number]
        while not ending.is_set() and not wrong:
            turn = turns[number] + 1
            reply = thread.merge(key, {"v": str(turn)})
            if reply.status != "HV_OK":
                wrong.append(reply)
            turns[number] = turn

    threads = [
        threading.Thread(target=work, args=(number, thread))
        for number, thread in enumerate(tool.threads(*(f"t{n}" for n in range(len(keys)))))
    ]
    for thread in threads:
        thread.start()
    try:
        for _ in range(3):
            goal = sum(turns) + 50
            eventually(lambda: sum(turns) >= goal or wrong, timeout=60)
            if end == "kill9":
                one.server.kill9()
            else:
                one.server.stop(end)
            one.server.start(wait=False)
        goal = sum(turns) + 50
        eventually(lambda: sum(turns) >= goal or wrong, timeout=60)
    finally:
        ending.set()
        for thread in threads:
            thread.join()
    assert not wrong
    left = content(one, keys)
    assert [left[key][1]["v"] for key in keys] == [str(turn) for turn in turns]
