"""A store across fork() and at the end of the interpreter, whatever is running."""

import pytest

from harness import eventually, python
from harness.marks import forks_beside_busy_threads
from harness.python import connections, databases  # noqa: F401

python.provide()


def run(code, connections, **how):
    """Run it; it must end well and without complaints."""
    result = python.run(code, connections, **how)
    assert (result.code, result.err) == (0, ""), str(result)
    return result.lines


# ---- fork ----


def test_a_child_makes_its_own_connections_and_the_parents_stay_usable(connections):
    lines = run(
        """
        db = Datastore(connections)
        key = db.put(3, 1, who="parent")
        with db.cursor(3) as cursor:
            parents = cursor.connection.info.backend_pid

        child = os.fork()
        if child == 0:
            assert db.pool_stats()["open"] == 0
            assert db.get(key)["body"] == {"who": "parent"}
            with db.cursor(3) as cursor:
                assert cursor.connection.info.backend_pid != parents
            assert len(db.put_many([(3, 1, {}), (12, 1, {})])) == 2
            say("child is well")
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        with db.cursor(3) as cursor:
            assert cursor.connection.info.backend_pid == parents
            cursor.execute("SELECT 1")
        assert db.get(key)["body"] == {"who": "parent"}
        assert db.pool_stats(db.servers[0])["opened"] == 1
        db.close()
        say("parent is well")
        """,
        connections,
    )
    assert lines == ["child is well", "parent is well"]


def test_a_child_that_ends_as_usual_leaves_its_parents_connections_alone(connections):
    lines = run(
        """
        db = Datastore(connections)
        db.put(3, 1)
        lent = db.get_connection(12)
        with lent.cursor() as cursor:
            cursor.execute("BEGIN")
        child = os.fork()
        if child == 0:
            db.put(3, 1)
            sys.exit()  # with an open store and an inherited loan
        assert os.waitpid(child, 0)[1] == 0
        with lent.cursor() as cursor:
            cursor.execute("SAVEPOINT still_in_the_transaction")
            cursor.execute("ROLLBACK")
        db.put_connection(lent)
        for shard in (3, 12):
            db.put(shard, 1)
        db.close()
        say("well")
        """,
        connections,
    )
    assert lines == ["well"]


def test_a_child_gives_back_what_its_parent_borrowed_and_nobody_notices(connections):
    lines = run(
        """
        db = Datastore(connections, pool_max=1)
        lent = db.get_connection(3)
        pid = lent.info.backend_pid
        child = os.fork()
        if child == 0:
            db.put_connection(lent)
            with db.cursor(3) as cursor:
                assert cursor.connection.info.backend_pid != pid
            db.put(3, 1)
            db.close()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        with lent.cursor() as cursor:
            cursor.execute("SELECT 1")
        db.put_connection(lent)
        with db.cursor(3) as cursor:
            assert cursor.connection.info.backend_pid == pid
        db.close()
        say("well")
        """,
        connections,
    )
    assert lines == ["well"]


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_the_workers_of_a_process_pool_share_a_store(connections, method, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        python.PRELUDE
        + """
import multiprocessing

db = Datastore(connections, pool_max=2)

def store(number):
    return db.put(number % 16 + 1, 1, n=number)

if __name__ == "__main__":
    db.put(3, 1)
    with multiprocessing.get_context(sys.argv[1]).Pool(3) as pool:
        keys = pool.map(store, range(100))
    assert [row["body"]["n"] for row in db.get_many(keys)] == [str(n) for n in range(100)]
    db.close()
    say("well")
"""
    )
    result = python.run_file(script, method, connections=connections)
    assert (result.code, result.err, result.out) == (0, "", "well\n"), str(result)


@forks_beside_busy_threads
@pytest.mark.races
def test_a_fork_while_other_threads_are_at_work(connections):
    lines = run(
        """
        db = Datastore(connections, pool_max=4)
        ending = threading.Event()

        def work(shard):
            while not ending.is_set():
                assert db.get(db.put(shard, 1, a="b"))["body"] == {"a": "b"}

        threads = [threading.Thread(target=work, args=(shard,)) for shard in range(1, 9)]
        for thread in threads:
            thread.start()
        wait_for(lambda: db.pool_stats()["open"] >= 2)
        try:
            for _ in range(20):
                child = os.fork()
                if child == 0:
                    faulthandler.dump_traceback_later(100, exit=True)
                    db.put(3, 1)
                    assert len(db.put_many([(3, 1, {}), (12, 1, {})])) == 2
                    os._exit(0)
                assert os.waitpid(child, 0)[1] == 0
        finally:
            ending.set()
            for thread in threads:
                thread.join()
        db.close()
        say("well")
        """,
        connections,
    )
    assert lines == ["well"]


def test_a_child_closes_its_store_though_another_thread_of_the_parent_was_in_it(connections):
    lines = run(
        """
        db = Datastore(connections, pool_max=1, pool_block_timeout=60)
        lent = db.get_connection(3)
        thread = threading.Thread(target=db.put, args=(3, 1))
        thread.start()
        wait_for(lambda: db.pool_stats()["waiting"] == 1)
        child = os.fork()
        if child == 0:
            db.put(3, 1)
            db.close()
            say("child is well")
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        db.put_connection(lent)
        thread.join()
        db.close()
        say("parent is well")
        """,
        connections,
    )
    assert lines == ["child is well", "parent is well"]


