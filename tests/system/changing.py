"""Changes of entities, in each way in which they can be made.

The tests of a module share the store `changed`: most of them need no more than entities of their own.
"""

import pytest

from harness import make_shards, store_config
from harness.store_tool import Reply, StoreTool

SHARD = 3
MISSING = 307821103844175872 & ~(8191 << 10) | SHARD << 10  # of this shard: nobody puts under it


def change(verb, key, condition=None, **fields):
    """A change as change_many and queues take it."""
    made = {"change": verb, "key": key, **fields}
    if condition is not None:
        made["condition"] = condition
    return made


def alone(tool, wanted):
    fields = {name: value for name, value in wanted.items() if name != "change"}
    return getattr(tool.main, wanted["change"])(**fields)


def _neighbour(tool, wanted):
    """The same of another entity, so that both have a statement for many."""
    shard = wanted["key"] >> 10 & 8191
    key = tool.main.put(shard, 1, {"neighbour": "yes"}).ok().key
    return {**wanted, "key": key, **({"condition": {}} if "condition" in wanted else {})}


def _first(items):
    """The first item's reply. The neighbour is changed, whatever becomes of the first."""
    first, neighbour = items
    if first["status"] in ("HV_OK", "HV_NOT_FOUND", "HV_CHANGED"):
        assert neighbour["status"] == "HV_OK", neighbour
    return Reply(first)


def with_others(tool, wanted):
    return _first(tool.main.change_many([wanted, _neighbour(tool, wanted)]).items)


def streamed(tool, wanted):
    items = tool.main.change_stream([wanted, _neighbour(tool, wanted)]).items
    return _first(sorted(items, key=lambda item: item["tag"]))


def in_a_queue(tool, wanted):
    """What is not even added has the status with which it was refused."""
    tool.main.queue_new().ok()
    added = tool.main.queue_add([wanted, _neighbour(tool, wanted)]).items
    done = {item["tag"]: item for item in tool.main.queue_advance(-1, True).items}
    tool.main.queue_free()
    assert all((added[tag]["status"] == "HV_OK") == (tag in done) for tag in (0, 1)), added
    return _first([done.get(tag, added[tag]) for tag in (0, 1)])


WAYS = (alone, with_others, streamed, in_a_queue)


def run_queue(tool, operations):
    """The replies of all of these, in their order."""
    tool.main.queue_new().ok()
    for item in tool.main.queue_add(operations).items:
        assert item["status"] == "HV_OK", item
    done = {item["tag"]: Reply(item) for item in tool.main.queue_advance(-1, True).items}
    tool.main.queue_free()
    return [done[tag] for tag in range(len(operations))]


def run_many(tool, changes):
    """The same of changes, through change_many."""
    return [Reply(item) for item in tool.main.change_many(changes).items]


def content(database, keys):
    """{key: (kind, attributes)} of those of these keys that are there."""
    found = {}
    for shard in {key >> 10 & 8191 for key in keys}:
        rows = database.query(
            f"SELECT id, type, hstore_to_json(body) FROM shard{shard:04}.entities"
            " WHERE id = ANY (%s)",
            list(keys),
        )
        found.update({key: (kind, body) for key, kind, body in rows})
    return found


@pytest.fixture(scope="module")
def changed(shared_servers, tmp_path_factory):
    """A store for a module, like `store`: its path and its two databases."""
    databases = [server.create_database() for server in shared_servers]
    servers = {"one": (databases[0], "1-9"), "two": (databases[1], "9-17")}
    path = store_config(tmp_path_factory.mktemp("changed") / "hypervault.conf", servers)
    make_shards(path, *databases)
    yield path, databases
    for database in databases:
        database.drop()


@pytest.fixture(scope="module")
def shared_tool(changed):
    """A tool with that store, for the module."""
    path, _ = changed
    tool = StoreTool(path, log=True)
    try:
        yield tool
        tool.finish()
    finally:
        tool.kill()
