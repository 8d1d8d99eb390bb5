"""Selections as SQL (src/entity/where.c) select what a model of them selects, whatever the names and
values of attributes, and whatever the server's settings of strings."""

import psycopg2.extras
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg2.extensions import make_dsn

from harness import spawn

QUOTED = '"we""ird \\schema"'  # hstore's schema

examples = settings(
    max_examples=300, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)

# Few, so that conditions meet entities; each with something that SQL, hstore, arrays or printf read.
NAMES = ["user", "", "'", "\\", "\\'", "a'); --", '"', "%s", "$1", "é\u2003", "{a,b}", "NULL", "x\ny"]
VALUES = [None, "", "1", "'", "\\", "\\\\'", '"', "NULL", "null", "{1}", "a,b", "%d", "é", "=>", "\t"]

names, values = st.sampled_from(NAMES), st.sampled_from(VALUES)
conditions = st.one_of(
    st.tuples(st.just("kind"), st.integers(-2, 2)),
    st.tuples(st.just("equal"), names, values),
    st.tuples(st.just("one_of"), names, st.lists(values, min_size=1, max_size=6)),
    st.tuples(st.just("has"), names, values),
    st.tuples(st.just("exists"), names),
    st.tuples(st.just("lacks"), names),
)
bodies = st.one_of(st.none(), st.dictionaries(names, values, max_size=7))
entities = st.lists(st.tuples(st.integers(-2, 2), bodies), min_size=1, max_size=40)


class Model:
    """The entities of a table, by key from 1 on: (kind, attributes or None)."""

    def __init__(self, rows):
        self.rows = rows

    def select(self, wanted, first, last):
        """The keys of the entities that meet all conditions."""
        kinds = {condition[1] for condition in wanted if condition[0] == "kind"}
        others = [condition for condition in wanted if condition[0] != "kind"]
        return [
            key
            for key, (kind, body) in enumerate(self.rows, 1)
            if first <= key <= last
            and (not kinds or kind in kinds)
            and all(self._holds(condition, body or {}) for condition in others)
        ]

    @staticmethod
    def _holds(condition, body):
        what, name, *rest = condition
        if what == "lacks":
            return name not in body
        if name not in body or what == "exists":
            return name in body
        return body[name] in (rest[0] if what == "one_of" else rest)


def contradicts(wanted):
    """Can no entity, whatever its attributes, meet the conditions on one of the names?"""
    for name in {condition[1] for condition in wanted if condition[0] != "kind"}:
        of_name = [c for c in wanted if c[0] != "kind" and c[1] == name]
        bodies = [{}] + [{name: value} for value in [*VALUES, "another"]]
        if not any(all(Model._holds(c, body) for c in of_name) for body in bodies):
            return True
    return False


def word(value):
    return "-" if value is None else "x" + value.encode().hex()


def words(condition):
    what, name, *rest = condition
    if what == "kind":
        return f"kind {name}"
    given_values = rest[0] if what == "one_of" else rest
    return " ".join([what, word(name), *map(word, given_values)])


class Tool:
    """A running tests/unit/where_tool."""

    def __init__(self, process):
        self.process = process

    def select(self, wanted, first, last):
        lines = [words(condition) for condition in wanted] + [f"run {first} {last}", ""]
        self.process.stdin.write("\n".join(lines).encode())
        self.process.stdin.flush()
        answer = self.process.stdout.readline().decode()
        assert answer.endswith("\n"), f"the tool ended: {self.process.communicate()}"
        return answer.rstrip("\n") if answer[0] == "!" else [int(key) for key in answer.split()]


@pytest.fixture(scope="module")
def database(shared_servers):
    made = shared_servers[0].create_database()
    made.sql(f"CREATE SCHEMA {QUOTED}")
    made.sql(f"CREATE EXTENSION hstore SCHEMA {QUOTED}")
    made.sql(f"CREATE TABLE things (id bigint PRIMARY KEY, type smallint, body {QUOTED}.hstore)")
    yield made
    made.drop()


@pytest.fixture(scope="module", params=["on", "off"])
def tool(request, database):
    options = f"-c standard_conforming_strings={request.param} -c backslash_quote={request.param}"
    conninfo = make_dsn(**database.params(client_encoding="UTF8", options=options))
    with spawn("tests/unit/where_tool", conninfo, "public.things", QUOTED, stderr=None) as process:
        yield Tool(process)
        process.stdin.close()
        assert process.wait() == 0


@examples
@given(entities, st.data())
def test_a_selection_selects_what_it_means(database, tool, rows, data):
    with database.connect() as connection, connection.cursor() as cursor:
        cursor.execute("TRUNCATE things")
        psycopg2.extras.execute_values(
            cursor,
            f"INSERT INTO things SELECT id, kind, CASE WHEN k IS NOT NULL THEN {QUOTED}.hstore(k, v)"
            " END FROM (VALUES %s) AS t(id, kind, k, v)",
            [
                (key, kind, None, None)
                if body is None
                else (key, kind, list(body.keys()), list(body.values()))
                for key, (kind, body) in enumerate(rows, 1)
            ],
            template="(%s::bigint, %s::smallint, %s::text[], %s::text[])",
        )
        connection.commit()
        model = Model(rows)
        for wanted in data.draw(st.lists(st.lists(conditions, max_size=4), max_size=10)):
            first = data.draw(st.integers(1, len(rows)))
            last = data.draw(st.sampled_from([len(rows), first, 2**63 - 1]))
            selected = tool.select(wanted, first, last)
            if contradicts(wanted):
                assert selected.startswith("! the selection contradicts itself")
            else:
                assert selected == model.select(wanted, first, last)
