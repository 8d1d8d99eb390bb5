"""A server whose answers are well-formed and wrong, to every statement in turn.

Each step runs a command, or a program that uses the library, through a Liar that falsifies the
answer to one of its statements in one way. In every case the program ends by itself and in time, and
everything that it reports as done is done.

All statements in all ways take long; a run takes some of each, the same ones each time.
$HV_TEST_LIES is the number for a scenario, 0 for all. `pytest -s` shows the results.
"""

import collections
import json
import os
import time

import pytest
from harness import command, hv, python, store_config
from harness.liar import ALL_WAYS, ENDINGS, FLOODS, Liar
from harness.store_tool import StoreTool, step
from harness.wait import eventually

LIES = int(os.environ.get("HV_TEST_LIES", "24"))
SHARDS = range(1, 4)
BODY = {"a": "b", "n": None}

# Lies that make a program wait until its time-out is over.
LONG = {*FLOODS, "silent", "stuck", "slow_dribble", "nonsense_length", "stuck_in_transaction"}
SHORT_MS, LONG_MS = 300, 5000
# On top of those times, for everything else that a program does, on a busy machine.
AMPLE = 20 if command.sanitizers() else 6
HANGS = 60


def choose(statements, offset, scenario):
    """The (statement, way) pairs to try: all, or enough that each way and statement occurs."""
    ways = [way for way in ALL_WAYS if scenario.has_deadlines or way not in LONG]
    all_lies = [(number, way) for way in ways for number in range(1, statements + 1)]
    count = max(1, LIES // scenario.share) if LIES > 0 else len(all_lies)
    if count >= len(all_lies):
        return all_lies
    step = next(n for n in range(len(all_lies) // count + 1, 10**6) if _coprime(n, len(all_lies)))
    return [all_lies[(offset + i * step) % len(all_lies)] for i in range(count)]


def _coprime(a, b):
    while b:
        a, b = b, a % b
    return a == 1


class Store:
    """A store behind a liar, with an entity in it; and the configuration that goes past the liar.
    """

    def __init__(self, database, liar, folder, keys):
        self.database, self.liar, self.folder = database, liar, folder
        self.keys = keys
        self.direct = self._config("direct", database, LONG_MS)
        self.init(self.direct).ok()
        self.key = int(hv("put", 2, 7, "a=b", "--null", "n", config=self.direct).ok().out)

    def _config(self, name, where, timeout, **more):
        return store_config(
            self.folder / f"{name}.conf",
            {"one": (where, f"{SHARDS.start}-{SHARDS.stop}")},
            operation_timeout=f"{timeout}ms",
            pool_block_timeout=f"{timeout}ms",
            **more,
        )

    def config(self, way, **more):
        timeout = SHORT_MS if way in LONG else LONG_MS
        return self._config("lied", self.liar.params(), timeout, **more)

    def init(self, config):
        return hv("init", f"--keys={self.keys}", config=config)

    def unmake(self):
        schemas = ", ".join(f"shard{shard:04}" for shard in SHARDS)
        self.database.sql("DROP EXTENSION IF EXISTS hypervault CASCADE")
        self.database.sql(f"DROP SCHEMA IF EXISTS {schemas}, hypervault CASCADE")

    def clear(self):
        for shard in SHARDS:
            self.database.sql(f"DELETE FROM shard{shard:04}.entities WHERE id <> {self.key}")

    def stored(self, key):
        """Is BODY there?"""
        key = int(key)
        found = self.database.query(
            f"SELECT body = 'a=>b, n=>NULL' FROM shard{key >> 10 & 8191:04}.entities"
            f" WHERE id = {key}"
        )
        return found == [(True,)]

    def count(self):
        tables = " + ".join(f"(SELECT count(*) FROM shard{s:04}.entities)" for s in SHARDS)
        return self.database.value(f"SELECT {tables}")


# ---- scenarios: the program to run, and what must be true if it reports success ----


class Command:
    """`hv` with these arguments."""

    options = {}
    share = 1  # of the lies, one in so many
    most = 1000  # of the statements, the first
    has_deadlines = True  # those of the configuration

    def prepare(self, store):
        pass

    def arguments(self, store):
        raise NotImplementedError

    def check(self, store, result):
        """It has ended with 0."""

    def run(self, store, config):
        return hv(*self.arguments(store), config=config, timeout=HANGS)

    def judge(self, store, result):
        assert result.code in (0, 1, 3), result
        if result.code == 0:
            self.check(store, result)
            return "ok"
        assert result.err or result.out, result
        said = result.err.splitlines()
        return said[0] if said and said[0].startswith("hv: ") else f"ended with {result.code}"


class Put(Command):
    def arguments(self, store):
        return "put", 2, 7, "a=b", "--null", "n"

    def check(self, store, result):
        assert store.stored(result.out.strip())


class PutOnce(Put):
    options = {"exactly_once": "on"}


class PutKey(Put):
    def arguments(self, store):
        self.key = int(hv("reserve", 2, config=store.direct).ok().out)
        return "put", "--key", self.key, 7, "a=b", "--null", "n"

    def check(self, store, result):
        assert store.stored(self.key)


class Get(Command):
    def arguments(self, store):
        return "get", store.key, "--json"

    def check(self, store, result):
        assert result.json()["body"] == BODY
        assert result.json()["kind"] == 7


class GetMany(Get):
    def arguments(self, store):
        return "get", store.key, store.key, "--json"

    def check(self, store, result):
        assert [found["body"] for found in result.ndjson()] == [BODY] * 2


class Reserve(Command):
    def arguments(self, store):
        return "reserve", 2, 5

    def check(self, store, result):
        keys = {int(line) for line in result.lines}
        assert len(keys) == 5
        assert all(key >> 10 & 8191 == 2 and key > 0 for key in keys)


class Init(Command):
    def arguments(self, store):
        return "init", f"--keys={store.keys}"

    def check(self, store, result):
        hv("status", config=store.direct).ok()


class InitNew(Init):
    def prepare(self, store):
        store.unmake()

    def judge(self, store, result):
        said = super().judge(store, result)
        if result.code != 0:
            store.init(store.direct).ok()  # it has left nothing in the way
        return said


class Status(Command):
    def arguments(self, store):
        return ("status",)


class StatusJson(Command):
    def arguments(self, store):
        return "status", "--json"

    def check(self, store, result):
        assert all(line for line in result.ndjson())


class Import(Command):
    rows = 40

    def prepare(self, store):
        store.clear()
        path = store.folder / "rows.ndjson"
        path.write_text("".join(f'{{"a": "{i}"}}\n' for i in range(self.rows)))
        rejects = store.folder / "rejects"
        rejects.unlink(missing_ok=True)
        self.files = path, rejects

    def arguments(self, store):
        path, rejects = self.files
        return ("import", path, "--kind", 1, "--again", "--jobs", 1, "--retry-for", "0s") + (
            "--rejects",
            rejects,
        )

    def check(self, store, result):
        assert store.count() == 1 + self.rows


class ImportExported(Import):
    def prepare(self, store):
        super().prepare(store)
        path, _ = self.files
        keys = hv("reserve", 2, self.rows, config=store.direct).ok().lines
        lines = [{"id": int(key), "shard_id": 2, "kind": 1, "body": BODY} for key in keys]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))

    def arguments(self, store):
        path, rejects = self.files
        return "import", "--exported", path, "--jobs", 1, "--retry-for", "0s", "--rejects", rejects


class Export(Command):
    def prepare(self, store):
        self.expected = hv("export", "-", "--format", "ndjson", config=store.direct).ok().out

    def arguments(self, store):
        return "export", "-", "--format", "ndjson"

    def check(self, store, result):
        assert result.out == self.expected


class Bench(Command):
    options = {"pool_max": 1}
    share = 6  # each takes a second
    most = 24

    def __init__(self, *how):
        self.how = how
        self.has_deadlines = "pool" not in how

    def arguments(self, store):
        how = ("--callers", 1, "--seconds", 1, "--warmup", 0, "--entities", 4)
        return ("bench", *self.how, *how)

    def check(self, store, result):
        assert store.count() == 1 or "may be left" in result.err


class Library(Command):
    """A program in C that uses everything in the library, one thing after the other."""

    options = {"pool_max": 1}

    def run(self, store, config):
        put = {"shard": 2, "kind": 7, "dict": BODY}
        tool = StoreTool(config, opened=False)
        try:
            main = tool.main
            replies = [tool.open(config)]
            if replies[0].status == "HV_OK":
                replies += [
                    main.put(2, 7, BODY),
                    main.get(store.key),
                    main.reserve(2, 3),
                    main.put_many([put] * 3),
                    main.get_many([store.key, store.key + 1024, store.key]),
                ]
                others = tool.threads("ann", "bob", "eve")
                begun = [other.begin.put(2, 7, BODY) for other in others]
                begun += [other.begin.get(store.key) for other in others]
                replies += [one.reply() for one in begun]
                main.queue_new()
                main.queue_add([put, {"key": store.key}, put])
                replies.append(main.queue_advance(2 * LONG_MS, True))
                main.queue_free()
            tool.finish()
            return replies
        finally:
            tool.kill()

    def judge(self, store, replies):
        names = collections.Counter()
        for reply in replies:
            for one in [reply.fields, *(reply.items or [])]:
                names[one.get("status", "HV_OK")] += 1
                if one.get("status") != "HV_OK":
                    assert one.get("message") or one.get("status") in (None, "HV_NOT_FOUND"), one
                elif one.get("key"):
                    assert store.stored(one["key"]), one
        return " ".join(sorted(names))


class Package(Command):
    """The same in Python."""

    share = 3
    code = """
        key = Key(int(sys.argv[1]))
        body = {"a": "b", "n": None}
        def attempt(what, *args):
            try:
                say(what.__name__, json.dumps(what(*args), default=repr))
            except (DatastoreError, psycopg2.Error) as error:
                say("error", type(error).__name__)
        db = Datastore.from_config(sys.argv[2])
        def put():
            return db.put(2, 7, **body).id
        def cursor():
            with db.cursor(2) as cur: # whose own statements are psycopg2's affair
                return cur.closed
        def put_many():
            return [key.id for key in db.put_many([(2, 7, body)] * 3)]
        for what in (put, cursor, put_many):
            attempt(what)
        attempt(db.get, key)
        attempt(db.get_many, [key, key])
        attempt(db.reserve, 2, 3)
        attempt(db.inspect, "one")
        db.close()
    """

    def run(self, store, config):
        return python.run(self.code, args=(store.key, config), timeout=HANGS)

    def judge(self, store, result):
        assert result.code == 0, result
        names = set()
        for line in result.lines:
            what, _, value = line.partition(" ")
            if what in ("put", "put_many"):
                keys = json.loads(value)
                assert all(map(store.stored, keys if what == "put_many" else [keys])), result
            names.add(f"{what} {value}" if what == "error" else "ok")
        return ", ".join(sorted(names))


class Once(Library):
    options = {"pool_max": 1, "exactly_once": "on"}


class Transactions(Library):
    """Of a transaction all is stored, or nothing, whatever is reported; all after success."""

    options = {"pool_max": 1}

    def run(self, store, config):
        put = step("put", 2, 7, BODY)
        tool = StoreTool(config, opened=False)
        try:
            replies = [tool.open(config)]
            if replies[0].status == "HV_OK":
                replies = [tool.main.transaction(2, [put, step("get", store.key), put])]
            tool.finish()
            return replies
        finally:
            tool.kill()

    def judge(self, store, replies):
        (reply,) = replies
        assert reply.status == "HV_OK" or reply.message, reply
        results = [result for result in reply.results or () if result.get("key")]
        stored = [store.stored(result["key"]) for result in results[::2]]
        assert len(set(stored)) < 2, reply
        if reply.status == "HV_OK":
            assert stored == [True, True], reply
        return reply.status


SCENARIOS = {
    "put": Put(),
    "put_once": PutOnce(),
    "put_key": PutKey(),
    "get": Get(),
    "get_many": GetMany(),
    "reserve": Reserve(),
    "init": Init(),
    "init_new": InitNew(),
    "status": Status(),
    "status_json": StatusJson(),
    "import": Import(),
    "import_exported": ImportExported(),
    "export": Export(),
    "bench_mix": Bench("mix"),
    "bench_pool": Bench("mix", "--via", "pool"),
    "library": Library(),
    "library_once": Once(),
    "transactions": Transactions(),
    "package": Package(),
}


def run_lies(store, scenario, offset):
    liar = store.liar
    scenario.prepare(store)
    liar.listen()
    scenario.run(store, store.config(None, **scenario.options))
    liar.drop()
    statements = min(liar.statements, scenario.most)
    assert statements > 0
    outcomes = collections.Counter()
    for number, way in choose(statements, offset, scenario):
        scenario.prepare(store)
        config = store.config(way, **scenario.options)
        liar.lie(number, way)
        started = time.monotonic()
        what = f"answer {number} of {statements}: {way}"
        try:
            result = scenario.run(store, config)
            took = time.monotonic() - started
            lied = liar.lied
            liar.listen()
            said = scenario.judge(store, result)
        except Exception as cause:
            raise AssertionError(what) from cause
        finally:
            liar.drop()
        # Of what it says in place of the beginning of a COPY, the server knows nothing, and waits.
        limit = AMPLE + (3 * SHORT_MS if way in LONG else LONG_MS) / 1000
        assert took < limit, f"{what}: {took} s"
        outcomes[said if lied else "not reached"] += 1
    print(f"\n{sum(outcomes.values())} lies, {statements} statements")
    for said, count in outcomes.most_common():
        print(f"{count:6} {said}")


@pytest.mark.parametrize("keys", ["portable", "strict"])
@pytest.mark.parametrize("name", list(SCENARIOS))
def test_whatever_a_server_answers_a_program_ends_well(request, tmp_path, name, keys):
    if name == "package":
        python.provide()
    fixture = "server" if keys == "portable" else "extension_server"
    database = request.getfixturevalue(fixture)
    with Liar(database) as liar:
        store = Store(database, liar, tmp_path, keys)
        offset = list(SCENARIOS).index(name) * 7 + (3 if keys == "strict" else 0)
        run_lies(store, SCENARIOS[name], offset)


# ---- effects that such answers must not have ----


def tool_of(store, number, way, **options):
    """A tool that has not asked anything yet, and the liar that waits for what it will."""
    tool = StoreTool(store.config(way, pool_max=1, **options))
    # So that there is a connection, and the statement is prepared; the first try may be late.
    eventually(lambda: tool.main.get(store.key).ok())
    eventually(lambda: tool.main.put(2, 7, BODY).ok())
    store.liar.lie(number, way)
    return tool


@pytest.fixture
def lied_to(server, tmp_path):
    with Liar(server) as liar:
        yield Store(server, liar, tmp_path, "portable")


@pytest.mark.parametrize("state", ["in_transaction", "failed_transaction"])
def test_a_put_whose_transaction_is_left_open_is_not_called_stored(lied_to, state):
    """A rollback when the connection goes back would undo it."""
    tool = tool_of(lied_to, 1, state)
    try:
        tool.main.put(2, 7, BODY).gives("HV_OUTCOME_UNKNOWN")
        tool.main.get(lied_to.key).ok()
        lied_to.liar.lie(1, state)
        many = tool.main.put_many([{"shard": 2, "kind": 7, "dict": BODY}] * 2)
        assert [item["status"] for item in many.items] == ["HV_OUTCOME_UNKNOWN"] * 2
        tool.finish()
    finally:
        tool.kill()


@pytest.mark.parametrize("state", ["in_transaction", "failed_transaction"])
def test_none_of_those_that_go_apart_is_called_stored_either(lied_to, state):
    """The second of three is refused, so each goes in a transaction of its own; after the last one the
    server says that a transaction is open, and it may have been opened by any of them."""
    lied_to.database.sql("ALTER TABLE shard0002.entities ADD CHECK (NOT body @> 'bad=>1')")
    tool = tool_of(lied_to, 2, state)  # errors are not counted
    try:
        puts = [{"shard": 2, "kind": 7, "dict": body} for body in (BODY, {"bad": "1"}, BODY)]
        many = tool.main.put_many(puts)
        assert lied_to.liar.lied
        assert [item["status"] for item in many.items] == ["HV_OUTCOME_UNKNOWN"] * 3
        tool.finish()
    finally:
        tool.kill()


@pytest.mark.parametrize("way", sorted(LONG | {"copy_in", "copy_out", "copy_both"}))
def test_no_call_outlives_its_time(lied_to, way):
    """Whatever comes instead of an answer, and if it is a stream that never ends."""
    calls = {
        "put": (2, 7, BODY),
        "get": (lied_to.key,),
        "reserve": (2, 3),
        "put_many": ([{"shard": 2, "kind": 7, "dict": BODY}] * 2,),
        "get_many": ([lied_to.key] * 2,),
    }
    for call, arguments in calls.items():
        tool = tool_of(lied_to, 1, way)
        try:
            reply = getattr(tool.main, call)(*arguments)
            assert lied_to.liar.lied
            statuses = {item["status"] for item in reply.items or [reply.fields]}
            good = {"HV_TIMEOUT", "HV_OUTCOME_UNKNOWN", "HV_CORRUPT", "HV_UNAVAILABLE"}
            if not call.startswith("put"):
                good.add("HV_OK")  # over another connection
            assert statuses <= good, (call, statuses)
            assert reply.ms < SHORT_MS + 500, (call, reply)
            tool.finish()
        finally:
            tool.kill()
            lied_to.liar.drop()


def test_an_operation_whose_statement_is_being_prepared_anew_can_be_late(lied_to):
    """The server has forgotten what was prepared, and falls silent when that is to be mended."""
    tool = tool_of(lied_to, 0, "stuck")
    try:
        for call, arguments in (("get", (lied_to.key,)), ("put", (2, 7, BODY))):
            tool.main.acquire(2).ok()
            tool.main.sql("DEALLOCATE ALL").ok()
            tool.main.release().ok()
            lied_to.liar.lie(1, "stuck")
            reply = getattr(tool.main, call)(*arguments).gives("HV_TIMEOUT")
            assert lied_to.liar.lied and "lost" not in reply.message, reply
            lied_to.liar.listen()
            tool.main.get(lied_to.key).ok()
            tool.main.put(2, 7, BODY).ok()
        tool.finish()
    finally:
        tool.kill()


@pytest.mark.parametrize("way", ["ready_twice", "answer_after_ready", "extra_result"])
def test_what_is_said_unasked_does_not_answer_the_next_statement(lied_to, way):
    other = int(hv("put", 2, 7, "other=1", config=lied_to.direct).ok().out)
    tool = tool_of(lied_to, 1, way)
    try:
        assert tool.main.get(lied_to.key).status in ("HV_OK", "HV_CORRUPT")
        assert tool.main.get(other).ok().dict == {"other": "1"}
        assert lied_to.stored(tool.main.put(2, 7, BODY).ok().key)
        assert tool.main.get(lied_to.key).ok().dict == BODY
        tool.finish()
    finally:
        tool.kill()
