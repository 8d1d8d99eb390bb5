"""The examples of docs/python.md do what the page says."""

import doctest
import re
import textwrap

from harness import python, source_dir
from harness.python import connections, databases  # noqa: F401

python.provide()

PAGE = source_dir() / "docs" / "python.md"
OPERATIONS = source_dir() / "docs" / "operations.md"
FENCED = re.compile(r"^( *)```python\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def blocks():
    """The page's blocks of Python, and the line at which each begins."""
    text = PAGE.read_text("utf-8")
    for found in FENCED.finditer(text):
        yield text.count("\n", 0, found.start(2)), textwrap.dedent(found.group(2))


def test_the_examples_of_the_page_do_what_it_says(connections):  # noqa: F811
    names = ("one", "two")
    seen = {"connections": [{"name": n, **each} for n, each in zip(names, connections)]}
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    report = []
    for line, text in blocks():
        if ">>>" not in text:  # the servers, which are others here
            parts = text.split("\nconnections = ")
            exec(compile(parts[0], str(PAGE), "exec"), seen)
            continue
        test = doctest.DocTestParser().get_doctest(text, seen, PAGE.name, str(PAGE), line)
        runner.run(test, out=report.append, clear_globs=False)
        seen = test.globs
    seen["db"].close()
    assert runner.tries > 40
    assert runner.failures == 0, "".join(report)


def test_what_the_pools_count_is_explained_in_one_place(connections):  # noqa: F811
    from hv.datastore import Datastore

    text = OPERATIONS.read_text("utf-8")
    (table,) = re.findall(r"^\| number \| \|\n\|---\|---\|\n((?:\|.*\n)+)", text, re.MULTILINE)
    explained = re.findall(r"^\| `(\w+)` \| \S", table, re.MULTILINE)
    with Datastore(connections) as db:
        assert explained == list(db.pool_stats())


def test_the_page_describes_all_that_a_datastore_has():
    import inspect

    from hv.datastore import Datastore

    text = PAGE.read_text("utf-8")
    public = [name for name in dir(Datastore) if not name.startswith("_")]
    missing = [name for name in public if not re.search(rf"\b{name}\b", text)]
    assert missing == []
    for name in inspect.signature(Datastore).parameters:
        assert name == "options" or re.search(rf"\b{name}\b", text), name