@pytest.mark.parametrize("first", ["", "db.close()", "del db"])
def test_a_child_drops_its_parents_scan_and_load_and_nobody_notices(connections, first):
    lines = run(
        f"""
        db = Datastore(connections)
        db.put_many([(12, 1, {{"text": "x" * 1000}})] * 5000)
        scan = db.scan(12, kinds=[1])
        next(scan)
        load = db.load(db.servers[0], "{first}!")
        load.add(3, 1, {{}})
        load.send()
        child = os.fork()
        if child == 0:
            {first}
            for act in (
                lambda: next(scan),
                lambda: load.add(3, 1, {{}}),
                lambda: load.send(),
                lambda: load.commit(1),
            ):
                try:
                    act()
                except DatastoreError as error:
                    assert "another process" in error.message
                else:
                    say("it goes on in the child")
            scan.close()
            load.close()
            if "db" in globals() and not db.closed:
                lent = db.get_connection(3)
                try:
                    db.close(timeout=0)
                except PoolError:
                    say("child is well")
            else:
                say("child is well")
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        load.commit(1)
        load.close()
        assert sum(1 for row in scan) >= 4999
        db.close()
        say("parent is well")
        """,
        connections,
    )
    assert lines == ["child is well", "parent is well"]


# ---- the end ----


@pytest.mark.parametrize(
    "before",
    [
        "",
        "lent = db.get_connection(3)",
        "lent = db.get_connection(3); lent.cursor().execute('BEGIN')",
        "cursor = db.cursor(3); cursor.__enter__()",
        "scan = db.scan(3); next(scan, None)",
        "rows = db.find(); next(rows, None)",
        "feed = db.feed(follow=True); feed.poll(0.1)",
        "threading.Thread(target=list, args=(db.feed(follow=True),), daemon=True).start()",
        "stream = db.put_stream((3, 1, {}) for _ in range(5000)); next(stream)",
        "lent = db.get_connection(3); sys.modules['keep'] = (db, lent)",
        "import atexit; atexit.register(db.close)",
        "import atexit; atexit.register(db.put, 3, 1)",
        "del db",
        "threading.Thread(target=sys.exit).start()",
        "threading.Thread(target=lambda: (db.put(3, 1), sys.exit(5))).start()",
    ],
)
def test_the_interpreter_ends_with_an_open_store(databases, connections, before):
    code = f"""
        db = Datastore(connections)
        db.put(3, 1)
        {before}
        say("ending")
        """
    result = python.run(code, connections)
    assert (result.code, result.lines) == (0, ["ending"]), str(result)
    assert "Error" not in result.err and "Fatal" not in result.err, str(result)
    eventually(lambda: not databases[0].clients())


ENDLESS = {
    "put": "db.put(3, 1, a='b')",
    "get": "db.get(key)",
    "cursor": "with db.cursor(3) as cursor: cursor.execute('SELECT 1')",
    "put_many": "db.put_many((n % 16 + 1, 1, {}) for n in range(500))",
    "borrow": "db.put_connection(db.get_connection(3))",
    "new connections": "db.put(3, 1); db.disconnect()",
}


@pytest.mark.parametrize("act", ENDLESS.values(), ids=ENDLESS.keys())
@pytest.mark.parametrize("logger", ["None", "logging.getLogger('x')"], ids=["", "logged"])
def test_the_interpreter_ends_while_daemon_threads_are_at_work(connections, act, logger):
    result = python.run(
        f"""
        quiet_threads()
        db = Datastore(connections, pool_max=2, logger={logger})
        key = db.put(3, 1)

        def work():
            while True:
                {act}

        for _ in range(6):
            threading.Thread(target=work, daemon=True).start()
        wait_for(lambda: db.pool_stats()["loans"] > 50)
        faulthandler.dump_traceback_later(100, exit=True)
        say("ending")
        """,
        connections,
    )
    assert (result.code, result.lines) == (0, ["ending"]), str(result)
    assert "Fatal" not in result.err and "Timeout" not in result.err, str(result)


def test_the_interpreter_ends_while_a_daemon_thread_waits_behind_a_lock(databases, connections):
    with databases[0].connect() as other:
        other.autocommit = False
        other.cursor().execute("LOCK shard0003.entities")
        result = python.run(
            """
            quiet_threads()
            db = Datastore(connections, operation_timeout=3600)
            for act in (lambda: db.put(3, 1), lambda: db.put_many([(3, 1, {})])):
                threading.Thread(target=act, daemon=True).start()
            wait_for(lambda: db.pool_stats()["lent"] == 2)
            say("ending")
            """,
            connections,
        )
    assert (result.code, result.lines) == (0, ["ending"]), str(result)


def test_the_interpreter_ends_while_a_daemon_thread_waits_for_a_connection(connections):
    result = python.run(
        """
        quiet_threads()
        db = Datastore(connections, pool_max=1, pool_block_timeout=3600)
        lent = db.get_connection(3)
        threading.Thread(target=db.get_connection, args=(3,), daemon=True).start()
        wait_for(lambda: db.pool_stats()["waiting"] == 1)
        say("ending")
        """,
        connections,
    )
    assert (result.code, result.lines) == (0, ["ending"]), str(result)


def test_an_interpreter_that_waits_for_its_threads_ends_well(connections):
    lines = run(
        """
        db = Datastore(connections)

        def work():
            for _ in range(200):
                db.put(3, 1)
            say("done")

        threading.Thread(target=work).start()
        """,
        connections,
    )
    assert lines == ["done"]
